#include "lib/spec/spec.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "lib/base/hash.h"
#include "lib/base/text.h"
#include "lib/spec/fields.h"
#include "lib/spec/rules.h"
#include "lib/spec/yaml_reader.h"

namespace muster::spec {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr size_t kLargestFile = 1 << 20;
constexpr size_t kMostDocuments = 10'000;
constexpr int kDeepest = 32;
constexpr char kApiVersion[] = "muster/v1";

// Looks at the events before a tree is built of them: aliases are a bomb, depth a stack overflow.
class Screen final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark&) override { ++documents; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { Anchor(mark, anchor); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    Refuse(mark, "anchors and aliases are not taken; write the value out");
  }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                const std::string&) override {
    Anchor(mark, anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Deeper(mark, anchor);
  }
  void OnSequenceEnd() override { --depth_; }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Deeper(mark, anchor);
  }
  void OnMapEnd() override { --depth_; }

  std::optional<Problem> problem;
  size_t documents = 0;

 private:
  void Refuse(const YAML::Mark& mark, const std::string& message) {
    if (!problem.has_value()) problem = Problem{"", mark.line + 1, mark.column + 1, "", message};
  }
  void Anchor(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != 0) Refuse(mark, "anchors and aliases are not taken; write the value out");
  }
  void Deeper(const YAML::Mark& mark, YAML::anchor_t anchor) {
    Anchor(mark, anchor);
    if (++depth_ > kDeepest) {
      Refuse(mark, "is nested too deeply");
      throw YAML::ParserException(mark, "is nested too deeply");
    }
  }
  int depth_ = 0;
};

// The place of a path, or of the nearest thing around it that has one.
Place PlaceNear(const std::map<std::string, Place>& places, std::string path, Place fallback) {
  while (!path.empty()) {
    const auto found = places.find(path);
    if (found != places.end()) return found->second;
    const size_t cut = path.find_last_of(".[");
    path = cut == std::string::npos ? "" : path.substr(0, cut);
  }
  return fallback;
}

const google::protobuf::OneofDescriptor& SpecOneof() {
  return *v1::Document::descriptor()->FindOneofByName("spec");
}

// The kind whose documents hold it: CheckSpec is that of Check.
std::string KindOf(const FieldDescriptor& spec) {
  const std::string& type = spec.message_type()->name();
  return type.substr(0, type.size() - std::string_view("Spec").size());
}

std::vector<std::string> Kinds() {
  std::vector<std::string> kinds;
  for (int i = 0; i < SpecOneof().field_count(); ++i)
    kinds.push_back(KindOf(*SpecOneof().field(i)));
  return kinds;
}

// Null when there is no such kind.
const FieldDescriptor* SpecFieldOf(const std::string& kind) {
  for (int i = 0; i < SpecOneof().field_count(); ++i)
    if (KindOf(*SpecOneof().field(i)) == kind) return SpecOneof().field(i);
  return nullptr;
}

// Null when the document holds none.
const FieldDescriptor* SpecFieldOf(const v1::Document& document) {
  return document.GetReflection()->GetOneofFieldDescriptor(document, &SpecOneof());
}

class DocumentReader {
 public:
  DocumentReader(std::string file, std::vector<Problem>& problems)
      : file_(std::move(file)), problems_(problems) {}

  v1::Document Read(const YAML::Node& root) {
    v1::Document document;
    const size_t before = problems_.size();
    top_ = PlaceOf(root);
    if (!root.IsMap()) {
      Complain(top_, "", "must be a map with apiVersion, kind, metadata and spec");
      return document;
    }
    YamlReader reader([this](Place place, const std::string& path, const std::string& message) {
      Complain(place, path, message);
    });
    ReadTop(root, document, reader);
    if (problems_.size() > before) return document;
    FillDefaults(document);
    CheckRules(document, [&](const std::string& path, const std::string& message) {
      Complain(PlaceNear(reader.places(), path, top_), path, message);
    });
    return document;
  }

