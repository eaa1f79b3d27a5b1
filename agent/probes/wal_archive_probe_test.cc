// What the probe says where there is no archive to look at. Of a server that archives see
// tests/integration/physical_backups_test.py.
#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "agent/probes/probe_fixture.h"
#include "lib/testing/servers.h"

namespace muster::agent::testing {
namespace {

using ::testing::HasSubstr;

class WalArchiveProbe : public ::testing::Test {
 protected:
  WalArchiveProbe() {
    std::filesystem::create_directory(folder_.File("repository"));
    std::ofstream(config()) << fmt::format(
        "[global]\nrepo1-path={0}/repository\nlog-level-file=off\n[main]\npg1-path={0}/data\n",
        folder_.path());
    ::chmod(folder_.path().c_str(), 0755);
  }
  std::string config() const { return folder_.File("pgbackrest.conf"); }
  ProbeResult Look(const std::string& fields) const {
    return RunSpec(fmt::format("wal_archive {{ config_file: '{}' {} }}", config(), fields),
                   OpenPolicy(folder_.path()));
  }
  muster::testing::TempFolder folder_;
};

TEST_F(WalArchiveProbe, IsCriticalWithoutAStanza) {
  const ProbeResult result = Look("stanza: 'main'");
  EXPECT_EQ(result.status, v1::CHECK_STATUS_CRITICAL) << result.detail.summary();
  EXPECT_THAT(result.detail.summary(), HasSubstr("stanza-create"));
}

TEST_F(WalArchiveProbe, IsUnknownWhereNobodyCanRunIt) {
  const ProbeResult result = Look("stanza: 'main' user: 'nobody-of-that-name'");
  EXPECT_EQ(result.status, v1::CHECK_STATUS_UNKNOWN) << result.detail.summary();
  EXPECT_THAT(result.detail.summary(), HasSubstr("set user"));
}

TEST_F(WalArchiveProbe, LooksOnlyWhereThePolicyAllows) {
  const std::string spec = "wal_archive { stanza: 'main' config_file: '/etc/pgbackrest.conf' }";
  EXPECT_TRUE(absl::IsPermissionDenied(Refusal(spec, OpenPolicy(folder_.path()))));
  EXPECT_TRUE(absl::IsInvalidArgument(
      Refusal("wal_archive { stanza: '../x' config_file: '/tmp/x' }", OpenPolicy("/tmp"))));
}

}  // namespace
}  // namespace muster::agent::testing
