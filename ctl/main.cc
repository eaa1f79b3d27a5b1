// musterctl: what operators type.
#include "ctl/commands/cli.h"
#include "lib/net/tls.h"
#include "lib/program/program.h"

int main(int argc, char** argv) {
  muster::LeaveLockOrderToTests();
  muster::net::PrepareTls();
  return muster::ctl::RunCli(argc, argv);
}
