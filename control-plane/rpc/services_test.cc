// What operators and agents get from the services, over real mutual TLS: an agent's session of
// real frames, and what is read back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "control-plane/decide/leadership.h"
#include "control-plane/rpc/test_plane.h"
#include "lib/net/tls.h"
#include "lib/wire/columns.h"
#include "lib/wire/time.h"
#include "muster/v1/agent_link.grpc.pb.h"
#include "muster/v1/system_service.grpc.pb.h"

namespace muster::control {
namespace {

using grpc::StatusCode;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// An agent by hand: one stream, one frame after the other.
class HandAgent {
 public:
  HandAgent(TestPlane& plane, const std::string& name)
      : channel_(plane.Channel(plane.Identity(v1::ROLE_AGENT, name))),
        stub_(v1::AgentLink::NewStub(channel_)) {
    context_.set_deadline(absl::ToChronoTime(SystemClock().Now() + absl::Seconds(30)));
    stream_ = stub_->Session(&context_);
    v1::FromAgent hello;
    hello.mutable_hello()->set_log_epoch("epoch-1");
    hello.mutable_hello()->set_version("0.1.0");
    *hello.mutable_hello()->mutable_agent_time() = wire::ToProto(SystemClock().Now());
    stream_->Write(hello);
    v1::ToAgent answer;
    while (plan_.checks().empty() && stream_->Read(&answer)) {
      if (answer.has_plan()) plan_ = answer.plan();
    }
  }
  ~HandAgent() {
    stream_->WritesDone();
    v1::ToAgent rest;
    context_.TryCancel();
    while (stream_->Read(&rest)) continue;
    stream_->Finish();
  }

  // One result of the plan's first check; waits until it is acknowledged.
  void Tell(v1::CheckStatus status, const std::string& summary) {
    v1::Record record;
    record.set_sequence(++sequence_);
    v1::CheckResult& result = *record.mutable_result();
    result.set_check_id(plan_.checks(0).id());
    *result.mutable_observed_at() = wire::ToProto(SystemClock().Now());
    *result.mutable_latency() = wire::ToProto(absl::Milliseconds(3));
    result.set_status(status);
    result.mutable_detail()->set_summary(summary);
    Send(record, sequence_);
  }
  void TellGap(uint64_t records) {
    v1::Record record;
    v1::Gap& gap = *record.mutable_gap();
    gap.set_first(sequence_ + 1);
    gap.set_last(sequence_ += records);
    gap.set_reason(v1::Gap::REASON_SPOOL_FULL);
    *gap.mutable_from() = *gap.mutable_until() = wire::ToProto(SystemClock().Now());
    record.set_sequence(sequence_);
    Send(record, gap.first());
  }

 private:
  void Send(const v1::Record& record, uint64_t first) {
    v1::FromAgent message;
    message.mutable_records()->set_first_sequence(first);
    message.mutable_records()->set_last_sequence(sequence_);
    const auto batch = wire::EncodeBatch({record});
    ASSERT_TRUE(batch.ok()) << batch.status();
    message.mutable_records()->set_batch(batch->payload);
    ASSERT_TRUE(stream_->Write(message));
    v1::ToAgent answer;
    while (stream_->Read(&answer)) {
      if (answer.has_ack() && answer.ack().sequence() >= sequence_) return;
    }
    FAIL() << "the session ended: " << stream_->Finish().error_message();
  }

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::AgentLink::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::FromAgent, v1::ToAgent>> stream_;
  v1::Plan plan_;
  uint64_t sequence_ = 0;
};

v1::Document Check(const std::string& name, const std::string& url = "http://localhost/") {
  v1::Document document;
  document.set_api_version("muster/v1");
  document.set_kind("Check");
  document.mutable_metadata()->set_name(name);
  v1::CheckSpec& spec = *document.mutable_check();
  *spec.mutable_every() = wire::ToProto(absl::Seconds(10));
  spec.mutable_confirm()->set_failures(1);
  spec.mutable_probe()->mutable_http()->set_url(url);
  return document;
}

class Services : public ::testing::Test {
 protected:
  Services() : root_(plane_.Channel(plane_.Identity(v1::ROLE_ADMIN, "root"))) {}

