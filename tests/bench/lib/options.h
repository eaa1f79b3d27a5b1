// The command lines of benches.
#pragma once

#include <CLI/CLI.hpp>

#include <string>

namespace muster::bench {

// -1: it was read. Else what to end with; all there is to say was said.
inline int ReadCommandLine(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
    return -1;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
}

inline void AddStore(CLI::App& app, std::string& store) {
  app.add_option("--store", store, "PostgreSQL 15 is started for the run, and its CPU not counted")
      ->check(CLI::IsMember({"sqlite", "postgresql"}))
      ->capture_default_str();
}

}  // namespace muster::bench
