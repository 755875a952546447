#ifndef ATTENDANT_ENGINE_BASE_PROCESSOR_CLAIM_H_
#define ATTENDANT_ENGINE_BASE_PROCESSOR_CLAIM_H_

#include <optional>

namespace attendant::engine {

// A processor that this process has told the machine's other ones of its kind it computes on, so
// that several servers do not pin their threads to the same cores. It is the name of an abstract
// Unix socket (unix(7)): one process can have it, and the kernel takes it back when the process
// ends, however it does. Processes in other network namespaces, such as other containers, do not
// see it; give those CPU sets of their own.
class ProcessorClaim {
 public:
  // Null if another claim for `processor` is held, in this process or another.
  static std::optional<ProcessorClaim> Take(int processor);

  ProcessorClaim(ProcessorClaim&& other) noexcept;
  ProcessorClaim& operator=(ProcessorClaim&& other) noexcept;
  ~ProcessorClaim();

  int processor() const { return processor_; }

 private:
  ProcessorClaim(int processor, int socket) : processor_(processor), socket_(socket) {}

  int processor_;
  int socket_;  // -1: the machine gives no sockets, so nobody can claim
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_BASE_PROCESSOR_CLAIM_H_
