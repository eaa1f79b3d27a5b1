#include "lib/redis/address.h"

#include <sys/un.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>

#include "lib/base/file.h"
#include "lib/base/text.h"

namespace muster::redis {
namespace {

constexpr size_t kLongestUrl = 4096;
constexpr int kLargestDb = 65'535;
constexpr size_t kLongestSocketPath = sizeof(sockaddr_un::sun_path) - 1;

constexpr uint16_t kSentinelPort = 26'379;

constexpr std::string_view kForms =
    "redis://HOST:PORT, rediss://HOST:PORT?ca=FILE, redis+sentinel://HOST,HOST/MASTER or "
    "redis+unix:PATH";

Status BadCharacter() {
  return InvalidArgument(
      "the Redis URL has a character too many; in user, password and files write special "
      "characters as %XX: @ as %40, / as %2F, # as %23");
}

// Nothing that is decoded may hold a line break or a zero byte.
StatusOr<std::string> Decode(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      const StatusOr<std::string> byte = HexDecode(text.substr(i + 1, 2));
      if (!byte.ok() || byte->size() != 1) {
        return InvalidArgument("the Redis URL has a % that two hex digits do not follow");
      }
      c = byte->front();
      i += 2;
    }
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return BadCharacter();
    decoded += c;
  }
  return decoded;
}

template <typename Number>
std::optional<Number> ReadNumber(std::string_view text, Number least, Number most) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (value < least || value > most) return std::nullopt;
  return value;
}

bool IsHostCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '-' || c == '_';
}

bool IsIp6Character(char c) {
  return (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || (c >= '0' && c <= '9') || c == '.' ||
         c == ':';
}

}  // namespace

class UrlReader {
 public:
  explicit UrlReader(UrlFrom from) : from_(from) {}

  StatusOr<Address> Read(std::string_view url) {
    if (url.size() > kLongestUrl) return InvalidArgument("the Redis URL is too long");
    if (url.find('#') != std::string_view::npos) return BadCharacter();
    const size_t question = std::min(url.find('?'), url.size());
    MUSTER_RETURN_IF_ERROR(ReadPlace(url.substr(0, question)));
    if (question < url.size()) MUSTER_RETURN_IF_ERROR(ReadOptions(url.substr(question + 1)));
    MUSTER_RETURN_IF_ERROR(Check());
    return std::move(address_);
  }

 private:
  Status ReadPlace(std::string_view place) {
    const auto take = [&](std::string_view scheme, Scheme kind) {
      if (!place.starts_with(scheme)) return false;
      place.remove_prefix(scheme.size());
      address_.scheme_ = kind;
      return true;
    };
    if (take("redis+unix:", Scheme::kUnix)) return ReadPath(place);
    if (take("redis+sentinel://", Scheme::kTcp) || take("rediss+sentinel://", Scheme::kTls))
      return ReadSentinels(place);
    if (take("redis://", Scheme::kTcp) || take("rediss://", Scheme::kTls)) return ReadHost(place);
    return InvalidArgument("the Redis URL cannot be read; write {}", kForms);
  }

  Status ReadPath(std::string_view path) {
    MUSTER_ASSIGN_OR_RETURN(address_.path_, Decode(path));
    if (!address_.path_.starts_with('/') || address_.path_.size() > kLongestSocketPath) {
      return InvalidArgument(
          "the Redis URL names no socket; write redis+unix:PATH, the path absolute and at most {} "
          "bytes long",
          kLongestSocketPath);
    }
    return OkStatus();
  }

  Status ReadHost(std::string_view rest) {
    const size_t slash = std::min(rest.find('/'), rest.size());
    MUSTER_ASSIGN_OR_RETURN(const std::string_view where, ReadUserBefore(rest.substr(0, slash)));
    HostPort place{.port = address_.port_};
    MUSTER_RETURN_IF_ERROR(ReadHostAndPort(where, place));
    address_.host_ = place.host;
    address_.port_ = place.port;
    return slash + 1 < rest.size() ? ReadDb(rest.substr(slash + 1)) : OkStatus();
  }

