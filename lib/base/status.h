// Errors of muster: absl::Status with messages made by fmt, and the two macros that pass them on.
//
// One meaning a code: InvalidArgument, the caller can fix it; NotFound; AlreadyExists;
// PermissionDenied; Unauthenticated; FailedPrecondition, the world has moved on; Aborted, do the
// whole thing again; ResourceExhausted, a limit of ours; Unavailable, later; DeadlineExceeded;
// DataLoss, stored bytes are damaged; Unknown, it may have happened; Internal, our bug.
// A message names the object and says what to do; the operator reads it.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <fmt/format.h>

namespace muster {

using absl::OkStatus;
using absl::Status;
using absl::StatusOr;

// absl's own string_view is not std::string_view in Debian's build.
inline std::string_view View(absl::string_view text) { return {text.data(), text.size()}; }
inline absl::string_view AbslView(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view Message(const Status& status) { return View(status.message()); }

template <typename... Args>
Status MakeStatus(absl::StatusCode code, fmt::format_string<Args...> format, Args&&... args) {
  return Status(code, fmt::format(format, std::forward<Args>(args)...));
}

#define MUSTER_STATUS_KIND(Name)                                                       \
  template <typename... Args>                                                          \
  [[nodiscard]] Status Name(fmt::format_string<Args...> format, Args&&... args) {      \
    return MakeStatus(absl::StatusCode::k##Name, format, std::forward<Args>(args)...); \
  }
MUSTER_STATUS_KIND(InvalidArgument)
MUSTER_STATUS_KIND(NotFound)
MUSTER_STATUS_KIND(AlreadyExists)
MUSTER_STATUS_KIND(PermissionDenied)
MUSTER_STATUS_KIND(Unauthenticated)
MUSTER_STATUS_KIND(FailedPrecondition)
MUSTER_STATUS_KIND(Aborted)
MUSTER_STATUS_KIND(ResourceExhausted)
MUSTER_STATUS_KIND(Unavailable)
MUSTER_STATUS_KIND(DeadlineExceeded)
MUSTER_STATUS_KIND(DataLoss)
MUSTER_STATUS_KIND(Unknown)
MUSTER_STATUS_KIND(Internal)
#undef MUSTER_STATUS_KIND

// The same error with what was being done said first: "read /etc/x: permission denied".
inline Status Annotate(const Status& status, std::string_view doing) {
  if (status.ok()) return status;
  return Status(status.code(), fmt::format("{}: {}", doing, Message(status)));
}

// "NOT_FOUND: no agent named db-2".
inline std::string Text(const Status& status) {
  return status.ok()
             ? "OK"
             : fmt::format("{}: {}", absl::StatusCodeToString(status.code()), Message(status));
}

}  // namespace muster

#define MUSTER_CONCAT_INNER(a, b) a##b
#define MUSTER_CONCAT(a, b) MUSTER_CONCAT_INNER(a, b)

#define MUSTER_RETURN_IF_ERROR(expr)                                                      \
  do {                                                                                    \
    if (::absl::Status muster_status = (expr); !muster_status.ok()) return muster_status; \
  } while (false)

#define MUSTER_ASSIGN_OR_RETURN(declaration, expr)       \
  auto MUSTER_CONCAT(muster_or_, __LINE__) = (expr);     \
  if (!MUSTER_CONCAT(muster_or_, __LINE__).ok())         \
    return MUSTER_CONCAT(muster_or_, __LINE__).status(); \
  declaration = std::move(MUSTER_CONCAT(muster_or_, __LINE__)).value()
