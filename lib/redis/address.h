// Where a Redis server is and how to sign in, read from a URL. The password stays in here: no
// message of ours repeats it, nor a URL that could not be read.
//
//   redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]     TCP; port 6379
//   rediss://…                                     TLS; ?ca=FILE, else the host's authorities
//   redis+unix:PATH                                Unix socket; ?user=USER, ?db=DB
//   redis+sentinel://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]…]/MASTER[/DB]
//                                                  the master that one of these Sentinels names;
//                                                  port 26379; ?sentinel_user=USER and
//                                                  ?sentinel_password_file=FILE sign in to them
//   rediss+sentinel://…                            TLS to Sentinels and servers; ?ca=FILE
//
// Each takes ?password_file=FILE, whose first line is the password. Special characters are written
// as %XX.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/secret.h"
#include "lib/base/status.h"
#include "lib/base/text.h"

namespace muster::redis {

// Every user of a host can read a command line, so a URL that holds a password is refused there.
enum class UrlFrom { kCommandLine, kSettings };

enum class Scheme { kTcp, kTls, kUnix };

class Address {
 public:
  // Reads the URL alone, no file. InvalidArgument names the remedy and no part of the URL.
  static StatusOr<Address> Parse(std::string_view url, UrlFrom from);
  Address Copy() const;

  // Not empty: host and port are what Sentinels say of `master`.
  const std::vector<HostPort>& sentinels() const { return sentinels_; }
  const std::string& master() const { return master_; }
  // One of the Sentinels, and the server that one named, with what signs in there.
  Address SentinelAt(const HostPort& place) const;
  Address ServerAt(const HostPort& place) const;

  Scheme scheme() const { return scheme_; }
  const std::string& host() const { return host_; }  // a name or an IP, without brackets
  uint16_t port() const { return port_; }
  const std::string& path() const { return path_; }        // of the Unix socket
  const std::string& ca_file() const { return ca_file_; }  // empty: the host's authorities
  const std::string& user() const { return user_; }        // empty: Redis's default user
  int db() const { return db_; }
  bool has_password() const { return !password_.empty() || !password_file_.empty(); }

  // For messages: "rediss://redis.example.org:6379/2", "redis+unix:/run/redis.sock".
  std::string name() const;
  // Read anew each time, so that a password can be changed without a restart. Empty if there is
  // none.
  StatusOr<Secret> ReadPassword() const;
  // Whether the files that the URL names can be read now.
  Status CheckFiles() const;

 private:
  friend class UrlReader;
  Address() = default;

  std::vector<HostPort> sentinels_;
  std::string master_;
  std::string sentinel_user_;
  std::string sentinel_password_file_;
  Scheme scheme_ = Scheme::kTcp;
  std::string host_;
  uint16_t port_ = 6379;
  std::string path_;
  std::string ca_file_;
  std::string user_;
  int db_ = 0;
  std::string password_file_;
  Secret password_;
};

}  // namespace muster::redis
