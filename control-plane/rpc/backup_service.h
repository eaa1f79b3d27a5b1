// BackupService: the catalogue of backups, and what operators have done with one.
#pragma once

#include <functional>

#include "control-plane/rpc/gate.h"
#include "control-plane/rpc/manual_run.h"
#include "control-plane/store/store.h"
#include "lib/base/clock.h"
#include "muster/v1/backup_service.grpc.pb.h"

namespace muster::control {

class BackupService final : public v1::BackupService::CallbackService {
 public:
  // All must outlive the gRPC server. `on_change`: there is a new run.
  BackupService(Store& store, Gate& gate, const Clock& clock, std::function<void()> on_change)
      : store_(store), gate_(gate), clock_(clock), on_change_(std::move(on_change)) {}

  grpc::ServerUnaryReactor* ListBackups(grpc::CallbackServerContext* context,
                                        const v1::ListBackupsRequest* request,
                                        v1::ListBackupsResponse* response) override;
  grpc::ServerUnaryReactor* GetBackup(grpc::CallbackServerContext* context,
                                      const v1::GetBackupRequest* request,
                                      v1::GetBackupResponse* response) override;
  grpc::ServerUnaryReactor* VerifyBackup(grpc::CallbackServerContext* context,
                                         const v1::VerifyBackupRequest* request,
                                         v1::VerifyBackupResponse* response) override;
  grpc::ServerUnaryReactor* RestoreBackup(grpc::CallbackServerContext* context,
                                          const v1::RestoreBackupRequest* request,
                                          v1::RestoreBackupResponse* response) override;
  grpc::ServerUnaryReactor* HoldBackup(grpc::CallbackServerContext* context,
                                       const v1::HoldBackupRequest* request,
                                       v1::HoldBackupResponse* response) override;
  grpc::ServerUnaryReactor* ReleaseBackup(grpc::CallbackServerContext* context,
                                          const v1::ReleaseBackupRequest* request,
                                          v1::ReleaseBackupResponse* response) override;
  grpc::ServerUnaryReactor* PlanRetention(grpc::CallbackServerContext* context,
                                          const v1::PlanRetentionRequest* request,
                                          v1::PlanRetentionResponse* response) override;
  grpc::ServerUnaryReactor* ApplyRetention(grpc::CallbackServerContext* context,
                                           const v1::ApplyRetentionRequest* request,
                                           v1::ApplyRetentionResponse* response) override;
  grpc::ServerUnaryReactor* ImportBackups(grpc::CallbackServerContext* context,
                                          const v1::ImportBackupsRequest* request,
                                          v1::ImportBackupsResponse* response) override;

 private:
  // A backup that is in its repository, and how to get at it.
  struct Reachable {
    BackupRow row;
    v1::JobSpec job;  // as it is now; empty if it is deleted
    v1::BackupTask task;
  };
  StatusOr<Reachable> Reach(const std::string& snapshot_id);
  StatusOr<v1::JobSpec> BesideOf(const Reachable& backup, const std::string& agent);
  StatusOr<v1::Run> Start(const net::Identity& caller, Asked asked, std::string detail);
  Status Verify(const net::Identity& caller, const v1::VerifyBackupRequest& request,
                v1::VerifyBackupResponse& response);
  Status Restore(const net::Identity& caller, const v1::RestoreBackupRequest& request,
                 v1::RestoreBackupResponse& response);
  StatusOr<v1::StoredBackup> Hold(const net::Identity& caller, const std::string& snapshot_id,
                                  const std::string& reason);
  Status Apply(const net::Identity& caller, const v1::ApplyRetentionRequest& request,
               v1::ApplyRetentionResponse& response);
  Status Import(const net::Identity& caller, const v1::ImportBackupsRequest& request,
                v1::ImportBackupsResponse& response);

  Store& store_;
  Gate& gate_;
  const Clock& clock_;
  const std::function<void()> on_change_;
};

}  // namespace muster::control
