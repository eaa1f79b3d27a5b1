#include "tests/bench/fleet/apply.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "lib/base/clock.h"
#include "lib/net/status.h"
#include "lib/wire/time.h"
#include "muster/v1/spec_service.grpc.pb.h"

namespace muster::bench {
namespace {

constexpr absl::Duration kWithin = absl::Seconds(30);
constexpr char kPrefix[] = "fleet-";
constexpr uint32_t kDocumentsACall = 200;

std::string NameOf(uint32_t number) { return fmt::format("{}{:03}", kPrefix, number); }

v1::Document DocumentOf(uint32_t number, const ChecksOptions& options) {
  v1::Document document;
  document.set_api_version("muster/v1");
  document.set_kind("Check");
  document.mutable_metadata()->set_name(NameOf(number));
  v1::CheckSpec& spec = *document.mutable_check();
  for (const auto& [label, value] : options.agents) (*spec.mutable_agents())[label] = value;
  *spec.mutable_every() = wire::ToProto(options.every);
  *spec.mutable_timeout() = wire::ToProto(std::min(options.every, absl::Seconds(2)));
  spec.mutable_confirm()->set_failures(options.failures);
  spec.mutable_confirm()->set_successes(1);
  spec.mutable_probe()->mutable_http()->set_url("http://127.0.0.1:8080/health");
  return document;
}

class Specs {
 public:
  explicit Specs(const std::shared_ptr<grpc::Channel>& channel)
      : stub_(v1::SpecService::NewStub(channel)) {}

  Status Apply(const ChecksOptions& options) {
    for (uint32_t next = 1; next <= options.checks;) {
      v1::ApplySpecsRequest request;
      for (uint32_t i = 0; i < kDocumentsACall && next <= options.checks; ++i) {
        *request.add_documents() = DocumentOf(next++, options);
      }
      v1::ApplySpecsResponse response;
      MUSTER_RETURN_IF_ERROR(Call(&v1::SpecService::Stub::ApplySpecs, request, response));
    }
    return OkStatus();
  }

  // Those of the fleet beyond the number.
  Status DeleteBeyond(uint32_t checks) {
    v1::DeleteSpecsRequest surplus;
    v1::ListSpecsRequest page;
    page.set_kind("Check");
    do {
      v1::ListSpecsResponse found;
      MUSTER_RETURN_IF_ERROR(Call(&v1::SpecService::Stub::ListSpecs, page, found));
      for (const v1::StoredSpec& spec : found.items()) {
        const std::string& name = spec.document().metadata().name();
        if (!name.starts_with(kPrefix) || IsWithin(name, checks)) continue;
        v1::SpecName& gone = *surplus.add_names();
        gone.set_kind("Check");
        gone.set_name(name);
      }
      page.set_page_token(found.next_page_token());
    } while (!page.page_token().empty());
    if (surplus.names().empty()) return OkStatus();
    v1::DeleteSpecsResponse response;
    return Call(&v1::SpecService::Stub::DeleteSpecs, surplus, response);
  }

 private:
  static bool IsWithin(const std::string& name, uint32_t checks) {
    const uint64_t number = std::strtoull(name.c_str() + sizeof kPrefix - 1, nullptr, 10);
    return number <= checks && number > 0 && name == NameOf(static_cast<uint32_t>(number));
  }

  template <typename Request, typename Response>
  Status Call(grpc::Status (v1::SpecService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                            Response*),
              const Request& request, Response& response) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(SystemClock().Now() + kWithin));
    return net::ToAbsl((stub_.get()->*method)(&context, request, &response));
  }

  const std::unique_ptr<v1::SpecService::Stub> stub_;
};

}  // namespace

Status ApplyChecks(const net::Context& context, const ChecksOptions& options) {
  Status last = InvalidArgument("the context names no server");
  for (const std::string& server : context.servers) {
    Specs specs(net::OpenChannel(server, context.identity));
    last = Annotate(specs.Apply(options), server);
    if (last.ok()) return specs.DeleteBeyond(options.checks);
  }
  return last;
}

}  // namespace muster::bench
