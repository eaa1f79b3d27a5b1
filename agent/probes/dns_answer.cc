#include "agent/probes/dns_answer.h"

#include <array>
#include <utility>

#include <ares.h>
#include <arpa/inet.h>
#include <sys/socket.h>

namespace muster::agent {
namespace {

constexpr std::array<std::pair<std::string_view, uint16_t>, 6> kTypes = {
    {{"A", 1}, {"NS", 2}, {"CNAME", 5}, {"MX", 15}, {"TXT", 16}, {"AAAA", 28}}};
constexpr size_t kHeaderBytes = 12;

class Parser {
 public:
  explicit Parser(std::string_view reply) : reply_(reply) {}

  StatusOr<std::vector<std::string>> Answers(uint16_t type) {
    if (reply_.size() < kHeaderBytes) return Damaged();
    const uint16_t questions = Number(4);
    const uint16_t records = Number(6);
    at_ = kHeaderBytes;
    for (uint16_t i = 0; i < questions; ++i) {
      MUSTER_RETURN_IF_ERROR(Name(at_).status());
      at_ += 4;
    }
    std::vector<std::string> answers;
    for (uint16_t i = 0; i < records; ++i) MUSTER_RETURN_IF_ERROR(Record(type, answers));
    return answers;
  }

 private:
  static Status Damaged() { return DataLoss("the DNS reply is damaged"); }

  uint16_t Number(size_t at) const {
    return static_cast<uint16_t>(static_cast<unsigned char>(reply_[at]) << 8 |
                                 static_cast<unsigned char>(reply_[at + 1]));
  }

  // Moves `at` past the name.
  StatusOr<std::string> Name(size_t& at) const {
    const auto* bytes = reinterpret_cast<const unsigned char*>(reply_.data());
    char* text = nullptr;
    long length = 0;
    if (at >= reply_.size() || ares_expand_name(bytes + at, bytes, static_cast<int>(reply_.size()),
                                                &text, &length) != ARES_SUCCESS) {
      return Damaged();
    }
    std::string name = text;
    ares_free_string(text);
    at += static_cast<size_t>(length);
    return name;
  }

  Status Record(uint16_t wanted, std::vector<std::string>& answers) {
    MUSTER_RETURN_IF_ERROR(Name(at_).status());
    if (at_ + 10 > reply_.size()) return Damaged();
    const uint16_t type = Number(at_);
    const uint16_t size = Number(at_ + 8);
    at_ += 10;
    if (at_ + size > reply_.size()) return Damaged();
    if (type == wanted) {
      MUSTER_ASSIGN_OR_RETURN(std::string text, Text(type, at_, size));
      answers.push_back(std::move(text));
    }
    at_ += size;
    return OkStatus();
  }

  StatusOr<std::string> Text(uint16_t type, size_t at, size_t size) const {
    if (type == 1 || type == 28) return Ip(type == 1 ? AF_INET : AF_INET6, reply_.substr(at, size));
    if (type == 16) return Strings(reply_.substr(at, size));
    if (type != 15) return Name(at);
    if (size < 3) return Damaged();
    const uint16_t preference = Number(at);
    at += 2;
    MUSTER_ASSIGN_OR_RETURN(const std::string exchange, Name(at));
    return fmt::format("{} {}", preference, exchange);
  }

  static StatusOr<std::string> Ip(int family, std::string_view bytes) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (bytes.size() != (family == AF_INET ? 4U : 16U)) return Damaged();
    if (inet_ntop(family, bytes.data(), text.data(), text.size()) == nullptr) return Damaged();
    return std::string(text.data());
  }

  static StatusOr<std::string> Strings(std::string_view bytes) {
    std::string text;
    while (!bytes.empty()) {
      const size_t size = static_cast<unsigned char>(bytes[0]);
      if (size + 1 > bytes.size()) return Damaged();
      text.append(bytes.substr(1, size));
      bytes.remove_prefix(size + 1);
    }
    return text;
  }

  const std::string_view reply_;
  size_t at_ = 0;
};

}  // namespace

uint16_t DnsTypeNumber(std::string_view type) {
  for (const auto& [name, number] : kTypes) {
    if (name == type) return number;
  }
  return 0;
}

StatusOr<std::vector<std::string>> ParseDnsAnswers(std::string_view reply, uint16_t type) {
  return Parser(reply).Answers(type);
}

}  // namespace muster::agent
