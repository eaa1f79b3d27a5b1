// The schema's migrations, embedded from schema/NNNN_*.sql in the order of their names: entry i is
// version i + 1. Released ones never change.
#pragma once

#include <span>
#include <string_view>

namespace muster::control {

std::span<const std::string_view> Migrations();

}  // namespace muster::control
