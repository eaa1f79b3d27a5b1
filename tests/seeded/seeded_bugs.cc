#include "lib/base/seeded_bugs.h"

#include <cstdlib>
#include <string_view>

namespace muster {
namespace {

std::string_view NameOf(SeededBug bug) {
  switch (bug) {
    case SeededBug::kFenceOff: return "fence-off";
    case SeededBug::kAckBeforeCommit: return "ack-before-commit";
    case SeededBug::kDropRecord: return "drop-record";
    case SeededBug::kForgetOutbox: return "forget-outbox";
  }
  return "";
}

}  // namespace

bool Seeded(SeededBug bug) {
  static const char* const named = std::getenv("MUSTER_SEEDED_BUG");
  return named != nullptr && named == NameOf(bug);
}

}  // namespace muster
