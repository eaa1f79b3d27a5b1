#include "ctl/render/json.h"

#include <google/protobuf/descriptor.h>
#include <yaml-cpp/yaml.h>

#include "lib/base/text.h"

namespace muster::ctl {
namespace {

namespace pb = google::protobuf;
using Field = pb::FieldDescriptor;

std::string Lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

// "BUFFER_ONE" is written "bufferOne" in specs.
std::string Camel(const std::string& text) {
  std::string camel;
  bool capital = false;
  for (const char c : text) {
    if (c != '_') camel += capital ? std::string(1, c) : Lower(std::string(1, c));
    capital = c == '_';
  }
  return camel;
}

// "CheckStatus" is the prefix "CHECK_STATUS_" of its values.
std::string PrefixOf(const std::string& type) {
  std::string prefix;
  for (size_t i = 0; i < type.size(); ++i) {
    const bool capital = type[i] >= 'A' && type[i] <= 'Z';
    if (capital && i > 0) prefix += '_';
    prefix += capital || type[i] < 'a' ? type[i] : static_cast<char>(type[i] - 'a' + 'A');
  }
  return prefix + "_";
}

Json EnumJson(const pb::EnumValueDescriptor& value) {
  const std::string& type = value.type()->name();
  const std::string prefix = PrefixOf(type);
  const std::string text =
      value.name().starts_with(prefix) ? value.name().substr(prefix.size()) : value.name();
  if (text == "UNSPECIFIED") return "";
  if (type == "OverlapPolicy") return Camel(text);
  const bool lower = type == "Severity" || type == "Role" || type == "Action";
  return lower ? Lower(text) : text;
}

int64_t Part(const pb::Message& message, int number) {
  return message.GetReflection()->GetInt64(message,
                                           message.GetDescriptor()->FindFieldByNumber(number));
}
absl::Duration Span(const pb::Message& message) {
  const auto* nanos = message.GetDescriptor()->FindFieldByNumber(2);
  return absl::Seconds(Part(message, 1)) +
         absl::Nanoseconds(message.GetReflection()->GetInt32(message, nanos));
}

bool IsTime(const pb::Descriptor& type) { return type.full_name() == "google.protobuf.Timestamp"; }
bool IsDuration(const pb::Descriptor& type) {
  return type.full_name() == "google.protobuf.Duration";
}

Json MessageJson(const pb::Message& message) {
  if (IsTime(*message.GetDescriptor())) return TimeText(absl::UnixEpoch() + Span(message));
  if (IsDuration(*message.GetDescriptor())) return DurationText(Span(message));
  return ToJson(message);
}

std::string StringText(const Field& field, const std::string& text) {
  return field.type() == Field::TYPE_BYTES ? HexEncode(text) : text;
}

Json Single(const pb::Message& message, const Field& field) {
  const pb::Reflection& get = *message.GetReflection();
  switch (field.cpp_type()) {
    case Field::CPPTYPE_INT32: return get.GetInt32(message, &field);
    case Field::CPPTYPE_INT64: return get.GetInt64(message, &field);
    case Field::CPPTYPE_UINT32: return get.GetUInt32(message, &field);
    case Field::CPPTYPE_UINT64: return get.GetUInt64(message, &field);
    case Field::CPPTYPE_DOUBLE: return get.GetDouble(message, &field);
    case Field::CPPTYPE_FLOAT: return get.GetFloat(message, &field);
    case Field::CPPTYPE_BOOL: return get.GetBool(message, &field);
    case Field::CPPTYPE_ENUM: return EnumJson(*get.GetEnum(message, &field));
    case Field::CPPTYPE_STRING: return StringText(field, get.GetString(message, &field));
    case Field::CPPTYPE_MESSAGE: return MessageJson(get.GetMessage(message, &field));
  }
  return nullptr;
}

Json Element(const pb::Message& message, const Field& field, int i) {
  const pb::Reflection& get = *message.GetReflection();
  switch (field.cpp_type()) {
    case Field::CPPTYPE_INT32: return get.GetRepeatedInt32(message, &field, i);
    case Field::CPPTYPE_INT64: return get.GetRepeatedInt64(message, &field, i);
    case Field::CPPTYPE_UINT32: return get.GetRepeatedUInt32(message, &field, i);
    case Field::CPPTYPE_UINT64: return get.GetRepeatedUInt64(message, &field, i);
    case Field::CPPTYPE_DOUBLE: return get.GetRepeatedDouble(message, &field, i);
    case Field::CPPTYPE_FLOAT: return get.GetRepeatedFloat(message, &field, i);
    case Field::CPPTYPE_BOOL: return get.GetRepeatedBool(message, &field, i);
    case Field::CPPTYPE_ENUM: return EnumJson(*get.GetRepeatedEnum(message, &field, i));
    case Field::CPPTYPE_STRING: return StringText(field, get.GetRepeatedString(message, &field, i));
    case Field::CPPTYPE_MESSAGE: return MessageJson(get.GetRepeatedMessage(message, &field, i));
  }
  return nullptr;
}

std::string KeyText(const Json& key) {
  return key.is_string() ? key.get<std::string>() : key.dump();
}

// Sorted: the order of a protobuf map is not stable.
Json MapJson(const pb::Message& message, const Field& field) {
  const pb::Reflection& get = *message.GetReflection();
  std::map<std::string, Json> sorted;
  for (int i = 0; i < get.FieldSize(message, &field); ++i) {
    const pb::Message& entry = get.GetRepeatedMessage(message, &field, i);
    sorted[KeyText(Single(entry, *field.message_type()->map_key()))] =
        Single(entry, *field.message_type()->map_value());
  }
  Json json = Json::object();
  for (auto& [key, value] : sorted) json[key] = std::move(value);
  return json;
}

Json RepeatedJson(const pb::Message& message, const Field& field) {
  if (field.is_map()) return MapJson(message, field);
  Json json = Json::array();
  for (int i = 0; i < message.GetReflection()->FieldSize(message, &field); ++i)
    json.push_back(Element(message, field, i));
  return json;
}

bool NullWhenUnset(const Field& field) {
  return field.cpp_type() == Field::CPPTYPE_MESSAGE && field.containing_oneof() == nullptr &&
         (IsTime(*field.message_type()) || IsDuration(*field.message_type()));
}

void EmitYaml(YAML::Emitter& out, const Json& value) {
  if (value.is_structured() && value.empty()) {
    out << YAML::Flow << (value.is_object() ? YAML::BeginMap : YAML::BeginSeq)
        << (value.is_object() ? YAML::EndMap : YAML::EndSeq);
  } else if (value.is_object()) {
    out << YAML::BeginMap;
    for (const auto& [key, part] : value.items()) {
      out << YAML::Key << key << YAML::Value;
      EmitYaml(out, part);
    }
    out << YAML::EndMap;
  } else if (value.is_array()) {
    out << YAML::BeginSeq;
    for (const Json& part : value) EmitYaml(out, part);
    out << YAML::EndSeq;
  } else if (value.is_string()) {
    const std::string text = value.get<std::string>();
    if (!IsPlainYaml(text)) out << YAML::DoubleQuoted;
    out << text;
  } else if (value.is_null()) {
    out << YAML::Null;
  } else {
    out << value.dump();
  }
}

}  // namespace

Json ToJson(const pb::Message& message) {
  Json json = Json::object();
  const pb::Descriptor& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const Field& field = *type.field(i);
    if (field.is_repeated()) {
      json[field.json_name()] = RepeatedJson(message, field);
    } else if (!field.has_presence() || message.GetReflection()->HasField(message, &field)) {
      json[field.json_name()] = Single(message, field);
    } else if (NullWhenUnset(field)) {
      json[field.json_name()] = nullptr;
    }
  }
  return json;
}

std::string LineText(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}
std::string IndentedText(const Json& value) {
  return value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}
std::string YamlText(const Json& value) {
  YAML::Emitter out;
  EmitYaml(out, value);
  return std::string(out.c_str()) + "\n";
}

}  // namespace muster::ctl
