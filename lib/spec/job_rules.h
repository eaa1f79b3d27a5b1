// What the fields of a job demand of one another, as far as the text alone can tell.
//
// What depends on the calendar (a jitter that reaches cron's next slot, windows that never end) is
// the control plane's to refuse when the job is applied.
#pragma once

#include "lib/spec/rules.h"
#include "muster/v1/job.pb.h"

namespace muster::spec {

// Of a job whose defaults are filled in.
void CheckJob(const v1::JobSpec& job, const Complain& complain);

}  // namespace muster::spec
