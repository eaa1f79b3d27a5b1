// The schema's migrations, in order: entry i is version i + 1. Released ones never change.
#pragma once

#include <span>
#include <string_view>

namespace muster::control {

std::span<const std::string_view> Migrations();

}  // namespace muster::control
