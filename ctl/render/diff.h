// What differs between two texts, line by line, as `diff -u` writes it. Pure; any thread may call.
#pragma once

#include <string>
#include <string_view>

namespace muster::ctl {

// Empty when they are the same. Whole texts are shown: spec documents are short.
std::string DiffText(std::string_view name, std::string_view before, std::string_view after);

}  // namespace muster::ctl
