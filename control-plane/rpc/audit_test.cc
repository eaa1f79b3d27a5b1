// The audit chain, and the agents that are its witnesses (promise C14).
#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "control-plane/rpc/test_plane.h"
#include "control-plane/rpc/witnesses.h"
#include "lib/net/tls.h"
#include "lib/wire/checkpoint.h"
#include "muster/v1/agent_link.grpc.pb.h"

namespace muster::control {
namespace {

TEST(Audit, EveryPrivilegedChangeIsInTheChain) {
  TestPlane plane;
  grpc::ClientContext context;
  v1::CreateTokenRequest request;
  request.set_agent("host-9");
  v1::CreateTokenResponse token;
  ASSERT_TRUE(v1::IdentityService::NewStub(plane.Channel(plane.Identity(v1::ROLE_ADMIN, "root")))
                  ->CreateToken(&context, request, &token)
                  .ok());
  const auto entries = *plane.store().audit().List(0, 100);
  EXPECT_EQ(entries.back().note.action, "token.create");
  EXPECT_EQ(entries.back().note.actor, "admin/root");
  EXPECT_TRUE(plane.store().audit().Verify().ok());
}

// A session up to what the control plane says first, and on.
class Witnessing {
 public:
  Witnessing(TestPlane& plane, const net::ClientIdentity& identity,
             const std::optional<v1::Checkpoint>& holds)
      : stub_(v1::AgentLink::NewStub(plane.Channel(identity))) {
    context_.set_deadline(absl::ToChronoTime(SystemClock().Now() + absl::Seconds(30)));
    stream_ = stub_->Session(&context_);
    v1::FromAgent hello;
    hello.mutable_hello()->set_log_epoch("epoch-1");
    if (holds.has_value()) *hello.mutable_hello()->mutable_witnessed() = *holds;
    stream_->Write(hello);
    v1::ToAgent answer;
    if (stream_->Read(&answer) && answer.has_welcome() && answer.welcome().has_checkpoint()) {
      given_ = answer.welcome().checkpoint();
    }
  }
  ~Witnessing() {
    context_.TryCancel();
    v1::ToAgent rest;
    while (stream_->Read(&rest)) continue;
    stream_->Finish();
  }
  // In the Welcome.
  const std::optional<v1::Checkpoint>& given() const { return given_; }
  // The next one that comes.
  v1::Checkpoint Next() {
    v1::ToAgent message;
    while (stream_->Read(&message) && !message.has_checkpoint()) continue;
    return message.checkpoint();
  }

