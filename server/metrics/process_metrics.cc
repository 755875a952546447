#include "server/metrics/process_metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace attendant::server {
namespace {

std::optional<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path);
  if (!file.is_open()) return std::nullopt;
  std::ostringstream contents;
  contents << file.rdbuf();
  return std::move(contents).str();
}

// The number after `key` at the start of a line.
std::optional<double> ValueOf(absl::string_view text, absl::string_view key) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    double value = 0;
    if (words.size() >= 2 && words[0] == key && absl::SimpleAtod(words[1], &value)) return value;
  }
  return std::nullopt;
}

std::optional<double> CountFileDescriptors() {
  DIR* directory = opendir("/proc/self/fd");
  if (directory == nullptr) return std::nullopt;
  double count = 0;
  while (const dirent* entry = readdir(directory)) count += entry->d_name[0] != '.';
  closedir(directory);
  return count - 1;  // without the one that reads the directory
}

// The process's own control group, and those above it, nearest first. Version 2: "0::/path";
// version 1: "4:cpu,cpuacct:/path".
std::vector<std::string> CpuStatPaths() {
  std::vector<std::string> paths;
  for (absl::string_view line : absl::StrSplit(ReadFile("/proc/self/cgroup").value_or(""), '\n')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    std::string root;
    if (parts[1].empty()) {
      root = "/sys/fs/cgroup";
    } else if (absl::StrContains(absl::StrCat(",", parts[1], ","), ",cpu,")) {
      root = "/sys/fs/cgroup/cpu";
    } else {
      continue;
    }
    std::string group(parts[2]);
    while (true) {
      paths.push_back(absl::StrCat(root, group == "/" ? "" : group, "/cpu.stat"));
      if (group.empty() || group == "/") break;
      group.resize(group.rfind('/'));
    }
  }
  return paths;
}

std::optional<double> ReadThrottledSeconds() {
  for (const std::string& path : CpuStatPaths()) {
    const std::optional<std::string> stat = ReadFile(path);
    if (!stat) continue;
    if (const auto usec = ValueOf(*stat, "throttled_usec")) return *usec * 1e-6;
    if (const auto nsec = ValueOf(*stat, "throttled_time")) return *nsec * 1e-9;
  }
  return std::nullopt;
}

}  // namespace

ProcessMetrics ReadProcessMetrics() {
  ProcessMetrics metrics;
  rusage usage;
  if (getrusage(RUSAGE_SELF, &usage) == 0) {
    metrics.cpu_seconds = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
                          1e-6 * (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
  }
  if (const auto statm = ReadFile("/proc/self/statm")) {
    const double page = sysconf(_SC_PAGESIZE);
    const std::vector<absl::string_view> words = absl::StrSplit(*statm, ' ');
    double pages = 0;
    if (words.size() > 1 && absl::SimpleAtod(words[0], &pages))
      metrics.virtual_memory_bytes = pages * page;
    if (words.size() > 1 && absl::SimpleAtod(words[1], &pages))
      metrics.resident_memory_bytes = pages * page;
  }
  const auto stat = ReadFile("/proc/self/stat");
  const auto boot = ValueOf(ReadFile("/proc/stat").value_or(""), "btime");
  if (stat && boot) {
    // The name of the program, in parentheses, may hold spaces; the start time is the 20th field
    // after it.
    const std::vector<absl::string_view> words = absl::StrSplit(
        absl::string_view(*stat).substr(stat->rfind(')') + 1), ' ', absl::SkipEmpty());
    double ticks = 0;
    if (words.size() > 19 && absl::SimpleAtod(words[19], &ticks)) {
      metrics.start_time_seconds = *boot + ticks / sysconf(_SC_CLK_TCK);
    }
  }
  metrics.open_fds = CountFileDescriptors();
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) metrics.max_fds = limit.rlim_cur;
  metrics.cpu_throttled_seconds = ReadThrottledSeconds();
  return metrics;
}

}  // namespace attendant::server
