// Calls for tests of who may call what: any method by its name, and the cheapest one.
#pragma once

#include <google/protobuf/descriptor.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/status.h"
#include "lib/wire/services.h"
#include "muster/v1/agent_link.pb.h"
#include "muster/v1/alert_service.pb.h"
#include "muster/v1/enrollment.pb.h"
#include "muster/v1/identity.pb.h"
#include "muster/v1/spec_service.pb.h"
#include "muster/v1/state_service.pb.h"
#include "muster/v1/system_service.grpc.pb.h"

namespace muster::control {

// One of those that the main port serves, or of the enrolment port's.
struct Method {
  std::string path;  // "/muster.v1.SpecService/ListSpecs"
  std::string name;
  std::set<v1::Role> allowed;
  bool streaming = false;
  bool enrolment = false;
};

inline std::vector<Method> Methods() {
  std::vector<Method> methods;
  for (const auto* file : wire::ServiceFiles()) {
    for (int m = 0; m < file->service(0)->method_count(); ++m) {
      const auto* method = file->service(0)->method(m);
      Method one{fmt::format("/{}/{}", file->service(0)->full_name(), method->name()),
                 method->full_name(),
                 {},
                 method->client_streaming() || method->server_streaming(),
                 file == v1::JoinRequest::descriptor()->file()};
      for (int i = 0; i < method->options().ExtensionSize(v1::allow); ++i) {
        one.allowed.insert(method->options().GetExtension(v1::allow, i));
      }
      methods.push_back(std::move(one));
    }
  }
  return methods;
}

// Calls any method with an empty message, and gives the status.
inline grpc::Status CallEmpty(const std::shared_ptr<grpc::Channel>& channel, const Method& method) {
  grpc::GenericStub stub(channel);
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  context.set_deadline(
      absl::ToChronoTime(SystemClock().Now() + absl::Seconds(method.streaming ? 2 : 10)));
  const auto call = stub.PrepareCall(&context, method.path, &queue);
  grpc::Status status;
  void* tag = nullptr;
  bool ok = false;
  call->StartCall(nullptr);
  queue.Next(&tag, &ok);
  grpc::Slice nothing;
  call->WriteLast(grpc::ByteBuffer(&nothing, 1), grpc::WriteOptions(), nullptr);
  queue.Next(&tag, &ok);
  do {  // the status comes after the last message
    grpc::ByteBuffer answer;
    call->Read(&answer, nullptr);
    queue.Next(&tag, &ok);
  } while (ok);
  call->Finish(&status, nullptr);
  queue.Next(&tag, &ok);
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) continue;
  return status;
}

inline grpc::Status Version(const std::shared_ptr<grpc::Channel>& channel) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(SystemClock().Now() + absl::Seconds(10)));
  v1::VersionResponse response;
  return v1::SystemService::NewStub(channel)->Version(&context, {}, &response);
}

}  // namespace muster::control