 private:
  std::unique_ptr<v1::AgentLink::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::FromAgent, v1::ToAgent>> stream_;
  std::optional<v1::Checkpoint> given_;
};

void Change(TestPlane& plane, const std::string& sql) {
  ASSERT_TRUE(plane.store()
                  .database()
                  .Write([&](sql::Transaction& t) { return t.Execute(sql).status(); })
                  .ok());
}

void AddEntry(TestPlane& plane, const std::string& agent) {
  ASSERT_TRUE(plane.store()
                  .identity()
                  .SaveToken({"hash of " + agent, agent, {}, plane.clock().Now()},
                             {"test", "token.create", agent, "", plane.clock().Now()})
                  .ok());
}

std::vector<v1::Finding> FailedWitnesses(TestPlane& plane) {
  grpc::ClientContext context;
  v1::DoctorResponse response;
  EXPECT_TRUE(v1::SystemService::NewStub(plane.Channel(plane.Identity(v1::ROLE_VIEWER, "anna")))
                  ->Doctor(&context, {}, &response)
                  .ok());
  std::vector<v1::Finding> failed;
  for (const v1::Finding& finding : response.items()) {
    if (finding.subject() == "audit witnesses" && finding.level() == v1::Finding::LEVEL_FAILED) {
      failed.push_back(finding);
    }
  }
  return failed;
}

// The message that begins so; empty if there is none.
std::string SaidOf(const std::string& beginning, TestPlane& plane) {
  for (const v1::Finding& finding : FailedWitnesses(plane)) {
    if (finding.message().starts_with(beginning)) return finding.message();
  }
  return "";
}

TEST(AuditWitness, IsGivenASignedCheckpointAndEachNewerOne) {
  TestPlane plane;
  Witnessing agent(plane, plane.Identity(v1::ROLE_AGENT, "host-a"), std::nullopt);
  ASSERT_TRUE(agent.given().has_value());
  const auto good = [&](const v1::Checkpoint& checkpoint) {
    const auto place = plane.store().audit().Look(checkpoint.sequence());
    return place->hash == checkpoint.hash() &&
           net::VerifySignature(plane.authority().certificate_der(),
                                wire::CheckpointText(checkpoint), checkpoint.signature())
               .ok();
  };
  EXPECT_TRUE(good(*agent.given()));
  AddEntry(plane, "host-b");
  const uint64_t end = plane.store().audit().Look(0)->last_sequence;
  v1::Checkpoint next = agent.Next();
  while (next.sequence() != 0 && next.sequence() < end) next = agent.Next();
  EXPECT_EQ(next.sequence(), end);
  EXPECT_TRUE(good(next));
  EXPECT_TRUE(FailedWitnesses(plane).empty());
}

TEST(AuditWitness, IsMadeOnceAMinuteAtMostAndOnlyWhenTheChainMoved) {
  TestPlane plane;
  ManualClock clock(plane.clock().Now());
  Witnesses witnesses(plane.store().audit(), plane.authority(), clock);
  EXPECT_TRUE(witnesses.Renew());
  const uint64_t first = witnesses.newest()->sequence();
  clock.Advance(absl::Hours(1));
  EXPECT_FALSE(witnesses.Renew());
  AddEntry(plane, "host-b");
  EXPECT_TRUE(witnesses.Renew());
  AddEntry(plane, "host-c");
  clock.Advance(absl::Seconds(59));
  EXPECT_FALSE(witnesses.Renew());
  clock.Advance(absl::Seconds(1));
  EXPECT_TRUE(witnesses.Renew());
  EXPECT_EQ(witnesses.newest()->sequence(), first + 2);
}

TEST(AuditWitness, NoticesACutTailAndKeepsItsCheckpoint) {
  TestPlane plane;
  const auto identity = plane.Identity(v1::ROLE_AGENT, "host-a");
  AddEntry(plane, "host-b");
  plane.witnesses().Renew();
  const v1::Checkpoint held = *plane.witnesses().newest();
  EXPECT_EQ(Witnessing(plane, identity, held).given()->sequence(), held.sequence());
  EXPECT_EQ(plane.witnesses().contradictions(), 0u);
  Change(plane, "DELETE FROM audit WHERE sequence = (SELECT max(sequence) FROM audit)");
  ASSERT_TRUE(plane.store().audit().Verify().ok());  // the chain alone says nothing
  EXPECT_FALSE(Witnessing(plane, identity, held).given().has_value());
  EXPECT_GE(plane.witnesses().contradictions(), 1u);
  // However it grows, it is another chain.
  for (const char* name : {"c", "d", "e"}) AddEntry(plane, name);
  EXPECT_FALSE(Witnessing(plane, identity, held).given().has_value());
  EXPECT_NE(SaidOf("agent host-a holds a checkpoint", plane).find("was changed"),
            std::string::npos);
  // Explained, and put away on the host.
  Witnessing(plane, identity, std::nullopt);
  EXPECT_EQ(SaidOf("agent host-a holds a checkpoint", plane), "");
}

TEST(AuditWitness, TheControlPlaneNoticesWhileItRuns) {
  TestPlane plane;
  AddEntry(plane, "host-b");
  ManualClock clock(plane.clock().Now());
  Witnesses witnesses(plane.store().audit(), plane.authority(), clock);
  ASSERT_TRUE(witnesses.Renew());
  const uint64_t end = witnesses.newest()->sequence();
  Change(plane, fmt::format("DELETE FROM audit WHERE sequence = {}", end));
  clock.Advance(absl::Minutes(1));
  EXPECT_FALSE(witnesses.Renew());
  EXPECT_EQ(witnesses.contradictions(), 1u);
  const auto facts = witnesses.Facts();
  ASSERT_EQ(facts->size(), 1u);
  EXPECT_EQ((*facts)[0].verdict, (Verdict{Testimony::kMissing, end, end}));
  // What comes after is not signed as if nothing had been.
  AddEntry(plane, "host-c");
  AddEntry(plane, "host-d");
  clock.Advance(absl::Minutes(1));
  EXPECT_FALSE(witnesses.Renew());
  // Agents go on being given the one from before.
  EXPECT_EQ(witnesses.newest()->sequence(), end);
}

TEST(AuditWitness, WhatTheAuthorityDidNotSignSaysNothing) {
  TestPlane plane;
  const auto identity = plane.Identity(v1::ROLE_AGENT, "host-a");
  v1::Checkpoint forged = *plane.witnesses().newest();
  // That one is known to be good from here on, and its signature says nothing of another.
  EXPECT_TRUE(Witnessing(plane, identity, forged).given().has_value());
  forged.set_sequence(1'000'000);
  EXPECT_TRUE(Witnessing(plane, identity, forged).given().has_value());
  EXPECT_EQ(plane.witnesses().contradictions(), 0u);
  EXPECT_TRUE(FailedWitnesses(plane).empty());
}

}  // namespace
}  // namespace muster::control
