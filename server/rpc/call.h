#ifndef ATTENDANT_SERVER_RPC_CALL_H_
#define ATTENDANT_SERVER_RPC_CALL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "engine/engine.h"
#include "grpcpp/server_context.h"
#include "server/admission/admission_controller.h"
#include "server/metrics/metrics.h"
#include "server/metrics/request_log.h"
#include "server/metrics/request_record.h"
#include "server/rpc/reply_thread.h"

namespace attendant::server {

class Call;

// Limits on one request, beside the engine's own; each is a flag of the same name.
struct RequestLimits {
  int32_t max_inputs = 2048;
  int32_t max_new_tokens = 4096;
  int64_t max_stream_backlog_bytes = 1 << 20;  // generated and not yet taken by the client
};

// The calls that are being served, so that a drain can end them.
class LiveCalls {
 public:
  void Add(Call* call);
  void Remove(Call* call);
  // `on_drain` is called when the drain begins, unless `call` is gone by then.
  void OnDrain(Call* call, std::function<void()> on_drain);
  // Tells each call that no more requests are taken on its stream. Calls that are added from now on
  // are refused, and are not waited for by WaitUntilDrained.
  void Drain();
  // Ends each with `status`, as soon as the engine is woken.
  void Abort(const absl::Status& status);
  // Waits until those are over that were there when the drain began, or for so long. How many are
  // left.
  int64_t WaitUntilDrained(absl::Duration timeout);
  // Waits until there are none, or for so long.
  void WaitUntilEmpty(absl::Duration timeout);
  int64_t size() const;

 private:
  struct Entry {
    std::function<void()> on_drain;
    bool is_late = false;
  };

  mutable absl::Mutex mutex_;
  absl::flat_hash_map<Call*, Entry> calls_ ABSL_GUARDED_BY(mutex_);
  int64_t num_late_ ABSL_GUARDED_BY(mutex_) = 0;
  bool is_draining_ ABSL_GUARDED_BY(mutex_) = false;
};

// What RPCs share. All of it outlives them.
struct RpcEnvironment {
  engine::Engine& engine;
  AdmissionController& admission;
  Metrics& metrics;
  RequestLog& request_log;
  ReplyThread& replies;
  LiveCalls& live_calls;
  RequestLimits limits;
  std::string default_model;
};

// One request from its arrival to its end, whatever it asks for: its name, its deadline and its
// cancellation, its place in admission, and the record that becomes a log line and metrics. A
// reactor has one; a reactor of a stream of requests has one for each, and one for the stream.
//
// Cancel and Abort may be called from any thread; the rest from one at a time.
class Call {
 public:
  // `rpc` is static. The name is the metadata's x-request-id if that is 1 to 128 visible ASCII
  // characters, else a random one; it is sent back under the same key.
  Call(const RpcEnvironment& environment, absl::string_view rpc,
       grpc::CallbackServerContext& context);

  // One request of a stream: name and deadline are the stream's, the name with "/NUMBER".
  Call(const Call& stream, int64_t number);

  ~Call();
  Call(const Call&) = delete;

  const RpcEnvironment& environment() const { return environment_; }
  const std::shared_ptr<engine::RequestControl>& control() const { return control_; }
  const std::string& request_id() const { return record_.request_id; }
  absl::Time arrival() const { return record_.arrival; }
  absl::Duration elapsed() const { return absl::Now() - record_.arrival; }
  RequestRecord& record() { return record_; }

  // See AdmissionController.
  absl::Status CheckServing() const;
  absl::Status Admit(int64_t tokens, int64_t bytes);

  // The client is gone, or its deadline passed: the engine stops the work.
  void Cancel();

  // The same, but the call ends with `status`, which tells the client why. The first one counts.
  void Abort(const absl::Status& status);

  // `on_drain` is called when the server begins to drain, from another thread, and perhaps while
  // the call goes: it holds what it needs. It must not block.
  void OnDrain(std::function<void()> on_drain) {
    environment_.live_calls.OnDrain(this, std::move(on_drain));
  }

  // The end of the request, once: gives back its admission, counts and logs it, and returns what
  // the client is told.
  absl::Status Finish(absl::Status status);

 private:
  friend class LiveCalls;

  // Abort, without waking the engine.
  void MarkAborted(const absl::Status& status);

  absl::Status FinalStatus(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_);

  const RpcEnvironment& environment_;
  RequestRecord record_;
  std::shared_ptr<engine::RequestControl> control_;
  AdmissionController::Ticket ticket_;
  absl::Mutex mutex_;
  std::optional<absl::Status> aborted_ ABSL_GUARDED_BY(mutex_);
};

// What a call needs of a model.
enum class Capability {
  kAny,
  kEncode,
  kGenerate,
  kTokenizer,
  kFillMask,
  kClassify,
  kRank,
  kAnswer
};

// The model called `name`; for an empty name the configured default, or the only one that has the
// capability.
//   NOT_FOUND            no such model; lists what is loaded
//   FAILED_PRECONDITION  it cannot do that; says what it can do
//   INVALID_ARGUMENT     the name is empty and could mean several
absl::StatusOr<engine::ModelDescription> ResolveModel(const RpcEnvironment& environment,
                                                      const std::string& name,
                                                      Capability capability);

// The RPCs that a model serves, by name.
std::vector<std::string> ServedRpcs(const engine::ModelDescription& model);

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_RPC_CALL_H_
