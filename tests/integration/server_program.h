#ifndef ATTENDANT_TESTS_INTEGRATION_SERVER_PROGRAM_H_
#define ATTENDANT_TESTS_INTEGRATION_SERVER_PROGRAM_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace attendant::server {

// attendant-server as a child process, whose output goes to a file. It is killed with this object.
class ServerProgram {
 public:
  explicit ServerProgram(std::vector<std::string> arguments);
  ~ServerProgram();
  ServerProgram(const ServerProgram&) = delete;
  ServerProgram& operator=(const ServerProgram&) = delete;

  void Signal(int signal);

  // The exit status; -1 if it was a signal that ended it.
  int Wait();

  // "grpc" or "metrics", once the port file is there; 0 if it does not come.
  int Port(const std::string& name);

  std::string Output();

  // The memory that it has in RAM, and the most that it had there since ResetPeakBytes; 0 if the
  // kernel does not tell.
  int64_t ResidentBytes() const;
  int64_t PeakBytes() const;
  void ResetPeakBytes() const;

 private:
  std::string port_file() const { return folder_ + "/ports"; }
  std::string output_file() const { return folder_ + "/output"; }
  int64_t StatusBytes(const std::string& key) const;

  const std::string folder_;
  pid_t pid_ = 0;
};

}  // namespace attendant::server

#endif  // ATTENDANT_TESTS_INTEGRATION_SERVER_PROGRAM_H_
