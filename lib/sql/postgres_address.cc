#include "lib/sql/postgres_address.h"

#include <libpq-fe.h>

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "lib/base/text.h"

namespace muster::sql {
namespace {

using Words = std::map<std::string, std::string>;

// Where the URL does not say otherwise. A server that is gone without a word is noticed within 15
// s, one of several hosts that does not answer costs 3 s.
const Words& Defaults() {
  static const Words defaults = {{"application_name", "muster-control"},
                                 {"connect_timeout", "3"},
                                 {"keepalives", "1"},
                                 {"keepalives_idle", "5"},
                                 {"keepalives_interval", "3"},
                                 {"keepalives_count", "3"},
                                 {"tcp_user_timeout", "10000"},
                                 // Decisions are made from the primary alone; of several hosts
                                 // it is the one that takes writes.
                                 {"target_session_attrs", "read-write"}};
  return defaults;
}

StatusOr<Words> ReadWords(const std::string& url) {
  char* said = nullptr;
  const std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption*)> options(
      PQconninfoParse(url.c_str(), &said), PQconninfoFree);
  // It repeats parts of the URL.
  PQfreemem(said);
  if (options == nullptr) {
    return InvalidArgument(
        "the store's URL cannot be read; write postgresql://USER@HOST:PORT/DATABASE, and in a "
        "password every special character as %XX");
  }
  Words words;
  for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
    if (option->val != nullptr) words[option->keyword] = option->val;
  }
  return words;
}

std::string Joined(const Words& words) {
  std::string text;
  for (const auto& [key, value] : words) {
    text += key + "='";
    for (const char c : value) {
      if (c == '\'' || c == '\\') text += '\\';
      text += c;
    }
    text += "' ";
  }
  return text;
}

std::string WordOf(const Words& words, const char* key) {
  const auto found = words.find(key);
  return found == words.end() ? "" : found->second;
}

// A password with a bare '@' or '/' ends up in pieces in what libpq takes for host, port or
// database, and these stand in messages.
Status CheckPieces(const Words& words) {
  for (const char* piece : {"host", "hostaddr", "dbname"}) {
    if (WordOf(words, piece).find('@') == std::string::npos) continue;
    return InvalidArgument(
        "the store's URL has an @ too many; in a password write @ as %40 and / as %2F");
  }
  if (WordOf(words, "port").find_first_not_of("0123456789,") == std::string::npos)
    return OkStatus();
  return InvalidArgument("the port in the store's URL is not a number");
}

std::vector<std::string> Split(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t from = 0; from <= text.size();) {
    const size_t comma = std::min(text.find(',', from), text.size());
    parts.push_back(text.substr(from, comma - from));
    from = comma + 1;
  }
  return parts;
}

// Several hosts have a port each, or one for all.
std::string NameOf(const Words& words) {
  std::string host = WordOf(words, "host");
  if (host.empty()) host = WordOf(words, "hostaddr");
  const std::vector<std::string> hosts = Split(host);
  const std::vector<std::string> ports = Split(WordOf(words, "port"));
  std::string named;
  for (size_t i = 0; i < hosts.size(); ++i) {
    const std::string& port = ports[std::min(i, ports.size() - 1)];
    named += fmt::format("{}{}{}{}", i == 0 ? "" : ",", hosts[i], port.empty() ? "" : ":", port);
  }
  return fmt::format("postgresql://{}/{}", named, WordOf(words, "dbname"));
}

}  // namespace

StatusOr<PostgresAddress> PostgresAddress::Parse(const std::string& url) {
  MUSTER_ASSIGN_OR_RETURN(Words words, ReadWords(url));
  MUSTER_RETURN_IF_ERROR(CheckPieces(words));
  words.insert(Defaults().begin(), Defaults().end());
  words["client_encoding"] = "UTF8";
  PostgresAddress address;
  address.name_ = NameOf(words);
  address.password_ = Secret(WordOf(words, "password"));
  address.words_ = Secret(Joined(words));
  for (auto& [key, value] : words) WipeText(value);
  return address;
}

std::string PostgresAddress::Clean(std::string_view said) const {
  std::string text = OneLine(Trim(said));
  if (password_.empty()) return text;
  for (size_t at = 0; (at = text.find(password_.Reveal(), at)) != std::string::npos;)
    text.replace(at, password_.Reveal().size(), "…");
  return text;
}

}  // namespace muster::sql