  Status ReadSentinels(std::string_view rest) {
    const size_t slash = std::min(rest.find('/'), rest.size());
    MUSTER_ASSIGN_OR_RETURN(const std::string_view where, ReadUserBefore(rest.substr(0, slash)));
    for (const std::string_view one : Split(where, ',')) {
      HostPort& place = address_.sentinels_.emplace_back(HostPort{.port = kSentinelPort});
      MUSTER_RETURN_IF_ERROR(ReadHostAndPort(one, place));
    }
    const std::string_view path = slash < rest.size() ? rest.substr(slash + 1) : "";
    const size_t end = std::min(path.find('/'), path.size());
    address_.master_ = path.substr(0, end);
    if (address_.master_.empty() ||
        !std::all_of(address_.master_.begin(), address_.master_.end(), IsHostCharacter)) {
      return InvalidArgument(
          "the Redis URL does not name the master that the Sentinels watch; write "
          "redis+sentinel://HOST,HOST/MASTER, as in their settings: sentinel monitor MASTER …");
    }
    return end + 1 < path.size() ? ReadDb(path.substr(end + 1)) : OkStatus();
  }

  // What follows the user.
  StatusOr<std::string_view> ReadUserBefore(std::string_view where) {
    const size_t at = where.find('@');
    if (at == std::string_view::npos) return where;
    MUSTER_RETURN_IF_ERROR(ReadUser(where.substr(0, at)));
    return where.substr(at + 1);
  }

  Status ReadUser(std::string_view text) {
    const size_t colon = std::min(text.find(':'), text.size());
    MUSTER_ASSIGN_OR_RETURN(address_.user_, Decode(text.substr(0, colon)));
    if (colon == text.size()) return OkStatus();
    MUSTER_ASSIGN_OR_RETURN(std::string password, Decode(text.substr(colon + 1)));
    address_.password_ = Secret(std::move(password));
    return OkStatus();
  }

