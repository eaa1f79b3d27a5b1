// What every command has: flags, the context, a channel to the control plane, and ways to print.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ctl/render/json.h"
#include "ctl/render/table.h"
#include "lib/base/clock.h"
#include "lib/net/context.h"
#include "lib/net/status.h"

namespace muster::ctl {

struct Flags {
  std::string context;
  std::string server;
  std::string timeout = "10s";
  std::string output = "table";
  bool no_input = false;
};

class Session {
 public:
  explicit Session(Flags flags) : flags_(std::move(flags)) {}

  // Reads the context and the flags. InvalidArgument names what is missing.
  Status Open();

  // Calls on each server in turn until one can be reached. `call` gets a stub's channel and a
  // context with the deadline of --timeout.
  using Call =
      std::function<grpc::Status(const std::shared_ptr<grpc::Channel>&, grpc::ClientContext&)>;
  Status Try(const Call& call);
  // Without a deadline, for streams.
  Status TryStream(const Call& call, grpc::ClientContext** running = nullptr);

  bool json() const { return flags_.output == "json"; }
  // For programs rather than people.
  bool structured() const { return json() || flags_.output == "yaml"; }
  bool wide() const { return flags_.output == "wide"; }
  const Flags& flags() const { return flags_; }
  const net::Context& context() const { return context_; }
  absl::Time now() const { return SystemClock().Now(); }
  absl::Duration timeout() const { return timeout_; }

  // A list in the form that -o asks for: {"items": […]} for json and yaml, names alone, or the
  // kind's table.
  void PrintList(const Json& items, std::string_view kind) const;
  void PrintOne(const Json& item) const;
  // One of a kind: an object for json and yaml, otherwise as a list of one.
  void PrintItem(const Json& item, std::string_view kind) const;
  // What the terminal may be told of a table.
  TableStyle style() const;
  // Asks on a terminal; refuses off one without --yes.
  Status Confirm(const std::string& question, bool yes) const;

 private:
  Status On(const std::string& server, const Call& call, bool deadline);

  Flags flags_;
  net::Context context_;
  absl::Duration timeout_ = absl::Seconds(10);
};

bool StdoutIsTerminal();
bool StderrIsTerminal();
// On a terminal and without NO_COLOR.
bool StdoutHasColour();

}  // namespace muster::ctl
