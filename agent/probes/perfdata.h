// The output of Nagios plugins: text before '|', performance data after it, on the first line and
// on those that follow (Monitoring Plugins Development Guidelines, "Plugin Output" and "Performance
// data"). Pure; takes any bytes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace muster::agent {

struct Perf {
  std::string label;
  double value = 0;
  std::string unit;  // "s", "B", "%", "c" or empty: ms, KB and the like are converted
};

struct PluginOutput {
  std::string summary;        // the first line's text
  std::vector<Perf> figures;  // at most 64
};

PluginOutput ParsePluginOutput(std::string_view output);
// 'label'=value[UOM];[warn];[crit];[min];[max] …; what cannot be read is left out.
std::vector<Perf> ParsePerfdata(std::string_view text);

}  // namespace muster::agent
