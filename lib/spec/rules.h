// What a document must hold beyond its types: the (rule) and (exactly_one) options of the protocol,
// defaults, and what fields demand of one another.
#pragma once

#include <functional>
#include <string>

#include "muster/v1/document.pb.h"

namespace muster::spec {

// Called with the path of the field ("spec.probe.http.url") and what is wrong with it.
using Complain = std::function<void(const std::string& path, const std::string& message)>;

// Fills in what is not set and has a default, in every message that is present.
void FillDefaults(v1::Document& document);
void CheckRules(const v1::Document& document, const Complain& complain);

}  // namespace muster::spec
