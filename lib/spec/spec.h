// Spec files: YAML documents to and from protobuf.
//
// Reading is strict: unknown fields, wrong types, repeated keys, values that a field's (rule)
// refuses, and references between fields that make no sense are errors, each with file, line,
// column, field path and remedy. All errors of a file are reported, not only the first. Pure; any
// thread may call.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lib/base/status.h"
#include "muster/v1/document.pb.h"

namespace muster::spec {

struct Problem {
  std::string file;
  int line = 0;         // from 1; 0 when the whole document is meant
  int column = 0;       // from 1
  std::string field;    // "spec.probe.http.url"; empty for the document itself
  std::string message;  // what is wrong, and what to write instead
};
// "checks.yaml:7:5: spec.probe.http.url: …"
std::string Text(const Problem& problem);

struct Parsed {
  std::vector<v1::Document> documents;  // defaults filled in; in file order
  std::vector<Problem> problems;        // empty: all is well
};

// Limits: 1 MiB a file, 10,000 documents, depth 32, no YAML aliases (a bomb otherwise).
Parsed ParseYaml(std::string_view yaml, std::string_view file);

// For documents that did not come as YAML (the control plane checks what it is sent). Fills
// defaults in. `file` of the problems is "Check/NAME".
std::vector<Problem> ValidateDocument(v1::Document& document);

// What stands under `spec`, whichever kind it is; an empty one where the document holds none.
const google::protobuf::Message& SpecOf(const v1::Document& document);

// The document as an operator would write it: apiVersion, kind, metadata, spec; fields in proto
// order; durations as "10s"; enums as "warning" and "bufferOne". ParseYaml reads it back to the
// same message.
std::string FormatYaml(const v1::Document& document);

// SHA-256, hex, over the deterministic serialisation.
std::string DocumentHash(const v1::Document& document);

}  // namespace muster::spec
