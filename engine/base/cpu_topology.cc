#include "engine/base/cpu_topology.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace attendant::engine {
namespace {

namespace fs = std::filesystem;

std::optional<std::string> ReadLine(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  return line;
}

std::optional<double> ReadNumber(const fs::path& path) {
  const std::optional<std::string> line = ReadLine(path);
  double value;
  if (!line.has_value() || !absl::SimpleAtod(*line, &value)) return std::nullopt;
  return value;
}

// A kernel may allow more processors than CPU_SETSIZE, and then refuses a smaller set with EINVAL.
std::vector<int> Affinity() {
  for (int size = CPU_SETSIZE; size <= CPU_SETSIZE << 6; size *= 2) {
    cpu_set_t* set = CPU_ALLOC(size);
    std::vector<int> processors;
    const bool read = sched_getaffinity(0, CPU_ALLOC_SIZE(size), set) == 0;
    for (int cpu = 0; read && cpu < size; ++cpu) {
      if (CPU_ISSET_S(cpu, CPU_ALLOC_SIZE(size), set)) processors.push_back(cpu);
    }
    CPU_FREE(set);
    if (read) return processors;
  }
  return {0};
}

int CountCores(const fs::path& root, const std::vector<int>& processors) {
  std::set<std::pair<double, double>> cores;
  for (const int cpu : processors) {
    const fs::path topology = root / absl::StrCat("sys/devices/system/cpu/cpu", cpu, "/topology");
    const auto package = ReadNumber(topology / "physical_package_id");
    const auto core = ReadNumber(topology / "core_id");
    if (!package.has_value() || !core.has_value()) return static_cast<int>(processors.size());
    cores.emplace(*package, *core);
  }
  return static_cast<int>(cores.size());
}

// "max 100000" or "250000 100000".
std::optional<double> QuotaV2(const fs::path& group) {
  const std::optional<std::string> line = ReadLine(group / "cpu.max");
  if (!line.has_value()) return std::nullopt;
  const std::vector<absl::string_view> fields = absl::StrSplit(*line, ' ');
  double quota, period;
  if (fields.size() != 2 || !absl::SimpleAtod(fields[0], &quota) ||
      !absl::SimpleAtod(fields[1], &period) || period <= 0) {
    return std::nullopt;
  }
  return quota / period;
}

std::optional<double> QuotaV1(const fs::path& group) {
  const auto quota = ReadNumber(group / "cpu.cfs_quota_us");
  const auto period = ReadNumber(group / "cpu.cfs_period_us");
  if (!quota.has_value() || !period.has_value() || *quota <= 0 || *period <= 0) return std::nullopt;
  return *quota / *period;
}

// The tightest quota from the process's own group up to the root of the hierarchy. Inside a
// container the path in /proc/self/cgroup may not exist below the mount; the mount's own root then
// is the container's group.
template <typename Quota>
void TightenByGroups(const fs::path& mount, absl::string_view group, Quota quota,
                     std::optional<double>& tightest) {
  fs::path path = mount / std::string(absl::StripPrefix(group, "/"));
  while (true) {
    if (const std::optional<double> cpus = quota(path)) {
      tightest = std::min(tightest.value_or(*cpus), *cpus);
    }
    if (path == mount || !path.has_relative_path() || path.string().size() <= mount.string().size())
      break;
    path = path.parent_path();
  }
}

std::optional<double> CgroupCpus(const fs::path& root) {
  std::optional<double> tightest;
  const fs::path mount = root / "sys/fs/cgroup";
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    // "hierarchy-id:controllers:path"; the id 0, without controllers, is v2.
    const std::vector<std::string> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    if (fields[1].empty()) {
      TightenByGroups(mount, fields[2], QuotaV2, tightest);
      continue;
    }
    for (const absl::string_view controller : absl::StrSplit(fields[1], ',')) {
      if (controller != "cpu") continue;
      TightenByGroups(mount / fields[1], fields[2], QuotaV1, tightest);
      if (fields[1] != "cpu") TightenByGroups(mount / "cpu", fields[2], QuotaV1, tightest);
    }
  }
  return tightest;
}

}  // namespace

int CpuTopology::NumThreads() const {
  double threads = std::min<double>(affinity.size(), physical_cores);
  if (cgroup_cpus.has_value()) threads = std::min(threads, std::floor(*cgroup_cpus));
  return std::max(1, static_cast<int>(threads));
}

std::string CpuTopology::ToString() const {
  std::string text = absl::StrCat(affinity.size(), " processors, ", physical_cores, " cores");
  if (cgroup_cpus.has_value()) absl::StrAppend(&text, ", quota ", *cgroup_cpus);
  return text;
}

CpuTopology ReadCpuTopology(const fs::path& root) {
  CpuTopology topology;
  topology.affinity = Affinity();
  topology.physical_cores = CountCores(root, topology.affinity);
  topology.cgroup_cpus = CgroupCpus(root);
  return topology;
}

int DefaultNumThreads() { return ReadCpuTopology().NumThreads(); }

}  // namespace attendant::engine
