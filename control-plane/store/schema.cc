#include "control-plane/store/schema.h"

#include "embedded_schema.h"

namespace muster::control {

std::span<const std::string_view> Migrations() { return kEmbeddedSchema; }

}  // namespace muster::control
