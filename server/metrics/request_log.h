#ifndef ATTENDANT_SERVER_METRICS_REQUEST_LOG_H_
#define ATTENDANT_SERVER_METRICS_REQUEST_LOG_H_

#include <cstdio>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "server/metrics/request_record.h"

namespace attendant::server {

// The record as one line of JSON, without the newline. Fields that have no value are left out;
// times are in seconds.
std::string ToJson(const RequestRecord& record);

// Writes one line for each finished request, on a thread of its own: a slow disk or pipe loses
// lines and is counted, but holds up nobody. Write may be called from any thread.
class RequestLog {
 public:
  // `destination` is "stdout", "stderr", "off", or a file to append to. `on_dropped` is called for
  // each lost line.
  static absl::StatusOr<std::unique_ptr<RequestLog>> Open(const std::string& destination,
                                                          std::function<void()> on_dropped);

  // Writes what is still waiting.
  ~RequestLog();

  void Write(const RequestRecord& record);

 private:
  RequestLog(FILE* file, bool owned, std::function<void()> on_dropped);
  void Run();

  FILE* const file_;  // null: off
  const bool owned_;
  const std::function<void()> on_dropped_;
  absl::Mutex mutex_;
  std::deque<std::string> lines_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_METRICS_REQUEST_LOG_H_
