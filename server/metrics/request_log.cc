#include "server/metrics/request_log.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/status/status_details.h"

namespace attendant::server {
namespace {

constexpr size_t kMaxWaitingLines = 8192;

class JsonObject {
 public:
  JsonObject& Add(absl::string_view key, absl::string_view value) {
    if (value.empty()) return *this;
    Key(key);
    text_ += '"';
    for (const char c : value) {
      if (c == '"' || c == '\\') {
        absl::StrAppend(&text_, "\\", std::string(1, c));
      } else if (static_cast<unsigned char>(c) < 0x20) {
        absl::StrAppendFormat(&text_, "\\u%04x", c);
      } else {
        text_ += c;
      }
    }
    text_ += '"';
    return *this;
  }
  JsonObject& Add(absl::string_view key, int64_t value) {
    if (value == 0) return *this;
    Key(key);
    absl::StrAppend(&text_, value);
    return *this;
  }
  JsonObject& Add(absl::string_view key, absl::Duration value) {
    if (value == absl::ZeroDuration()) return *this;
    Key(key);
    absl::StrAppendFormat(&text_, "%.6f", absl::ToDoubleSeconds(value));
    return *this;
  }
  std::string Done() const { return text_ + "}"; }

 private:
  void Key(absl::string_view key) {
    absl::StrAppend(&text_, text_.empty() ? "{" : ",", "\"", key, "\":");
  }
  std::string text_;
};

}  // namespace

std::string ToJson(const RequestRecord& record) {
  return JsonObject()
      .Add("time", absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", record.arrival, absl::UTCTimeZone()))
      .Add("request_id", record.request_id)
      .Add("trace_id", record.trace_id)
      .Add("rpc", record.rpc)
      .Add("model", record.model)
      .Add("code", absl::StatusCodeToString(record.status.code()))
      .Add("reason", ErrorReason(record.status))
      .Add("phase", record.status.ok() ? "" : record.phase)
      .Add("input_tokens", record.usage.input_tokens)
      .Add("cached_tokens", record.usage.cached_tokens)
      .Add("output_tokens", record.usage.output_tokens)
      .Add("queue_seconds", record.timings.queue)
      .Add("tokenize_seconds", record.timings.tokenize)
      .Add("compute_seconds", record.timings.compute)
      .Add("time_to_first_token_seconds", record.timings.time_to_first_token)
      .Add("total_seconds", record.total)
      .Done();
}

absl::StatusOr<std::unique_ptr<RequestLog>> RequestLog::Open(const std::string& destination,
                                                             std::function<void()> on_dropped) {
  FILE* file = nullptr;
  bool owned = false;
  if (destination == "stdout") {
    file = stdout;
  } else if (destination == "stderr") {
    file = stderr;
  } else if (destination != "off") {
    file = std::fopen(destination.c_str(), "ae");
    owned = true;
    if (file == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--request_log is ", destination, ", which cannot be opened: ", std::strerror(errno)));
    }
  }
  return std::unique_ptr<RequestLog>(new RequestLog(file, owned, std::move(on_dropped)));
}

RequestLog::RequestLog(FILE* file, bool owned, std::function<void()> on_dropped)
    : file_(file), owned_(owned), on_dropped_(std::move(on_dropped)) {
  if (file_ != nullptr) thread_ = std::thread([this] { Run(); });
}

RequestLog::~RequestLog() {
  if (file_ == nullptr) return;
  {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
  }
  thread_.join();
  if (owned_) std::fclose(file_);
}

void RequestLog::Write(const RequestRecord& record) {
  if (file_ == nullptr) return;
  std::string line = ToJson(record);
  line += '\n';
  {
    absl::MutexLock lock(&mutex_);
    if (lines_.size() < kMaxWaitingLines) {
      lines_.push_back(std::move(line));
      return;
    }
  }
  on_dropped_();
}

void RequestLog::Run() {
  while (true) {
    std::deque<std::string> lines;
    bool closing;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(
          +[](RequestLog* log) { return log->closing_ || !log->lines_.empty(); }, this));
      lines.swap(lines_);
      closing = closing_;
    }
    for (const std::string& line : lines) std::fwrite(line.data(), 1, line.size(), file_);
    std::fflush(file_);
    if (closing && lines.empty()) return;
  }
}

}  // namespace attendant::server
