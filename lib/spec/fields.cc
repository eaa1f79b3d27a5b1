#include "lib/spec/fields.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "lib/base/text.h"

namespace muster::spec {
namespace {

using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// SEVERITY_WARNING of enum Severity → "WARNING".
std::string BareName(const EnumValueDescriptor& value) {
  const std::string& first = value.type()->value(0)->name();
  constexpr std::string_view kUnspecified = "UNSPECIFIED";
  const size_t prefix = first.ends_with(kUnspecified) ? first.size() - kUnspecified.size() : 0;
  return value.name().substr(prefix);
}

// "WARNING" → "warning", "BUFFER_ONE" → "bufferOne".
std::string EnumText(const EnumValueDescriptor& value) {
  std::string text;
  bool capital = false;
  for (const char c : BareName(value)) {
    if (c != '_') text += capital ? std::string(1, c) : Lower(std::string(1, c));
    capital = c == '_';
  }
  return text;
}

// In any case of letters, and as buffer_one too.
bool Means(const std::string& text, const EnumValueDescriptor& value) {
  return Lower(text) == Lower(EnumText(value)) || Lower(text) == Lower(BareName(value));
}

template <typename Number>
StatusOr<Number> ParseNumber(const std::string& text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) {
    return InvalidArgument("\"{}\" is not {}", text,
                           std::is_integral_v<Number> ? "a whole number that fits" : "a number");
  }
  return number;
}

Status SetEnum(Message& message, const FieldDescriptor& field, const std::string& text) {
  std::vector<std::string> names;
  for (int i = 1; i < field.enum_type()->value_count(); ++i) {
    const EnumValueDescriptor& value = *field.enum_type()->value(i);
    names.push_back(EnumText(value));
    if (!Means(text, value)) continue;
    const Reflection& reflection = *message.GetReflection();
    field.is_repeated() ? reflection.AddEnum(&message, &field, &value)
                        : reflection.SetEnum(&message, &field, &value);
    return OkStatus();
  }
  return InvalidArgument("\"{}\" is none of the values{}", text, Suggest(text, names));
}

Status SetDuration(Message& message, const FieldDescriptor& field, const std::string& text) {
  MUSTER_ASSIGN_OR_RETURN(absl::Duration duration, ParseDuration(text));
  const Reflection& reflection = *message.GetReflection();
  auto& proto = static_cast<google::protobuf::Duration&>(
      *(field.is_repeated() ? reflection.AddMessage(&message, &field)
                            : reflection.MutableMessage(&message, &field)));
  proto.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &duration));
  proto.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
  return OkStatus();
}

Status SetBool(Message& message, const FieldDescriptor& field, const std::string& text) {
  if (text != "true" && text != "false")
    return InvalidArgument("\"{}\" is neither true nor false", text);
  const Reflection& reflection = *message.GetReflection();
  field.is_repeated() ? reflection.AddBool(&message, &field, text == "true")
                      : reflection.SetBool(&message, &field, text == "true");
  return OkStatus();
}

size_t Distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t corner = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, corner + (a[i - 1] == b[j - 1] ? 0 : 1)});
      corner = above;
    }
  }
  return row[b.size()];
}

}  // namespace

const v1::FieldRule& RuleOf(const FieldDescriptor& field) {
  return field.options().GetExtension(v1::rule);
}

Status SetFromText(Message& message, const FieldDescriptor& field, const std::string& text) {
  const Reflection& reflection = *message.GetReflection();
  const bool add = field.is_repeated();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      add ? reflection.AddString(&message, &field, text)
          : reflection.SetString(&message, &field, text);
      return OkStatus();
    case FieldDescriptor::CPPTYPE_BOOL: return SetBool(message, field, text);
    case FieldDescriptor::CPPTYPE_ENUM: return SetEnum(message, field, text);
    case FieldDescriptor::CPPTYPE_MESSAGE: return SetDuration(message, field, text);
    case FieldDescriptor::CPPTYPE_UINT32: {
      MUSTER_ASSIGN_OR_RETURN(const uint32_t number, ParseNumber<uint32_t>(text));
      add ? reflection.AddUInt32(&message, &field, number)
          : reflection.SetUInt32(&message, &field, number);
      return OkStatus();
    }
    case FieldDescriptor::CPPTYPE_UINT64: {
      MUSTER_ASSIGN_OR_RETURN(const uint64_t number, ParseNumber<uint64_t>(text));
      add ? reflection.AddUInt64(&message, &field, number)
          : reflection.SetUInt64(&message, &field, number);
      return OkStatus();
    }
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      MUSTER_ASSIGN_OR_RETURN(const double number, ParseNumber<double>(text));
      if (!std::isfinite(number)) return InvalidArgument("\"{}\" is not a finite number", text);
      add ? reflection.AddDouble(&message, &field, number)
          : reflection.SetDouble(&message, &field, number);
      return OkStatus();
    }
    default: return Internal("fields of type {} have no text form", field.cpp_type_name());
  }
}

std::string ToText(const Message& message, const FieldDescriptor& field, int index) {
  const Reflection& reflection = *message.GetReflection();
  const bool one = index < 0;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return one ? reflection.GetString(message, &field)
                 : reflection.GetRepeatedString(message, &field, index);
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetBool(message, &field) ? "true" : "false";
    case FieldDescriptor::CPPTYPE_ENUM: return EnumText(*reflection.GetEnum(message, &field));
    case FieldDescriptor::CPPTYPE_UINT32:
      return fmt::format("{}", one ? reflection.GetUInt32(message, &field)
                                   : reflection.GetRepeatedUInt32(message, &field, index));
    case FieldDescriptor::CPPTYPE_UINT64:
      return fmt::format("{}", reflection.GetUInt64(message, &field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return fmt::format("{}", reflection.GetDouble(message, &field));
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      const auto& duration =
          static_cast<const google::protobuf::Duration&>(reflection.GetMessage(message, &field));
      return DurationText(absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos()));
    }
    default: return "";
  }
}

std::string Suggest(std::string_view wrong, const std::vector<std::string>& names) {
  const std::string* best = nullptr;
  size_t least = 3;
  for (const std::string& name : names) {
    const size_t distance = Distance(wrong, name);
    if (distance < least) {
      least = distance;
      best = &name;
    }
  }
  if (best != nullptr) return fmt::format("; did you mean \"{}\"?", *best);
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list.empty() ? "" : "; there are: " + list;
}

}  // namespace muster::spec
