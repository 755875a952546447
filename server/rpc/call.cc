#include "server/rpc/call.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/log/log.h"
#include "absl/random/random.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "server/status/status_details.h"

namespace attendant::server {
namespace {

constexpr char kRequestIdKey[] = "x-request-id";
constexpr size_t kMaxRequestIdBytes = 128;
constexpr absl::Duration kDefaultRetry = absl::Seconds(1);

// gRPC cancels a call when its deadline passes, by a clock of its own.
constexpr absl::Duration kClockTolerance = absl::Milliseconds(10);

absl::string_view MetadataValue(const grpc::CallbackServerContext& context, const char* key) {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find(key);
  if (found == metadata.end()) return "";
  return absl::string_view(found->second.data(), found->second.size());
}

std::string RandomId() {
  thread_local absl::BitGen random;
  return absl::StrFormat("%016x%016x", absl::Uniform<uint64_t>(random),
                         absl::Uniform<uint64_t>(random));
}

std::string RequestId(const grpc::CallbackServerContext& context) {
  const absl::string_view id = MetadataValue(context, kRequestIdKey);
  const bool good =
      !id.empty() && id.size() <= kMaxRequestIdBytes &&
      std::all_of(id.begin(), id.end(), [](unsigned char c) { return absl::ascii_isgraph(c); });
  return good ? std::string(id) : RandomId();
}

// The second field of a W3C traceparent, "00-TRACE-PARENT-FLAGS"; empty unless it is 32 hexadecimal
// digits.
std::string TraceId(const grpc::CallbackServerContext& context) {
  const absl::string_view header = MetadataValue(context, "traceparent");
  if (header.size() < 55 || header[2] != '-' || header[35] != '-') return "";
  const absl::string_view id = header.substr(3, 32);
  const bool hexadecimal =
      std::all_of(id.begin(), id.end(), [](unsigned char c) { return absl::ascii_isxdigit(c); });
  return hexadecimal ? absl::AsciiStrToLower(id) : "";
}

bool Has(const engine::ModelDescription& model, Capability capability) {
  switch (capability) {
    case Capability::kEncode:
      return model.can_encode;
    case Capability::kGenerate:
      return model.can_generate;
    case Capability::kTokenizer:
      return !model.tokenizer_kind.empty();
    case Capability::kFillMask:
      return model.can_fill_mask;
    case Capability::kClassify:
      return model.can_classify;
    case Capability::kRank:
      return model.can_rank;
    case Capability::kAnswer:
      return model.can_answer;
    case Capability::kAny:
      return true;
  }
  return false;
}

absl::string_view Verb(Capability capability) {
  switch (capability) {
    case Capability::kEncode:
      return "encode";
    case Capability::kGenerate:
      return "generate";
    case Capability::kTokenizer:
      return "tokenize";
    case Capability::kFillMask:
      return "fill masks";
    case Capability::kClassify:
      return "classify";
    case Capability::kRank:
      return "rank";
    case Capability::kAnswer:
      return "answer";
    case Capability::kAny:
      return "serve";
  }
  return "";
}

std::string Names(const std::vector<engine::ModelDescription>& models) {
  if (models.empty()) return "none";
  return absl::StrJoin(
      models, ", ", [](std::string* out, const auto& model) { absl::StrAppend(out, model.name); });
}

}  // namespace

// ---------------------------------------------------------------------------------------------------------------------

void LiveCalls::Add(Call* call) {
  absl::MutexLock lock(&mutex_);
  calls_.try_emplace(call, Entry{.is_late = is_draining_});
  num_late_ += is_draining_;
}

void LiveCalls::Remove(Call* call) {
  absl::MutexLock lock(&mutex_);
  const auto found = calls_.find(call);
  num_late_ -= found->second.is_late;
  calls_.erase(found);
}

void LiveCalls::OnDrain(Call* call, std::function<void()> on_drain) {
  absl::MutexLock lock(&mutex_);
  calls_[call].on_drain = std::move(on_drain);
}

void LiveCalls::Drain() {
  // Not under the mutex: a callback may hold the last reference to its call, whose end comes here.
  std::vector<std::function<void()>> callbacks;
  {
    absl::MutexLock lock(&mutex_);
    is_draining_ = true;
    for (const auto& [call, entry] : calls_) {
      if (entry.on_drain) callbacks.push_back(entry.on_drain);
    }
  }
  for (const std::function<void()>& on_drain : callbacks) on_drain();
}

void LiveCalls::Abort(const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  for (const auto& [call, entry] : calls_) call->MarkAborted(status);
}

int64_t LiveCalls::WaitUntilDrained(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  const auto is_drained = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return std::ssize(calls_) == num_late_;
  };
  mutex_.AwaitWithTimeout(absl::Condition(&is_drained), timeout);
  return std::ssize(calls_) - num_late_;
}

void LiveCalls::WaitUntilEmpty(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  const auto is_empty = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return calls_.empty(); };
  mutex_.AwaitWithTimeout(absl::Condition(&is_empty), timeout);
}

int64_t LiveCalls::size() const {
  absl::MutexLock lock(&mutex_);
  return calls_.size();
}

// ---------------------------------------------------------------------------------------------------------------------

Call::Call(const RpcEnvironment& environment, absl::string_view rpc,
           grpc::CallbackServerContext& context)
    : environment_(environment), control_(std::make_shared<engine::RequestControl>()) {
  record_.rpc = rpc;
  record_.arrival = absl::Now();
  record_.request_id = RequestId(context);
  record_.trace_id = TraceId(context);
  control_->request_id = record_.request_id;
  const auto deadline = context.deadline();
  if (deadline != std::chrono::system_clock::time_point::max())
    control_->deadline = absl::FromChrono(deadline);
  context.AddTrailingMetadata(kRequestIdKey, record_.request_id);
  environment_.live_calls.Add(this);
}

