#include "server/rpc/generate_reactor.h"

#include <memory>
#include <utility>

#include "engine/base/status_macros.h"
#include "server/status/status_details.h"

namespace attendant::server {

absl::Status GenerateReactor::Start(v1::GenerateRequest message, int64_t num_bytes) {
  const RpcEnvironment& environment = call().environment();
  ASSIGN_OR_RETURN(const engine::ModelDescription model,
                   ResolveModel(environment, message.model(), Capability::kGenerate));
  call().record().model = model.name;
  output_ = TokenOutputOf(message);
  prompt_field_ = message.has_tokens() ? "tokens" : "text";
  ASSIGN_OR_RETURN(GenerateConversion conversion,
                   GenerateFromMessage(message, model, environment.limits));
  RETURN_IF_ERROR(call().Admit(conversion.num_tokens, num_bytes));
  call().record().phase = "waiting";
  conversion.request.model = model.name;
  conversion.request.control = call().control();
  environment.engine.Generate(std::move(conversion.request),
                              std::static_pointer_cast<GenerateReactor>(shared_from_this()));
  return absl::OkStatus();
}

void GenerateReactor::OnStarted(engine::GenerateStarted started) {
  call().record().phase = "prefill";
  call().record().usage = started.usage;
  for (v1::GenerateResponse& message : GenerateToMessages(
           std::move(started), output_, call().request_id(), call().record().model)) {
    Send(std::move(message));
  }
}

void GenerateReactor::OnChunk(engine::GenerateChunk chunk) {
  Measure(chunk);
  v1::GenerateResponse message = GenerateToMessage(std::move(chunk), output_);
  // Text is held back while it may become part of a character or of a stop string.
  if (message.chunk().text().empty() && message.chunk().tokens().empty()) return;
  Send(std::move(message));
}

void GenerateReactor::OnFinished(engine::GenerateFinished finished) {
  call().record().timings = finished.timings;
  Send(GenerateToMessage(finished, call().elapsed()));
}

void GenerateReactor::OnDone(absl::Status status) {
  End(WithField(std::move(status), prompt_field_));
}

void GenerateReactor::Measure(const engine::GenerateChunk& chunk) {
  const int num_tokens = static_cast<int>(chunk.tokens.size());
  if (num_tokens == 0) return;
  RequestRecord& record = call().record();
  const absl::Time now = absl::Now();
  if (last_token_.size() <= static_cast<size_t>(chunk.sequence))
    last_token_.resize(chunk.sequence + 1);
  absl::Time& last = last_token_[chunk.sequence];
  if (!has_first_token_) {
    has_first_token_ = true;
    record.phase = "decode";
    record.timings.time_to_first_token = now - call().arrival();
    call().environment().metrics.OnFirstToken(record.model, now - call().arrival());
  } else if (last != absl::Time()) {
    call().environment().metrics.OnNextTokens(record.model, now - last, num_tokens);
  }
  last = now;
  record.usage.output_tokens += num_tokens;
}

bool GenerateReactor::Join(std::deque<v1::GenerateResponse>& pending, v1::GenerateResponse& next) {
  if (!next.has_chunk()) return false;
  for (auto message = pending.rbegin(); message != pending.rend(); ++message) {
    if (!message->has_chunk() || message->chunk().is_prompt() != next.chunk().is_prompt())
      return false;
    if (message->chunk().sequence() != next.chunk().sequence()) continue;
    v1::GenerateChunk& chunk = *message->mutable_chunk();
    chunk.mutable_text()->append(next.chunk().text());
    for (v1::Token& token : *next.mutable_chunk()->mutable_tokens())
      *chunk.add_tokens() = std::move(token);
    if (next.chunk().has_cross_attention()) {
      const v1::Tensor& more = next.chunk().cross_attention();
      v1::Tensor& rows = *chunk.mutable_cross_attention();
      if (rows.shape().empty()) {
        rows = more;
      } else {
        rows.set_shape(0, rows.shape(0) + more.shape(0));
        rows.mutable_data()->append(more.data());
      }
    }
    return true;
  }
  return false;
}

}  // namespace attendant::server
