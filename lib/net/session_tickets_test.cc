#include "lib/net/session_tickets.h"

#include <gtest/gtest.h>

#include "lib/net/openssl.h"

namespace muster::net {
namespace {

std::string WithContexts(std::string_view lines) {
  return fmt::format(
      "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = "
      "contexts\n[contexts]\n{}",
      lines);
}

TEST(SessionTickets, AreNotSent) {
  ASSERT_TRUE(SendNoSessionTickets().ok());
  const SslContextPtr context(SSL_CTX_new(TLS_method()));
  EXPECT_EQ(SSL_CTX_get_num_tickets(context.get()), 0U);
}

TEST(SessionTickets, ASystemWithoutAConfigurationAsksForNothingElse) {
  EXPECT_EQ(*ConfigurationWithoutTickets(""), WithContexts("NumTickets = 0\n"));
  EXPECT_EQ(*ConfigurationWithoutTickets("openssl_conf = a\n[a]\nproviders = p\n[p]\n"),
            WithContexts("NumTickets = 0\n"));
}

TEST(SessionTickets, WhatTheSystemAsksOfAllContextsStays) {
  const StatusOr<std::string> text = ConfigurationWithoutTickets(
      "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\nother = d\n"
      "[c]\nMinProtocol = TLSv1.2\nCipherString = \"DEFAULT:@SECLEVEL=2\"\nOptions = a\\$b\n"
      "[d]\nMaxProtocol = TLSv1.2\n");
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(*text, WithContexts("MinProtocol = TLSv1.2\nCipherString = DEFAULT:@SECLEVEL=2\n"
                                "Options = a\\$b\nNumTickets = 0\n"));
}

TEST(SessionTickets, AConfigurationThatCannotBeReadIsSaidWithItsLine) {
  const Status status = ConfigurationWithoutTickets("openssl_conf = a\n[a\n").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("line 2"), std::string_view::npos) << status;
}

}  // namespace
}  // namespace muster::net