Call::Call(const Call& stream, int64_t number)
    : environment_(stream.environment_), control_(std::make_shared<engine::RequestControl>()) {
  record_.rpc = stream.record_.rpc;
  record_.arrival = absl::Now();
  record_.request_id = absl::StrCat(stream.record_.request_id, "/", number);
  record_.trace_id = stream.record_.trace_id;
  control_->request_id = record_.request_id;
  control_->deadline = stream.control_->deadline;
  environment_.live_calls.Add(this);
}

Call::~Call() { environment_.live_calls.Remove(this); }

absl::Status Call::CheckServing() const {
  return environment_.admission.CheckServing(control_->deadline, absl::Now());
}

absl::Status Call::Admit(int64_t tokens, int64_t bytes) {
  auto ticket = environment_.admission.Admit(tokens, bytes, control_->deadline, absl::Now());
  if (!ticket.ok()) return std::move(ticket).status();
  ticket_ = *std::move(ticket);
  record_.phase = "running";
  return absl::OkStatus();
}

void Call::Cancel() {
  control_->cancelled.store(true, std::memory_order_relaxed);
  environment_.engine.Wake();
}

void Call::Abort(const absl::Status& status) {
  MarkAborted(status);
  environment_.engine.Wake();
}

void Call::MarkAborted(const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  if (!aborted_.has_value()) aborted_ = status;
  control_->cancelled.store(true, std::memory_order_relaxed);
}

absl::Status Call::FinalStatus(absl::Status status) {
  if (status.code() == absl::StatusCode::kCancelled) {
    absl::MutexLock lock(&mutex_);
    if (aborted_.has_value()) return *aborted_;
    if (absl::Now() + kClockTolerance >= control_->deadline) {
      return absl::DeadlineExceededError("the deadline passed");
    }
  }
  switch (status.code()) {
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kOutOfRange:
      // Not the client's doing; what went wrong is for whoever reads the log.
      LOG(ERROR) << record_.rpc << " failed, request " << record_.request_id << ": " << status;
      return ErrorWithReason(
          absl::StatusCode::kInternal, reason::kInternal,
          absl::StrCat("internal error; the server's log has it under request id ",
                       record_.request_id));
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kUnavailable:
      if (!RetryDelay(status).has_value()) {
        const std::string reason = ErrorReason(status);
        return ErrorWithReason(status.code(), reason.empty() ? reason::kRequestsFull : reason,
                               status.message(), kDefaultRetry);
      }
      return status;
    default:
      return status;
  }
}

absl::Status Call::Finish(absl::Status status) {
  ticket_ = AdmissionController::Ticket();
  record_.status = FinalStatus(std::move(status));
  record_.total = elapsed();
  environment_.metrics.OnRequestFinished(record_);
  environment_.request_log.Write(record_);
  return record_.status;
}

// ---------------------------------------------------------------------------------------------------------------------

std::vector<std::string> ServedRpcs(const engine::ModelDescription& model) {
  std::vector<std::string> rpcs;
  if (model.can_encode) rpcs.insert(rpcs.end(), {"Encode", "EncodeStream"});
  if (model.can_generate) rpcs.push_back("Generate");
  if (model.can_fill_mask) rpcs.push_back("FillMask");
  if (model.can_classify) rpcs.push_back("Classify");
  if (model.can_rank) rpcs.push_back("Rank");
  if (model.can_answer) rpcs.push_back("Answer");
  rpcs.push_back("Attend");
  if (!model.tokenizer_kind.empty()) rpcs.insert(rpcs.end(), {"Tokenize", "Detokenize"});
  return rpcs;
}

absl::StatusOr<engine::ModelDescription> ResolveModel(const RpcEnvironment& environment,
                                                      const std::string& name,
                                                      Capability capability) {
  const auto cannot = [&](const engine::ModelDescription& model) {
    return ErrorWithReason(
        absl::StatusCode::kFailedPrecondition, reason::kModelCannot,
        absl::StrCat("model ", model.name, " (", model.architecture, ") cannot ", Verb(capability),
                     "; it serves ", absl::StrJoin(ServedRpcs(model), ", "), "; its heads: ",
                     model.heads.empty() ? "none" : absl::StrJoin(model.heads, ", ")));
  };
  if (!name.empty()) {
    auto model = environment.engine.GetModel(name);
    if (!model.ok()) {
      return WithResource(ErrorWithReason(absl::StatusCode::kNotFound, reason::kUnknownModel,
                                          absl::StrCat("model \"", name.substr(0, 128),
                                                       "\" is not loaded; loaded: ",
                                                       Names(environment.engine.ListModels()))),
                          "model", name);
    }
    if (!Has(*model, capability)) return cannot(*model);
    return model;
  }
  const std::vector<engine::ModelDescription> all = environment.engine.ListModels();
  std::vector<engine::ModelDescription> able;
  for (const engine::ModelDescription& model : all) {
    if (!Has(model, capability)) continue;
    if (model.name == environment.default_model) return model;
    able.push_back(model);
  }
  if (able.size() == 1) return able.front();
  if (able.empty()) {
    if (all.size() == 1) return cannot(all.front());
    return ErrorWithReason(
        absl::StatusCode::kFailedPrecondition, reason::kModelCannot,
        absl::StrCat("no loaded model can ", Verb(capability), "; loaded: ", Names(all)));
  }
  return InvalidField("model", absl::StrCat("is empty, and several could be meant: ", Names(able)));
}

}  // namespace attendant::server
