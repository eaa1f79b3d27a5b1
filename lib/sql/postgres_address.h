// Where a PostgreSQL server is and how to sign in, read from a URL. The password stays in here: no
// message of ours repeats it, nor a URL that could not be read.
#pragma once

#include <string>
#include <string_view>

#include "lib/base/secret.h"
#include "lib/base/status.h"

namespace muster::sql {

class PostgresAddress {
 public:
  // "postgresql://USER:PASSWORD@HOST:PORT/DATABASE?option=value", all of it as libpq reads it.
  // "HOST:PORT,HOST:PORT" names a primary and its standbys: the one that takes writes is used,
  // whichever it is. Timeouts, keepalives and the like are set where the URL leaves them open.
  static StatusOr<PostgresAddress> Parse(const std::string& url);

  // For messages: "postgresql://db-1:5432,db-2:5432/muster".
  const std::string& name() const { return name_; }
  // libpq's words for a connection. For the call that connects, nothing else.
  std::string_view RevealWords() const { return words_.Reveal(); }
  // What libpq or a server said, on one line and without the password.
  std::string Clean(std::string_view said) const;

 private:
  PostgresAddress() = default;
  std::string name_;
  Secret words_;
  Secret password_;
};

}  // namespace muster::sql
