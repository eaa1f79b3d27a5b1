#include "tests/bench/lib/cluster.h"

#include <filesystem>

#include "control-plane/pki/cluster_key.h"
#include "lib/base/clock.h"
#include "tests/bench/lib/enrol.h"
#include "tests/bench/lib/must.h"

namespace muster::bench {
namespace {

constexpr absl::Duration kShutdownWithin = absl::Seconds(2);

// What an operator would give a server of this size; commits reach the disk.
std::unique_ptr<testing::PostgresServer> StartPostgres() {
  return std::make_unique<testing::PostgresServer>(std::vector<std::string>{
      "fsync = on", "shared_buffers = 512MB", "max_wal_size = 4GB", "wal_compression = lz4"});
}

}  // namespace

Cluster::Cluster(Backend backend)
    : postgres_(backend == Backend::kPostgres ? StartPostgres() : nullptr) {
  const Clock& clock = SystemClock();
  const std::string key_path = File("cluster.key");
  Must(control::MakeClusterKey(key_path), "make a cluster key");
  const Secret key = Must(control::LoadClusterKey(key_path), "load the cluster key");
  store_ = Must(control::Store::Open(StoreUrl()), "open the store");
  authority_ =
      Must(control::Authority::Create(store_->identity(), key, clock), "make the authority");
  auto certificate = Must(authority_->IssueServer("r-bench"), "issue the server's certificate");
  own_ = Must(net::CurrentIdentity::Make(
                  {authority_->RootsPem(), certificate.chain_pem, certificate.key_pem}),
              "use the server's certificate");
}

Cluster::~Cluster() { StopServing(); }

net::ClientIdentity Cluster::AddAgent(const std::string& name) {
  return Must(EnrolAgent(*store_, *authority_, name, {}), "let an agent join");
}

void Cluster::Serve(grpc::Service& service) {
  listener_ = Must(net::GuardedListener::Bind({.address = "127.0.0.1:0"}), "listen");
  grpc::ServerBuilder builder;
  net::SetServerArguments(builder);
  listener_->AttachTo(builder, net::MutualTls(own_));
  builder.RegisterService(&service);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) Fail("the gRPC server does not start");
  listener_->Start();
}

void Cluster::StopServing() {
  if (server_ == nullptr) return;
  listener_->Stop();
  server_->Shutdown(absl::ToChronoTime(SystemClock().Now() + kShutdownWithin));
  server_.reset();
}

std::string Cluster::address() const { return fmt::format("127.0.0.1:{}", listener_->port()); }

std::string Cluster::StoreUrl() const {
  if (postgres_ == nullptr) return "sqlite:" + File("muster.db");
  return fmt::format("postgresql://postgres@127.0.0.1:{}/postgres", postgres_->port());
}

uint64_t Cluster::CloseStore() {
  authority_.reset();
  store_.reset();
  if (postgres_ == nullptr) return DatabaseBytes(File("muster.db"));
  const std::string bytes = postgres_->Sql("SELECT pg_database_size(current_database())");
  return std::strtoull(bytes.c_str(), nullptr, 10);
}

uint64_t DatabaseBytes(const std::string& path) {
  uint64_t bytes = 0;
  for (const char* suffix : {"", "-wal"}) {
    std::error_code missing;
    const uintmax_t size = std::filesystem::file_size(path + suffix, missing);
    if (!missing) bytes += size;
  }
  return bytes;
}

}  // namespace muster::bench
