#include "tests/integration/server_program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/support/test_data.h"

namespace attendant::server {
namespace {

std::string NewFolder() {
  static int num_made = 0;
  return absl::StrCat(::testing::TempDir(), "/server_program.", getpid(), ".", ++num_made);
}

}  // namespace

ServerProgram::ServerProgram(std::vector<std::string> arguments) : folder_(NewFolder()) {
  std::filesystem::create_directories(folder_);
  arguments.insert(arguments.begin(), ATTENDANT_SERVER);
  arguments.push_back(absl::StrCat("--port_file=", port_file()));
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const std::string output = output_file();
  pid_ = fork();
  if (pid_ != 0) return;
  const int fd = open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  dup2(fd, STDOUT_FILENO);
  dup2(fd, STDERR_FILENO);
  execv(argv[0], argv.data());
  _exit(127);
}

ServerProgram::~ServerProgram() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  std::filesystem::remove_all(folder_);
}

void ServerProgram::Signal(int signal) { kill(pid_, signal); }

int ServerProgram::Wait() {
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int ServerProgram::Port(const std::string& name) {
  const absl::Time give_up = absl::Now() + absl::Seconds(60);
  while (!std::filesystem::exists(port_file()) && absl::Now() < give_up)
    absl::SleepFor(absl::Milliseconds(20));
  if (!std::filesystem::exists(port_file())) return 0;
  for (absl::string_view line :
       absl::StrSplit(attendant::testing::ReadFileOrDie(port_file()), '\n')) {
    int port;
    if (absl::ConsumePrefix(&line, absl::StrCat(name, "=")) && absl::SimpleAtoi(line, &port))
      return port;
  }
  return 0;
}

std::string ServerProgram::Output() { return attendant::testing::ReadFileOrDie(output_file()); }

// A line of /proc/PID/status is "VmHWM:    12345 kB".
int64_t ServerProgram::StatusBytes(const std::string& key) const {
  std::ifstream file(absl::StrCat("/proc/", pid_, "/status"));
  for (std::string line; std::getline(file, line);) {
    absl::string_view rest = line;
    int64_t kib;
    if (absl::ConsumePrefix(&rest, absl::StrCat(key, ":")) && absl::ConsumeSuffix(&rest, "kB") &&
        absl::SimpleAtoi(rest, &kib))
      return kib << 10;
  }
  return 0;
}

int64_t ServerProgram::ResidentBytes() const { return StatusBytes("VmRSS"); }

int64_t ServerProgram::PeakBytes() const { return StatusBytes("VmHWM"); }

void ServerProgram::ResetPeakBytes() const {
  std::ofstream(absl::StrCat("/proc/", pid_, "/clear_refs")) << "5";
}

}  // namespace attendant::server