  // One unary call of an admin.
  template <typename Response, typename Stub, typename Request>
  Response Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                Stub& stub, const Request& request, StatusCode expected = StatusCode::OK) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(SystemClock().Now() + absl::Seconds(10)));
    Response response;
    last_ = (stub.*method)(&context, request, &response);
    EXPECT_EQ(last_.error_code(), expected) << last_.error_message();
    return response;
  }

  v1::ApplySpecsResponse Apply(const std::vector<v1::Document>& documents, bool dry_run = false,
                               StatusCode expected = StatusCode::OK) {
    v1::ApplySpecsRequest request;
    for (const v1::Document& document : documents) *request.add_documents() = document;
    request.set_dry_run(dry_run);
    return Call(&v1::SpecService::Stub::ApplySpecs, *specs_, request, expected);
  }
  v1::ListSpecsResponse Specs() {
    return Call(&v1::SpecService::Stub::ListSpecs, *specs_, v1::ListSpecsRequest());
  }
  v1::ListStatesResponse States(const v1::ListStatesRequest& request = {},
                                StatusCode expected = StatusCode::OK) {
    return Call(&v1::StateService::Stub::ListStates, *states_, request, expected);
  }
  std::vector<v1::HistoryEntry> History(const v1::HistoryRequest& request,
                                        StatusCode expected = StatusCode::OK) {
    grpc::ClientContext context;
    const auto stream = states_->History(&context, request);
    std::vector<v1::HistoryEntry> entries;
    for (v1::HistoryEntry entry; stream->Read(&entry);) entries.push_back(entry);
    EXPECT_EQ(stream->Finish().error_code(), expected);
    return entries;
  }

  TestPlane plane_;
  std::shared_ptr<grpc::Channel> root_;
  std::unique_ptr<v1::SpecService::Stub> specs_ = v1::SpecService::NewStub(root_);
  std::unique_ptr<v1::StateService::Stub> states_ = v1::StateService::NewStub(root_);
  std::unique_ptr<v1::IdentityService::Stub> identity_ = v1::IdentityService::NewStub(root_);
  grpc::Status last_;
};

