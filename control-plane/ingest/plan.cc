#include "control-plane/ingest/plan.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "lib/base/hash.h"
#include "lib/decide/selector.h"

namespace muster::control {
namespace {

std::string Deterministic(const google::protobuf::Message& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

}  // namespace

v1::Plan PlanFor(const CheckBook& book, std::string_view agent, const Labels& labels) {
  v1::Plan plan;
  for (const SpecRow& row : book.checks) {
    if (!decide::Selects(row.document.check().agents(), agent, labels)) continue;
    v1::PlannedCheck& check = *plan.add_checks();
    check.set_id(row.check_id);
    check.set_name(row.document.metadata().name());
    *check.mutable_spec() = row.document.check();
  }
  plan.set_hash(Sha256(Deterministic(plan)));
  return plan;
}

std::vector<uint32_t> IdsOf(const v1::Plan& plan) {
  std::vector<uint32_t> ids;
  for (const v1::PlannedCheck& check : plan.checks()) ids.push_back(check.id());
  return ids;
}

}  // namespace muster::control
