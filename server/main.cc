// attendant-server: serves transformers over gRPC. See server_options.cc for its flags.

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <atomic>
#include <iostream>
#include <thread>
#include <vector>

#include "absl/flags/parse.h"
#include "absl/log/globals.h"
#include "absl/log/initialize.h"
#include "absl/log/log.h"
#include "absl/synchronization/notification.h"
#include "server/inference_server.h"
#include "server/server_options.h"

namespace attendant::server {
namespace {

constexpr int kExitUsage = 2;
constexpr int kExitFailure = 1;

sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

// The first signal ends the loading, or asks for a drain; the second ends the process.
void WaitForSignals(const std::atomic<bool>& loading, absl::Notification& stop) {
  const sigset_t signals = StopSignals();
  int signal = 0;
  sigwait(&signals, &signal);
  LOG(INFO) << "received " << strsignal(signal);
  if (loading) _exit(0);
  stop.Notify();
  sigwait(&signals, &signal);
  LOG(WARNING) << "received " << strsignal(signal) << " again: ending now";
  _exit(kExitFailure);
}

int Main(int argc, char** argv) {
  // Before there are threads, so that only WaitForSignals sees them.
  const sigset_t signals = StopSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  DescribeFlags();
  absl::SetStderrThreshold(absl::LogSeverityAtLeast::kInfo);
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  absl::InitializeLog();
  if (arguments.size() > 1) {
    std::cerr << "attendant-server takes no arguments beside flags, and was given \""
              << arguments[1] << "\"\n";
    return kExitUsage;
  }
  const absl::StatusOr<ServerOptions> options = ServerOptionsFromFlags();
  if (!options.ok()) {
    std::cerr << options.status().message() << "\n";
    return kExitUsage;
  }

  // The thread outlives this function.
  static std::atomic<bool> loading = true;
  static absl::Notification stop;
  std::thread([] { WaitForSignals(loading, stop); }).detach();

  auto server = InferenceServer::Start(*options);
  absl::Status status = server.status();
  if (status.ok()) status = (*server)->LoadModels();
  if (!status.ok()) {
    LOG(ERROR) << status.message();
    return kExitFailure;
  }
  loading = false;
  stop.WaitForNotification();
  (*server)->Drain(options->drain_settle, options->drain_timeout);
  return 0;
}

}  // namespace
}  // namespace attendant::server

int main(int argc, char** argv) { return attendant::server::Main(argc, argv); }