TEST_F(Services, SpecsAreAppliedTogetherOrNotAtAll) {
  v1::Document wrong = Check("wrong", "ftp://localhost");
  Apply({Check("api"), wrong}, false, StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(last_.error_message(), HasSubstr("Check/wrong"));
  EXPECT_EQ(Specs().items_size(), 0);

  EXPECT_EQ(Apply({Check("api")}, true).items(0).action(), v1::SpecChange::ACTION_CREATED);
  EXPECT_EQ(Specs().items_size(), 0);

  EXPECT_EQ(Apply({Check("api"), Check("web")}).items_size(), 2);
  EXPECT_EQ(Apply({Check("api")}).items(0).action(), v1::SpecChange::ACTION_UNCHANGED);
  const auto changed = Apply({Check("api", "http://localhost/health")});
  EXPECT_EQ(changed.items(0).action(), v1::SpecChange::ACTION_CHANGED);
  EXPECT_EQ(changed.items(0).generation(), 2u);
  const auto specs = Specs();
  ASSERT_EQ(specs.items_size(), 2);
  EXPECT_EQ(specs.items(0).changed_by(), "admin/root");
}

TEST_F(Services, ADiffShowsBothSidesAndChangesNothing) {
  Apply({Check("api")});
  v1::DiffSpecsRequest request;
  *request.add_documents() = Check("api", "http://localhost/health");
  *request.add_documents() = Check("web");
  const auto diff = Call(&v1::SpecService::Stub::DiffSpecs, *specs_, request);
  ASSERT_EQ(diff.items_size(), 2);
  EXPECT_EQ(diff.items(0).before().check().probe().http().url(), "http://localhost/");
  EXPECT_EQ(diff.items(0).after().check().probe().http().url(), "http://localhost/health");
  EXPECT_FALSE(diff.items(1).has_before());
  EXPECT_EQ(Specs().items_size(), 1);
}

TEST_F(Services, SpecsAreDeletedTogetherOrNotAtAll) {
  Apply({Check("api"), Check("web")});
  v1::DeleteSpecsRequest request;
  v1::SpecName& first = *request.add_names();
  first.set_kind("Check");
  first.set_name("api");
  v1::SpecName& second = *request.add_names();
  second.set_kind("Check");
  second.set_name("nobody");
  Call(&v1::SpecService::Stub::DeleteSpecs, *specs_, request, StatusCode::NOT_FOUND);
  EXPECT_EQ(Specs().items_size(), 2);
  second.set_name("web");
  EXPECT_EQ(Call(&v1::SpecService::Stub::DeleteSpecs, *specs_, request).items_size(), 2);
  EXPECT_EQ(Specs().items_size(), 0);
}

TEST_F(Services, AnAgentsResultsAreStatesTransitionsAndHistory) {
  Apply({Check("api")});
  HandAgent agent(plane_, "host-1");
  agent.Tell(v1::CHECK_STATUS_OK, "HTTP 200");
  agent.Tell(v1::CHECK_STATUS_CRITICAL, "HTTP 503");
  agent.TellGap(3);
  agent.Tell(v1::CHECK_STATUS_CRITICAL, "HTTP 503");

  const auto states = States();
  ASSERT_EQ(states.items_size(), 1);
  EXPECT_EQ(states.items(0).check(), "api");
  EXPECT_EQ(states.items(0).agent(), "host-1");
  EXPECT_EQ(states.items(0).state(), v1::CHECK_STATUS_CRITICAL);
  EXPECT_EQ(states.items(0).summary(), "HTTP 503");
  EXPECT_TRUE(states.items(0).hard());

  v1::ListTransitionsRequest transitions;
  transitions.set_check("api");
  const auto changes = Call(&v1::StateService::Stub::ListTransitions, *states_, transitions);
  ASSERT_GE(changes.items_size(), 1);
  EXPECT_FALSE(changes.items(0).reason().empty());

  v1::HistoryRequest request;
  request.set_check("api");
  request.set_agent("host-1");
  const auto history = History(request);
  std::vector<uint64_t> sequences;
  for (const v1::HistoryEntry& entry : history) sequences.push_back(entry.seq());
  EXPECT_THAT(sequences, ElementsAre(1, 2, 5, 6));
  EXPECT_EQ(history[2].gap().first(), 3u);
  EXPECT_EQ(history[2].gap().last(), 5u);
  request.set_limit(2);
  EXPECT_EQ(History(request).size(), 2u);
  request.set_agent("nobody");
  History(request, StatusCode::NOT_FOUND);
}

TEST_F(Services, StatesAreFilteredAndPaged) {
  Apply({Check("api")});
  std::vector<std::unique_ptr<HandAgent>> agents;
  for (const char* name : {"host-1", "host-2", "host-3"}) {
    agents.push_back(std::make_unique<HandAgent>(plane_, name));
    agents.back()->Tell(agents.size() == 2 ? v1::CHECK_STATUS_WARNING : v1::CHECK_STATUS_OK, "x");
  }
  v1::ListStatesRequest request;
  request.set_page_size(2);
  const auto page = States(request);
  ASSERT_EQ(page.items_size(), 2);
  request.set_page_token(page.next_page_token());
  const auto rest = States(request);
  ASSERT_EQ(rest.items_size(), 1);
  EXPECT_EQ(rest.items(0).agent(), "host-3");
  EXPECT_TRUE(rest.next_page_token().empty());
  request.set_page_token("junk");
  States(request, StatusCode::INVALID_ARGUMENT);

  v1::ListStatesRequest warnings;
  warnings.add_status(v1::CHECK_STATUS_WARNING);
  ASSERT_EQ(States(warnings).items_size(), 1);
  v1::ListStatesRequest one;
  one.set_agent("host-1");
  EXPECT_EQ(States(one).items_size(), 1);
  one.set_check("nothing");
  States(one, StatusCode::NOT_FOUND);
}

TEST_F(Services, AWatchShowsWhatIsThenWhatChanges) {
  Apply({Check("api")});
  HandAgent agent(plane_, "host-1");
  agent.Tell(v1::CHECK_STATUS_OK, "HTTP 200");
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(SystemClock().Now() + absl::Seconds(20)));
  const auto stream = states_->Watch(&context, v1::WatchRequest());
  v1::WatchEvent event;
  ASSERT_TRUE(stream->Read(&event));
  EXPECT_EQ(event.state().state(), v1::CHECK_STATUS_OK);
  ASSERT_TRUE(stream->Read(&event));
  EXPECT_TRUE(event.synced());
  agent.Tell(v1::CHECK_STATUS_CRITICAL, "HTTP 503");
  ASSERT_TRUE(stream->Read(&event));
  EXPECT_EQ(event.state().state(), v1::CHECK_STATUS_CRITICAL);
  v1::DeleteSpecsRequest request;
  request.add_names()->set_kind("Check");
  request.mutable_names(0)->set_name("api");
  Call(&v1::SpecService::Stub::DeleteSpecs, *specs_, request);
  ASSERT_TRUE(stream->Read(&event));
  EXPECT_EQ(event.removed().check(), "api");
  context.TryCancel();
  stream->Finish();
}

