// musterctl: what operators type.
#include "ctl/commands/cli.h"
#include "lib/net/tls.h"

int main(int argc, char** argv) {
  muster::net::PrepareTls();
  return muster::ctl::RunCli(argc, argv);
}