  // A password with a bare '@' or '/' ends up in here in pieces, so nothing of it is repeated. The
  // port stays where the text has none.
  static Status ReadHostAndPort(std::string_view text, HostPort& place) {
    if (text.starts_with('[')) {
      const size_t end = text.find(']');
      if (end == std::string_view::npos) return BadHost();
      place.host = text.substr(1, end - 1);
      if (!std::all_of(place.host.begin(), place.host.end(), IsIp6Character)) return BadHost();
      text.remove_prefix(end + 1);
    } else {
      const size_t colon = std::min(text.find(':'), text.size());
      place.host = text.substr(0, colon);
      if (!std::all_of(place.host.begin(), place.host.end(), IsHostCharacter)) return BadHost();
      text.remove_prefix(colon);
    }
    if (place.host.empty()) return BadHost();
    if (text.empty()) return OkStatus();
    const auto number =
        text.starts_with(':') ? ReadNumber<uint16_t>(text.substr(1), 1, 65'535) : std::nullopt;
    if (!number.has_value()) {
      return InvalidArgument("the port in the Redis URL is not a number from 1 to 65535");
    }
    place.port = *number;
    return OkStatus();
  }

  static Status BadHost() {
    return InvalidArgument(
        "the host in the Redis URL is neither a name nor an IP ([…] around IPv6); in a password "
        "write @ as %40 and / as %2F");
  }

  Status ReadDb(std::string_view text) {
    const auto number = ReadNumber<int>(text, 0, kLargestDb);
    if (!number.has_value()) {
      return InvalidArgument("the database in the Redis URL is not a number from 0 to {}",
                             kLargestDb);
    }
    address_.db_ = *number;
    return OkStatus();
  }

  Status ReadOptions(std::string_view text) {
    for (const std::string_view option : Split(text, '&')) {
      const size_t equals = option.find('=');
      const std::string_view key = option.substr(0, equals);
      const std::string_view value =
          equals == std::string_view::npos ? std::string_view() : option.substr(equals + 1);
      MUSTER_RETURN_IF_ERROR(ReadOption(key, value));
    }
    return OkStatus();
  }

  Status ReadOption(std::string_view key, std::string_view value) {
    const bool local = address_.scheme_ == Scheme::kUnix;
    if (key == "db" && local) return ReadDb(value);
    if (key == "user" && local) return ReadText(value, "user", address_.user_);
    if (key == "ca" && address_.scheme_ == Scheme::kTls)
      return ReadText(value, "ca", address_.ca_file_);
    if (key == "sentinel_user" && !address_.sentinels_.empty())
      return ReadText(value, "sentinel_user", address_.sentinel_user_);
    if (key == "sentinel_password_file" && !address_.sentinels_.empty())
      return ReadText(value, "sentinel_password_file", address_.sentinel_password_file_);
    if (key == "password_file") return ReadText(value, "password_file", address_.password_file_);
    return InvalidArgument(
        "the Redis URL has an option that it cannot have; password_file goes with all, ca with "
        "rediss: alone, user and db with redis+unix: alone, sentinel_user and "
        "sentinel_password_file with Sentinels");
  }

  static Status ReadText(std::string_view value, std::string_view key, std::string& into) {
    if (!into.empty()) return InvalidArgument("the Redis URL has {} twice", key);
    MUSTER_ASSIGN_OR_RETURN(into, Decode(value));
    return into.empty() ? InvalidArgument("{} in the Redis URL is empty", key) : OkStatus();
  }

  Status Check() const {
    if (!address_.password_.empty() && from_ == UrlFrom::kCommandLine) {
      return InvalidArgument(
          "the Redis URL on the command line holds a password, which every user of this host can "
          "read there; put the password into a file of mode 0600 and write ?password_file=FILE, "
          "or put the URL into the settings file");
    }
    if (!address_.password_.empty() && !address_.password_file_.empty()) {
      return InvalidArgument("the Redis URL has both a password and a password_file; keep one");
    }
    for (const std::string* file : {&address_.password_file_, &address_.sentinel_password_file_}) {
      if (!file->empty() && !file->starts_with('/'))
        return InvalidArgument("a password_file in the Redis URL is not an absolute path");
    }
    if (!address_.sentinel_user_.empty() && address_.sentinel_password_file_.empty()) {
      return InvalidArgument(
          "the Redis URL names a sentinel_user without a password; add "
          "&sentinel_password_file=FILE");
    }
    if (!address_.user_.empty() && !address_.has_password()) {
      return InvalidArgument(
          "the Redis URL names a user without a password; add ?password_file=FILE");
    }
    return OkStatus();
  }

  const UrlFrom from_;
  Address address_;
};

StatusOr<Address> Address::Parse(std::string_view url, UrlFrom from) {
  return UrlReader(from).Read(url);
}

Address Address::Copy() const {
  Address copy;
  copy.sentinels_ = sentinels_;
  copy.master_ = master_;
  copy.sentinel_user_ = sentinel_user_;
  copy.sentinel_password_file_ = sentinel_password_file_;
  copy.scheme_ = scheme_;
  copy.host_ = host_;
  copy.port_ = port_;
  copy.path_ = path_;
  copy.ca_file_ = ca_file_;
  copy.user_ = user_;
  copy.db_ = db_;
  copy.password_file_ = password_file_;
  copy.password_ = Secret(std::string(password_.Reveal()));
  return copy;
}

Address Address::SentinelAt(const HostPort& place) const {
  Address sentinel;
  sentinel.scheme_ = scheme_;
  sentinel.host_ = place.host;
  sentinel.port_ = place.port;
  sentinel.ca_file_ = ca_file_;
  sentinel.user_ = sentinel_user_;
  sentinel.password_file_ = sentinel_password_file_;
  return sentinel;
}

Address Address::ServerAt(const HostPort& place) const {
  Address server = Copy();
  server.sentinels_.clear();
  server.master_.clear();
  server.host_ = place.host;
  server.port_ = place.port;
  return server;
}

std::string Address::name() const {
  const std::string db = db_ == 0 ? "" : fmt::format("/{}", db_);
  if (!sentinels_.empty()) {
    std::string places;
    for (const HostPort& place : sentinels_)
      places += fmt::format("{}{}", places.empty() ? "" : ",", FormatHostPort(place));
    return fmt::format("{}+sentinel://{}/{}{}", scheme_ == Scheme::kTls ? "rediss" : "redis",
                       places, master_, db);
  }
  switch (scheme_) {
    case Scheme::kTcp: return fmt::format("redis://{}{}", FormatHostPort({host_, port_}), db);
    case Scheme::kTls: return fmt::format("rediss://{}{}", FormatHostPort({host_, port_}), db);
    case Scheme::kUnix: break;
  }
  return "redis+unix:" + OneLine(path_);
}

StatusOr<Secret> Address::ReadPassword() const {
  if (password_file_.empty()) return Secret(std::string(password_.Reveal()));
  return ReadSecretReference("file:" + password_file_);
}

Status Address::CheckFiles() const {
  MUSTER_RETURN_IF_ERROR(ReadPassword().status());
  if (!sentinels_.empty())
    MUSTER_RETURN_IF_ERROR(SentinelAt(sentinels_.front()).ReadPassword().status());
  return ca_file_.empty() ? OkStatus() : ReadFile(ca_file_).status();
}

}  // namespace muster::redis
