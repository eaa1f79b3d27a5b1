// What tests of this folder, and of those who use it, begin with.
#pragma once

#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "lib/redis/address.h"
#include "lib/redis/client.h"
#include "lib/testing/servers.h"

namespace muster::redis {

// An address that parses.
inline Address At(const std::string& url) {
  StatusOr<Address> address = Address::Parse(url, UrlFrom::kSettings);
  EXPECT_TRUE(address.ok()) << Text(address.status());
  return *std::move(address);
}

// Patient, so that a busy machine fails no test of what is answered.
inline ClientOptions Patient() {
  return {.deadline = absl::Seconds(20),
          .open_within = absl::Seconds(10),
          .backoff = {.first = absl::Milliseconds(10), .longest = absl::Milliseconds(100)}};
}

inline std::unique_ptr<Client> Open(const std::string& url,
                                    const ClientOptions& options = Patient()) {
  StatusOr<std::unique_ptr<Client>> client = OpenClient(At(url), options);
  EXPECT_TRUE(client.ok()) << Text(client.status());
  return *std::move(client);
}

// The text that the command is answered with, or what went wrong.
inline std::string Ask(Client& client, Argv argv) {
  const StatusOr<Reply> reply = client.Command(std::move(argv));
  if (!reply.ok()) return Text(reply.status());
  if (reply->integer() != nullptr) return std::to_string(*reply->integer());
  return reply->text() != nullptr ? *reply->text() : reply->IsNil() ? "(nil)" : "(array)";
}

}  // namespace muster::redis
