#include "agent/link/witness.h"

#include <gtest/gtest.h>

#include "lib/base/file.h"
#include "lib/net/openssl.h"
#include "lib/net/tls.h"
#include "lib/testing/servers.h"
#include "lib/wire/checkpoint.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

// An authority as the agent knows it: a certificate, and a key that signs.
class Signer {
 public:
  Signer() : key_pem_(*net::NewPrivateKey()) {
    const net::KeyPtr key = *net::ReadPrivateKey(key_pem_.Reveal());
    const net::CertificatePtr made(X509_new());
    X509_set_version(made.get(), X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(made.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(made.get()), 0);
    X509_gmtime_adj(X509_getm_notAfter(made.get()), 3600);
    X509_set_pubkey(made.get(), key.get());
    X509_sign(made.get(), key.get(), EVP_sha256());
    roots_pem_ = net::DerToPem({net::CertificateDer(made.get())});
  }
  const std::string& roots_pem() const { return roots_pem_; }

  v1::Checkpoint Sign(uint64_t sequence, char hash) const {
    v1::Checkpoint checkpoint;
    checkpoint.set_sequence(sequence);
    checkpoint.set_hash(std::string(32, hash));
    *checkpoint.mutable_at() = wire::ToProto(absl::FromUnixSeconds(1'800'000'000));
    checkpoint.set_signature(*net::Sign(key_pem_, wire::CheckpointText(checkpoint)));
    return checkpoint;
  }

 private:
  Secret key_pem_;
  std::string roots_pem_;
};

class WitnessTest : public ::testing::Test {
 protected:
  Witness Open() const { return {path(), signer_.roots_pem()}; }
  std::string path() const { return folder_.File("witness.pb"); }
  // The sequence and the hash's letter of what is held; "none".
  static std::string Held(const Witness& witness) {
    if (!witness.held()) return "none";
    return fmt::format("{}{}", witness.held()->sequence(), witness.held()->hash()[0]);
  }

  testing::TempFolder folder_;
  Signer signer_;
};

TEST_F(WitnessTest, HoldsTheNewestOverRestarts) {
  Witness witness = Open();
  EXPECT_EQ(Held(witness), "none");
  EXPECT_TRUE(witness.Take(signer_.Sign(3, 'a')).ok());
  EXPECT_TRUE(witness.Take(signer_.Sign(7, 'b')).ok());
  EXPECT_EQ(Held(witness), "7b");
  EXPECT_EQ(Held(Open()), "7b");
}

TEST_F(WitnessTest, AnOlderOneChangesNothing) {
  Witness witness = Open();
  ASSERT_TRUE(witness.Take(signer_.Sign(7, 'b')).ok());
  EXPECT_TRUE(witness.Take(signer_.Sign(6, 'x')).ok());
  EXPECT_EQ(Held(witness), "7b");
  EXPECT_EQ(Held(Open()), "7b");
}

TEST_F(WitnessTest, AContradictionIsToldAndTheFirstIsKept) {
  Witness witness = Open();
  ASSERT_TRUE(witness.Take(signer_.Sign(7, 'b')).ok());
  EXPECT_EQ(witness.Take(signer_.Sign(7, 'c')).code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(witness.Take(signer_.Sign(7, 'b')).ok());
  EXPECT_EQ(Held(Open()), "7b");
}

TEST_F(WitnessTest, OnlyTheAuthoritysSignatureCounts) {
  Witness witness = Open();
  EXPECT_EQ(witness.Take(Signer().Sign(3, 'a')).code(), absl::StatusCode::kUnauthenticated);
  const v1::Checkpoint good = signer_.Sign(3, 'a');
  for (const auto& change : std::vector<void (*)(v1::Checkpoint&)>{
           [](v1::Checkpoint& c) { c.set_sequence(4); },
           [](v1::Checkpoint& c) { c.set_hash(std::string(32, 'b')); },
           [](v1::Checkpoint& c) { c.mutable_at()->set_seconds(1); },
           [](v1::Checkpoint& c) { c.clear_signature(); }}) {
    v1::Checkpoint changed = good;
    change(changed);
    EXPECT_EQ(witness.Take(changed).code(), absl::StatusCode::kUnauthenticated)
        << changed.ShortDebugString();
  }
  EXPECT_EQ(Held(witness), "none");
  EXPECT_FALSE(FileExists(path()));
  EXPECT_TRUE(witness.Take(good).ok());
}

TEST_F(WitnessTest, AFileThatIsNoGoodIsSetAside) {
  for (const std::string& bytes :
       {std::string("\xff\xff junk"), std::string(), Signer().Sign(9, 'z').SerializeAsString()}) {
    ASSERT_TRUE(WriteFileAtomically(path(), bytes).ok());
    Witness witness = Open();
    EXPECT_EQ(Held(witness), "none");
    EXPECT_EQ(*ReadFile(path() + ".aside"), bytes);
    EXPECT_TRUE(witness.Take(signer_.Sign(3, 'a')).ok());
    EXPECT_EQ(Held(Open()), "3a");
  }
}

TEST_F(WitnessTest, WhatCannotBeWrittenIsNotHeld) {
  Witness witness(folder_.File("not/there/witness.pb"), signer_.roots_pem());
  EXPECT_FALSE(witness.Take(signer_.Sign(3, 'a')).ok());
  EXPECT_EQ(Held(witness), "none");
}

}  // namespace
}  // namespace muster::agent
