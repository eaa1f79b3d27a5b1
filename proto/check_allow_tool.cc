// Fails the build for an RPC of muster that does not say which roles may call it.
#include <google/protobuf/descriptor.h>

#include <cstdio>

#include "lib/wire/services.h"
#include "muster/v1/options.pb.h"

namespace {

int ClosedMethods(const google::protobuf::FileDescriptor& file) {
  int closed = 0;
  for (int s = 0; s < file.service_count(); ++s) {
    for (int m = 0; m < file.service(s)->method_count(); ++m) {
      const google::protobuf::MethodDescriptor& method = *file.service(s)->method(m);
      if (method.options().ExtensionSize(muster::v1::allow) > 0) continue;
      std::fprintf(stderr, "%s: %s names no role; add option (allow)\n", file.name().c_str(),
                   method.full_name().c_str());
      ++closed;
    }
  }
  return closed;
}

}  // namespace

int main() {
  int closed = 0;
  for (const auto* file : muster::wire::ServiceFiles()) closed += ClosedMethods(*file);
  return closed == 0 ? 0 : 1;
}
