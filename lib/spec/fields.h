// What the reader, the rules and the writer share: names of fields, texts of enums, durations.
#pragma once

#include <google/protobuf/descriptor.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/message.h>

#include <string>
#include <string_view>
#include <vector>

#include <absl/time/time.h>

#include "lib/base/status.h"
#include "muster/v1/options.pb.h"

namespace muster::spec {

inline constexpr char kDuration[] = "google.protobuf.Duration";

inline bool IsDuration(const google::protobuf::FieldDescriptor& field) {
  return field.cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE &&
         field.message_type()->full_name() == kDuration;
}

// Another message, with fields of its own: neither a map's entry nor a duration.
inline bool IsSubMessage(const google::protobuf::FieldDescriptor& field) {
  return field.cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE &&
         !field.is_map() && !IsDuration(field);
}

inline absl::Duration ToAbsl(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

const v1::FieldRule& RuleOf(const google::protobuf::FieldDescriptor& field);

// Sets a scalar, enum or duration field (an element, if it is repeated) from its text form.
// InvalidArgument says what to write instead.
Status SetFromText(google::protobuf::Message& message,
                   const google::protobuf::FieldDescriptor& field, const std::string& text);
// The text form of a scalar, enum or duration; `index` is -1 for a field that is not repeated.
std::string ToText(const google::protobuf::Message& message,
                   const google::protobuf::FieldDescriptor& field, int index);

// ", did you mean "x"?" or the list of what there is.
std::string Suggest(std::string_view wrong, const std::vector<std::string>& names);

}  // namespace muster::spec
