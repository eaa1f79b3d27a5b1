// YAML nodes to protobuf messages by reflection, with the place of every field.
#pragma once

#include <google/protobuf/message.h>
#include <yaml-cpp/yaml.h>

#include <functional>
#include <map>
#include <string>

namespace muster::spec {

struct Place {
  int line = 0;  // from 1
  int column = 0;
};

inline Place PlaceOf(const YAML::Node& node) {
  return {node.Mark().line + 1, node.Mark().column + 1};
}

class YamlReader {
 public:
  using Complain =
      std::function<void(Place place, const std::string& path, const std::string& message)>;
  explicit YamlReader(Complain complain) : complain_(std::move(complain)) {}

  // Fills `message` from a map; unknown fields, repeated keys and wrong types are complained of.
  void Read(const YAML::Node& node, const std::string& path, google::protobuf::Message& message,
            int depth = 0);
  // Where fields were read, by path.
  const std::map<std::string, Place>& places() const { return places_; }
  void SetPlace(const std::string& path, Place place) { places_[path] = place; }

 private:
  void ReadField(const YAML::Node& node, const std::string& path,
                 const google::protobuf::FieldDescriptor& field, google::protobuf::Message& message,
                 int depth);
  void ReadScalar(const YAML::Node& node, const std::string& path,
                  const google::protobuf::FieldDescriptor& field,
                  google::protobuf::Message& message);
  void ReadMap(const YAML::Node& node, const std::string& path,
               const google::protobuf::FieldDescriptor& field, google::protobuf::Message& message);

  const Complain complain_;
  std::map<std::string, Place> places_;
};

}  // namespace muster::spec
