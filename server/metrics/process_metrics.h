#ifndef ATTENDANT_SERVER_METRICS_PROCESS_METRICS_H_
#define ATTENDANT_SERVER_METRICS_PROCESS_METRICS_H_

#include <optional>

namespace attendant::server {

// What the operating system says of this process; each unset where it does not say.
struct ProcessMetrics {
  std::optional<double> cpu_seconds;  // user and system
  std::optional<double> resident_memory_bytes;
  std::optional<double> virtual_memory_bytes;
  std::optional<double> start_time_seconds;  // since the epoch
  std::optional<double> open_fds;
  std::optional<double> max_fds;
  // How long the control group's CPU quota has kept runnable threads waiting.
  std::optional<double> cpu_throttled_seconds;
};

ProcessMetrics ReadProcessMetrics();

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_METRICS_PROCESS_METRICS_H_
