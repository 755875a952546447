#ifndef ATTENDANT_ENGINE_BASE_CPU_TOPOLOGY_H_
#define ATTENDANT_ENGINE_BASE_CPU_TOPOLOGY_H_

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace attendant::engine {

// What bounds the threads that compute. A team larger than any of these loses most of its speed:
// threads then wait for one that has no processor.
struct CpuTopology {
  std::vector<int> affinity;  // the processors that the process may run on, ascending
  int physical_cores = 1;     // among those, counting the threads of one core once
  std::optional<double>
      cgroup_cpus;  // the tightest quota of the process's control groups, in processors

  // min(affinity, physical cores, quota rounded down), at least 1.
  int NumThreads() const;

  // "64 processors, 32 cores, quota 2.5": for the log.
  std::string ToString() const;
};

// Reads the affinity of the calling thread, /sys/devices/system/cpu and the control groups (v2 and
// v1). What cannot be read bounds nothing. `root` is where /proc and /sys are looked for; tests
// pass another.
CpuTopology ReadCpuTopology(const std::filesystem::path& root = "/");

// ReadCpuTopology().NumThreads().
int DefaultNumThreads();

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_BASE_CPU_TOPOLOGY_H_