TEST_F(Services, AgentsAreListedWithTheirGaps) {
  Apply({Check("api")});
  HandAgent agent(plane_, "host-1");
  agent.Tell(v1::CHECK_STATUS_OK, "x");
  agent.TellGap(2);
  const auto agents =
      Call(&v1::IdentityService::Stub::ListAgents, *identity_, v1::ListAgentsRequest());
  ASSERT_EQ(agents.items_size(), 1);
  EXPECT_TRUE(agents.items(0).connected());
  EXPECT_EQ(agents.items(0).committed_seq(), 3u);
  ASSERT_EQ(agents.items(0).gaps_size(), 1);
  EXPECT_EQ(agents.items(0).gaps(0).reason(), "SPOOL_FULL");
  v1::ListAgentsRequest nobody;
  nobody.set_name("nobody");
  Call(&v1::IdentityService::Stub::ListAgents, *identity_, nobody, StatusCode::NOT_FOUND);
}

TEST_F(Services, ReplicasAreListedAndForgottenOnceTheyAreLost) {
  const auto system =
      v1::SystemService::NewStub(plane_.Channel(plane_.Identity(v1::ROLE_ADMIN, "ops")));
  ClusterStore& cluster = plane_.store().cluster();
  const ReplicaRow self = *cluster.Start({"r-a", {"a:7443", "lb:7443"}, "1.0"});
  ASSERT_TRUE(
      cluster.Heartbeat(self, [](const LeaseFacts& facts) { return DecideLease(facts, {}); }).ok());
  const ReplicaRow other = *cluster.Start({"r-b", {"b:7443"}, "1.0"});
  const auto list = [&] {
    return Call(&v1::SystemService::Stub::ListReplicas, *system, v1::ListReplicasRequest());
  };
  auto replicas = list();
  ASSERT_EQ(replicas.items_size(), 2);
  EXPECT_EQ(replicas.items(0).id(), "r-a");
  EXPECT_TRUE(replicas.items(0).leader());
  EXPECT_EQ(replicas.items(0).epoch(), 1U);
  EXPECT_THAT(replicas.items(0).addresses(), ElementsAre("a:7443", "lb:7443"));
  EXPECT_EQ(replicas.items(1).state(), v1::Replica::STATE_LIVE);
  v1::DeleteReplicaRequest request;
  request.set_id("r-b");
  Call(&v1::SystemService::Stub::DeleteReplica, *system, request, StatusCode::FAILED_PRECONDITION);
  ASSERT_TRUE(cluster.DeclareLost({1}, other).value_or(false));
  EXPECT_EQ(list().items(1).state(), v1::Replica::STATE_LOST);
  Call(&v1::SystemService::Stub::DeleteReplica, *system, request);
  EXPECT_EQ(list().items_size(), 1);
  Call(&v1::SystemService::Stub::DeleteReplica, *system, request, StatusCode::NOT_FOUND);
  EXPECT_EQ(plane_.store().audit().List(0, 100)->back().note.actor, "admin/ops");
}

