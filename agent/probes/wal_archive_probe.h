// The probe of pgBackRest's archive; as those in probes.h.
#pragma once

#include "agent/probes/probes.h"

namespace muster::agent {

ProbeOr MakeWalArchiveProbe(const v1::WalArchiveProbe& spec, const Policy& policy);

}  // namespace muster::agent
