"""The high-availability test bed: every part of a replicated muster on one machine."""