TEST_F(Services, AReplicaThatIsBackCutsStreamsWhoseAgentsHaveMoved) {
  Apply({Check("api")});
  HandAgent stays(plane_, "host-1");
  HandAgent moved(plane_, "host-2");
  Store& store = plane_.store();
  ASSERT_TRUE(store.cluster().Start({"r-other", {}, "1.0"}).ok());
  // As the leader does when it declares this plane's replica lost; it has no row here.
  EXPECT_EQ(store.sessions().CloseStrays({}, SystemClock().Now()).value_or(0), 2U);
  const SessionOpening elsewhere{.agent = "host-2",
                                 .replica = "r-other",
                                 .version = "1",
                                 .boot_id = "b",
                                 .log_epoch = "epoch-1",
                                 .now = SystemClock().Now()};
  ASSERT_TRUE(store.sessions().Open(elsewhere).ok());
  plane_.hub().Found();
  EXPECT_TRUE(
      testing::Eventually([&] { return store.sessions().Find("host-1").value()->connected; }));
  EXPECT_EQ(store.sessions().Find("host-2").value()->replica, "r-other");
  EXPECT_TRUE(testing::Eventually([&] { return plane_.hub().connected() == 1; }));
  stays.Tell(v1::CHECK_STATUS_OK, "still here");
}

TEST_F(Services, OperatorsAreMadeListedAndRevoked) {
  const Secret key = *net::NewPrivateKey();
  v1::CreateOperatorRequest request;
  request.set_name("anna");
  request.set_role(v1::ROLE_VIEWER);
  request.set_csr(*net::NewCertificateRequest(key));
  EXPECT_EQ(Call(&v1::IdentityService::Stub::CreateOperator, *identity_, request).chain_size(), 2);
  request.set_role(v1::ROLE_AGENT);
  Call(&v1::IdentityService::Stub::CreateOperator, *identity_, request,
       StatusCode::INVALID_ARGUMENT);
  const auto operators =
      Call(&v1::IdentityService::Stub::ListOperators, *identity_, v1::ListOperatorsRequest());
  EXPECT_EQ(operators.items_size(), 2);
  v1::RevokeOperatorRequest revoke;
  revoke.set_name("root");
  Call(&v1::IdentityService::Stub::RevokeOperator, *identity_, revoke,
       StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(plane_.revocations, 0);
  revoke.set_name("anna");
  EXPECT_EQ(Call(&v1::IdentityService::Stub::RevokeOperator, *identity_, revoke).certificates(),
            1u);
  EXPECT_EQ(plane_.revocations, 1) << "other replicas are told";
  const auto audit =
      Call(&v1::IdentityService::Stub::ListAudit, *identity_, v1::ListAuditRequest());
  EXPECT_EQ(audit.items(audit.items_size() - 1).action(), "operator.revoke");
}

TEST_F(Services, ARenewedCertificateHasTheSameNameAndRole) {
  const auto identity = plane_.Identity(v1::ROLE_VIEWER, "anna");
  const auto stub = v1::IdentityService::NewStub(plane_.Channel(identity));
  v1::RenewRequest request;
  request.set_csr("junk");
  Call(&v1::IdentityService::Stub::Renew, *stub, request, StatusCode::INVALID_ARGUMENT);
  request.set_csr(*net::NewCertificateRequest(*net::NewPrivateKey()));
  const auto renewed = Call(&v1::IdentityService::Stub::Renew, *stub, request);
  const auto facts = *net::ReadCertificate(renewed.chain(0));
  EXPECT_THAT(facts.uris, ElementsAre("spiffe://muster/viewer/anna"));
}

}  // namespace
}  // namespace muster::control
