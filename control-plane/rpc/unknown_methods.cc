#include "control-plane/rpc/unknown_methods.h"

#include "lib/base/text.h"

namespace muster::control {
namespace {

class Refusal final : public grpc::ServerGenericBidiReactor {
 public:
  explicit Refusal(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

}  // namespace

grpc::ServerGenericBidiReactor* UnknownMethods::CreateReactor(
    grpc::GenericCallbackServerContext* context) {
  gate_.Refuse(*context);
  return new Refusal({grpc::StatusCode::UNIMPLEMENTED,
                      fmt::format("there is no method {} here; is the caller of a newer version?",
                                  OneLine(Truncate(context->method(), 100)))});
}

}  // namespace muster::control
