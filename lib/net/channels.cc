#include "lib/net/channels.h"

#include <grpcpp/grpcpp.h>

#include <utility>

namespace muster::net {
namespace {

// Servers come and go by other names; whoever has so many has none that is used.
constexpr size_t kMostKept = 8;

}  // namespace

Channels::Channels(Opener open) : open_(std::move(open)) {
  if (open_) return;
  open_ = [](const std::string& server, const ClientIdentity& identity) {
    return OpenChannel(server, identity);
  };
}

std::shared_ptr<grpc::Channel> Channels::To(const std::string& server,
                                            const ClientIdentity& identity) {
  if (identity != identity_) kept_.clear();
  identity_ = identity;
  const auto kept = kept_.find(server);
  if (kept != kept_.end() && kept->second->GetState(false) == GRPC_CHANNEL_IDLE) {
    return kept->second;
  }
  if (kept == kept_.end() && kept_.size() >= kMostKept) kept_.clear();
  return kept_[server] = open_(server, identity);
}

}  // namespace muster::net
