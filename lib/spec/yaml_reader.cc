#include "lib/spec/yaml_reader.h"

#include <set>
#include <vector>

#include "lib/spec/fields.h"

namespace muster::spec {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr int kDeepest = 32;

const FieldDescriptor* FindField(const Descriptor& descriptor, const std::string& name) {
  for (int i = 0; i < descriptor.field_count(); ++i) {
    if (descriptor.field(i)->json_name() == name) return descriptor.field(i);
  }
  return nullptr;
}

std::vector<std::string> FieldNames(const Descriptor& descriptor) {
  std::vector<std::string> names;
  for (int i = 0; i < descriptor.field_count(); ++i)
    names.push_back(descriptor.field(i)->json_name());
  return names;
}

}  // namespace

void YamlReader::Read(const YAML::Node& node, const std::string& path, Message& message,
                      int depth) {
  if (node.IsNull()) return;  // `ping:` is `ping: {}`
  if (!node.IsMap()) return complain_(PlaceOf(node), path, "must be a map of fields");
  if (depth > kDeepest) return complain_(PlaceOf(node), path, "is nested too deeply");
  std::set<std::string> seen;
  for (const auto& entry : node) {
    const Place place = PlaceOf(entry.first);
    if (!entry.first.IsScalar()) {
      complain_(place, path, "has a key that is not a text");
      continue;
    }
    const std::string name = entry.first.Scalar();
    const std::string here = path.empty() ? name : path + "." + name;
    const FieldDescriptor* field = FindField(*message.GetDescriptor(), name);
    if (field == nullptr) {
      complain_(place, here,
                fmt::format("unknown field \"{}\"{}", name,
                            Suggest(name, FieldNames(*message.GetDescriptor()))));
    } else if (!seen.insert(name).second) {
      complain_(place, here, "stands twice");
    } else if (field->real_containing_oneof() != nullptr &&
               message.GetReflection()->HasOneof(message, field->real_containing_oneof())) {
      const auto* other =
          message.GetReflection()->GetOneofFieldDescriptor(message, field->real_containing_oneof());
      complain_(place, here, fmt::format("cannot stand beside {}", other->json_name()));
    } else {
      places_[here] = PlaceOf(entry.second);
      ReadField(entry.second, here, *field, message, depth);
    }
  }
}

void YamlReader::ReadField(const YAML::Node& node, const std::string& path,
                           const FieldDescriptor& field, Message& message, int depth) {
  const Reflection& reflection = *message.GetReflection();
  if (field.is_map()) return ReadMap(node, path, field, message);
  if (field.is_repeated()) {
    if (!node.IsSequence()) return complain_(PlaceOf(node), path, "must be a list");
    for (size_t i = 0; i < node.size(); ++i) {
      const std::string here = fmt::format("{}[{}]", path, i);
      places_[here] = PlaceOf(node[i]);
      if (IsSubMessage(field)) {
        Read(node[i], here, *reflection.AddMessage(&message, &field), depth + 1);
      } else {
        ReadScalar(node[i], here, field, message);
      }
    }
    return;
  }
  if (IsSubMessage(field)) {
    return Read(node, path, *reflection.MutableMessage(&message, &field), depth + 1);
  }
  ReadScalar(node, path, field, message);
}

void YamlReader::ReadScalar(const YAML::Node& node, const std::string& path,
                            const FieldDescriptor& field, Message& message) {
  if (!node.IsScalar()) return complain_(PlaceOf(node), path, "must be a single value");
  const Status set = SetFromText(message, field, node.Scalar());
  if (!set.ok()) complain_(PlaceOf(node), path, std::string(View(set.message())));
}

void YamlReader::ReadMap(const YAML::Node& node, const std::string& path,
                         const FieldDescriptor& field, Message& message) {
  if (node.IsNull()) return;
  if (!node.IsMap()) return complain_(PlaceOf(node), path, "must be a map");
  const FieldDescriptor& key_field = *field.message_type()->FindFieldByNumber(1);
  const FieldDescriptor& value_field = *field.message_type()->FindFieldByNumber(2);
  std::set<std::string> seen;
  for (const auto& entry : node) {
    if (!entry.first.IsScalar() || !entry.second.IsScalar()) {
      complain_(PlaceOf(entry.first), path, "must map texts to single values");
      continue;
    }
    const std::string here = path + "." + entry.first.Scalar();
    places_[here] = PlaceOf(entry.second);
    if (!seen.insert(entry.first.Scalar()).second) {
      complain_(PlaceOf(entry.first), here, "stands twice");
      continue;
    }
    Message& pair = *message.GetReflection()->AddMessage(&message, &field);
    (void)SetFromText(pair, key_field, entry.first.Scalar());
    ReadScalar(entry.second, here, value_field, pair);
  }
}

}  // namespace muster::spec
