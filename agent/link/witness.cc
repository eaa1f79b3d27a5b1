#include "agent/link/witness.h"

#include <cstdio>

#include "lib/base/file.h"
#include "lib/base/log.h"
#include "lib/net/tls.h"
#include "lib/wire/checkpoint.h"

namespace muster::agent {
namespace {

StatusOr<v1::Checkpoint> Read(const std::string& path) {
  MUSTER_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  v1::Checkpoint checkpoint;
  if (!checkpoint.ParseFromString(bytes)) return DataLoss("{} cannot be read", path);
  return checkpoint;
}

}  // namespace

Witness::Witness(std::string path, const std::string& roots_pem) : path_(std::move(path)) {
  const StatusOr<std::vector<std::string>> roots = net::PemToDer(roots_pem);
  if (roots.ok() && !roots->empty()) authority_der_ = roots->front();
  if (!FileExists(path_)) return;
  StatusOr<v1::Checkpoint> read = Read(path_);
  const Status good = read.ok() ? Check(*read) : read.status();
  if (good.ok()) {
    held_ = *std::move(read);
    return;
  }
  LogWarning("the checkpoint on the disk is set aside",
             {{"file", path_ + ".aside"}, {"reason", good}});
  std::rename(path_.c_str(), (path_ + ".aside").c_str());
}

Status Witness::Check(const v1::Checkpoint& checkpoint) const {
  return Annotate(net::VerifySignature(authority_der_, wire::CheckpointText(checkpoint),
                                       checkpoint.signature()),
                  fmt::format("checkpoint of audit entry {}", checkpoint.sequence()));
}

Status Witness::Take(const v1::Checkpoint& checkpoint) {
  MUSTER_RETURN_IF_ERROR(Check(checkpoint));
  if (held_ && checkpoint.sequence() == held_->sequence() && checkpoint.hash() != held_->hash()) {
    return DataLoss(
        "the control plane signed two audit entries {}: its chain was rewritten; {} is kept as "
        "evidence",
        checkpoint.sequence(), path_);
  }
  if (held_ && checkpoint.sequence() <= held_->sequence()) return OkStatus();
  MUSTER_RETURN_IF_ERROR(WriteFileAtomically(path_, checkpoint.SerializeAsString()));
  held_ = checkpoint;
  return OkStatus();
}

}  // namespace muster::agent
