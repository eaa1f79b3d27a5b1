// Gives back the memory that only the start of a program needed.
#pragma once

namespace muster {

// Unmaps from this process every page of code and constants, of the program and its libraries.
// They stay in the page cache: what is used again comes back with a minor fault. What the loader
// relocated, data and heap are not touched. Any thread may call, at any time; costs well under a
// millisecond of CPU and some thousand faults afterwards, so call it when the start is over, and
// seldom.
void ReleaseStartPages();

}  // namespace muster
