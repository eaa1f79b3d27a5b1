// Whatever a plugin prints, its output is read within bounds and as valid text.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "agent/probes/perfdata.h"
#include "lib/base/text.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const muster::agent::PluginOutput output = muster::agent::ParsePluginOutput(text);
  if (output.figures.size() > 64) std::abort();
  if (muster::OneLine(output.summary) != output.summary) std::abort();
  for (const muster::agent::Perf& figure : output.figures) {
    if (figure.label.empty() || figure.label.size() > 128 || !std::isfinite(figure.value))
      std::abort();
    if (muster::OneLine(figure.label) != figure.label) std::abort();
  }
  return 0;
}