 private:
  void ReadTop(const YAML::Node& root, v1::Document& document, YamlReader& reader) {
    std::optional<YAML::Node> spec;
    std::set<std::string> seen;
    for (const auto& entry : root) {
      const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
      const Place place = PlaceOf(entry.first);
      if (!seen.insert(key).second) {
        Complain(place, key, "stands twice");
      } else if (key == "apiVersion" || key == "kind") {
        const std::string text = entry.second.IsScalar() ? entry.second.Scalar() : "";
        (key == "kind" ? *document.mutable_kind() : *document.mutable_api_version()) = text;
        reader.SetPlace(key, PlaceOf(entry.second));
      } else if (key == "metadata") {
        reader.SetPlace(key, PlaceOf(entry.second));
        reader.Read(entry.second, "metadata", *document.mutable_metadata());
      } else if (key == "spec") {
        reader.SetPlace(key, PlaceOf(entry.second));
        spec = entry.second;
      } else {
        Complain(place, key,
                 fmt::format("unknown field \"{}\"{}", key,
                             Suggest(key, {"apiVersion", "kind", "metadata", "spec"})));
      }
    }
    const auto at = [&](const char* key) { return PlaceNear(reader.places(), key, top_); };
    if (document.api_version() != kApiVersion) {
      Complain(at("apiVersion"), "apiVersion", fmt::format("must be {}", kApiVersion));
    }
    const FieldDescriptor* field = SpecFieldOf(document.kind());
    if (field == nullptr) {
      return Complain(
          at("kind"), "kind",
          fmt::format("\"{}\" is no kind{}", document.kind(), Suggest(document.kind(), Kinds())));
    }
    reader.Read(spec.value_or(YAML::Node(YAML::NodeType::Map)), "spec",
                *document.GetReflection()->MutableMessage(&document, field));
  }

  void Complain(Place place, const std::string& path, const std::string& message) {
    problems_.push_back({file_, place.line, place.column, path, message});
  }

  const std::string file_;
  std::vector<Problem>& problems_;
  Place top_;
};

// For the mistake that everybody makes with cron: YAML takes a * for an alias.
std::string QuotesRemedy(std::string_view yaml, const YAML::Mark& mark) {
  const bool star = mark.pos >= 0 && static_cast<size_t>(mark.pos) < yaml.size() &&
                    yaml[static_cast<size_t>(mark.pos)] == '*';
  return star ? "; a text that begins with * stands in quotes, as in cron: \"*/5 * * * *\"" : "";
}

void ReadAll(const std::string& yaml, const std::string& file, Parsed& parsed) {
  std::istringstream input(yaml);
  Screen screen;
  YAML::Parser parser(input);
  while (!screen.problem.has_value() && screen.documents <= kMostDocuments &&
         parser.HandleNextDocument(screen)) {
  }
  if (screen.problem.has_value()) {
    screen.problem->file = file;
    parsed.problems.push_back(*screen.problem);
    return;
  }
  if (screen.documents > kMostDocuments) {
    parsed.problems.push_back(
        {file, 0, 0, "", fmt::format("holds more than {} documents", kMostDocuments)});
    return;
  }
  std::set<std::pair<std::string, std::string>> names;
  DocumentReader reader(file, parsed.problems);
  for (const YAML::Node& root : YAML::LoadAll(yaml)) {
    if (root.IsNull()) continue;  // an empty document between two lines of dashes
    v1::Document document = reader.Read(root);
    if (!names.emplace(document.kind(), document.metadata().name()).second &&
        !document.metadata().name().empty()) {
      const Place place = PlaceOf(root);
      parsed.problems.push_back({file, place.line, place.column, "metadata.name",
                                 fmt::format("{}/{} stands twice in the file", document.kind(),
                                             document.metadata().name())});
    }
    parsed.documents.push_back(std::move(document));
  }
}

void Emit(YAML::Emitter& out, const Message& message);

void EmitText(YAML::Emitter& out, const std::string& text, bool is_text) {
  if (is_text && !IsPlainYaml(text)) out << YAML::DoubleQuoted;
  out << text;
}

void EmitValue(YAML::Emitter& out, const Message& message, const FieldDescriptor& field,
               int index) {
  const bool is_text = field.cpp_type() == FieldDescriptor::CPPTYPE_STRING;
  EmitText(out, ToText(message, field, index), is_text);
}

