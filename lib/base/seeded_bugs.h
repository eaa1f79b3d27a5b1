// Faults with names, put into a program on purpose: the proof that the checkers of tests/ see them.
// Only a source that is compiled with MUSTER_SEEDED_BUGS has them, and only tests/seeded does that,
// for a program of its own; everywhere else each is a constant false and leaves nothing behind.
#pragma once

namespace muster {

enum class SeededBug {
  kFenceOff,         // a leader's write is not refused once a newer term has begun
  kAckBeforeCommit,  // batches are acknowledged before they are stored
  kDropRecord,       // a segment of history is not written now and then; its cursor moves
  kForgetOutbox,     // an alert is stored without the rows that tell of it
};

#ifdef MUSTER_SEEDED_BUGS
// Whether the environment's MUSTER_SEEDED_BUG names it.
bool Seeded(SeededBug bug);
#else
constexpr bool Seeded(SeededBug) { return false; }
#endif

}  // namespace muster
