#include "lib/net/session_tickets.h"

#include <openssl/conf.h>

#include "lib/base/file.h"
#include "lib/net/openssl.h"

namespace muster::net {
namespace {

using ConfPtr = std::unique_ptr<CONF, Freer<NCONF_free>>;

StatusOr<ConfPtr> Parse(const std::string& text) {
  ConfPtr conf(NCONF_new(nullptr));
  const BioPtr bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  long line = 0;
  if (NCONF_load_bio(conf.get(), bio.get(), &line) <= 0) {
    return InvalidArgument("OpenSSL's configuration, line {}: {}", line, LastSslError());
  }
  return conf;
}

// What stands for `name` in a section; null if nothing does. The section may be null: the first
// one.
const char* Find(const CONF* conf, const char* section, const char* name) {
  const char* value = NCONF_get_string(conf, section, name);
  ERR_clear_error();
  return value;
}

// As text that reads as `value`.
std::string Escaped(std::string_view value) {
  std::string out;
  for (const char c : value) {
    if (std::string_view("\\\"'$#").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

// The section of what all contexts are asked; empty if there is none.
std::string SystemDefaults(const CONF* conf) {
  const char* section = Find(conf, nullptr, "openssl_conf");
  for (const char* next : {"ssl_conf", "system_default"}) {
    if (section != nullptr) section = Find(conf, section, next);
  }
  return section == nullptr ? "" : section;
}

}  // namespace

StatusOr<std::string> ConfigurationWithoutTickets(const std::string& system) {
  MUSTER_ASSIGN_OR_RETURN(const ConfPtr conf, Parse(system));
  std::string text =
      "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = contexts\n[contexts]\n";
  const std::string section = SystemDefaults(conf.get());
  const STACK_OF(CONF_VALUE)* values =
      section.empty() ? nullptr : NCONF_get_section(conf.get(), section.c_str());
  for (int i = 0; values != nullptr && i < sk_CONF_VALUE_num(values); ++i) {
    const CONF_VALUE* entry = sk_CONF_VALUE_value(values, i);
    text += fmt::format("{} = {}\n", entry->name, Escaped(entry->value));
  }
  ERR_clear_error();
  return text + "NumTickets = 0\n";
}

Status SendNoSessionTickets() {
  // Reads the system's configuration, which it would else do later, over ours.
  OPENSSL_init_ssl(OPENSSL_INIT_LOAD_CONFIG, nullptr);
  const std::unique_ptr<char, decltype([](char* path) { OPENSSL_free(path); })> path(
      CONF_get1_default_config_file());
  std::string system;
  if (path != nullptr) system = ReadFile(path.get()).value_or("");
  MUSTER_ASSIGN_OR_RETURN(const std::string text, ConfigurationWithoutTickets(system));
  MUSTER_ASSIGN_OR_RETURN(const ConfPtr conf, Parse(text));
  if (CONF_modules_load(conf.get(), nullptr, 0) <= 0) {
    return Internal("OpenSSL takes no setting: {}", LastSslError());
  }
  return OkStatus();
}

}  // namespace muster::net