void EmitMap(YAML::Emitter& out, const Message& message, const FieldDescriptor& field) {
  std::map<std::string, std::string> sorted;
  for (int i = 0; i < message.GetReflection()->FieldSize(message, &field); ++i) {
    const Message& pair = message.GetReflection()->GetRepeatedMessage(message, &field, i);
    sorted[ToText(pair, *field.message_type()->FindFieldByNumber(1), -1)] =
        ToText(pair, *field.message_type()->FindFieldByNumber(2), -1);
  }
  out << YAML::BeginMap;
  for (const auto& [key, value] : sorted) {
    out << YAML::Key;
    EmitText(out, key, true);
    out << YAML::Value;
    EmitText(out, value, true);
  }
  out << YAML::EndMap;
}

void EmitList(YAML::Emitter& out, const Message& message, const FieldDescriptor& field) {
  out << YAML::BeginSeq;
  for (int i = 0; i < message.GetReflection()->FieldSize(message, &field); ++i)
    Emit(out, message.GetReflection()->GetRepeatedMessage(message, &field, i));
  out << YAML::EndSeq;
}

void EmitField(YAML::Emitter& out, const Message& message, const FieldDescriptor& field) {
  out << YAML::Key << field.json_name() << YAML::Value;
  if (field.is_map()) return EmitMap(out, message, field);
  if (field.is_repeated() && IsSubMessage(field)) return EmitList(out, message, field);
  if (field.is_repeated()) {
    out << YAML::Flow << YAML::BeginSeq;
    for (int i = 0; i < message.GetReflection()->FieldSize(message, &field); ++i)
      EmitValue(out, message, field, i);
    out << YAML::EndSeq;
    return;
  }
  if (IsSubMessage(field)) {
    return Emit(out, message.GetReflection()->GetMessage(message, &field));
  }
  EmitValue(out, message, field, -1);
}

void Emit(YAML::Emitter& out, const Message& message) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  out << YAML::BeginMap;
  for (const FieldDescriptor* field : fields) EmitField(out, message, *field);
  out << YAML::EndMap;
}

}  // namespace

std::string Text(const Problem& problem) {
  std::string text = problem.file;
  if (problem.line > 0) text += fmt::format(":{}:{}", problem.line, problem.column);
  if (!problem.field.empty()) text += ": " + problem.field;
  return text + ": " + problem.message;
}

Parsed ParseYaml(std::string_view yaml, std::string_view file) {
  Parsed parsed;
  const std::string name(file);
  if (yaml.size() > kLargestFile) {
    parsed.problems.push_back({name, 0, 0, "", "is larger than 1 MiB; split it"});
    return parsed;
  }
  try {
    ReadAll(std::string(yaml), name, parsed);
  } catch (const YAML::Exception& error) {
    parsed.problems.push_back({name, error.mark.line + 1, error.mark.column + 1, "",
                               error.msg + QuotesRemedy(yaml, error.mark)});
  } catch (const std::exception& error) {
    parsed.problems.push_back({name, 0, 0, "", fmt::format("is not YAML: {}", error.what())});
  }
  return parsed;
}

std::vector<Problem> ValidateDocument(v1::Document& document) {
  std::vector<Problem> problems;
  const std::string name = document.kind() + "/" + document.metadata().name();
  const auto complain = [&](const std::string& path, const std::string& message) {
    problems.push_back({name, 0, 0, path, message});
  };
  if (document.api_version() != kApiVersion)
    complain("apiVersion", fmt::format("must be {}", kApiVersion));
  const FieldDescriptor* spec = SpecFieldOf(document);
  if (spec == nullptr || KindOf(*spec) != document.kind())
    complain("kind", "is not the kind of its spec");
  if (!problems.empty()) return problems;
  FillDefaults(document);
  CheckRules(document, complain);
  return problems;
}

const Message& SpecOf(const v1::Document& document) {
  const FieldDescriptor* spec = SpecFieldOf(document);
  return spec == nullptr ? document.job() : document.GetReflection()->GetMessage(document, spec);
}

std::string FormatYaml(const v1::Document& document) {
  YAML::Emitter out;
  out << YAML::BeginMap;
  out << YAML::Key << "apiVersion" << YAML::Value << document.api_version();
  out << YAML::Key << "kind" << YAML::Value << document.kind();
  out << YAML::Key << "metadata" << YAML::Value;
  Emit(out, document.metadata());
  out << YAML::Key << "spec" << YAML::Value;
  Emit(out, SpecOf(document));
  out << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

std::string DocumentHash(const v1::Document& document) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    document.SerializeToCodedStream(&coded);
  }
  return HexEncode(Sha256(bytes));
}

}  // namespace muster::spec
