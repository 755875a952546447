#include "server/rpc/model_reactors.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "server/rpc/field_checks.h"
#include "server/rpc/request_conversion.h"
#include "server/rpc/utf8.h"
#include "server/status/status_details.h"

namespace attendant::server {
namespace {}  // namespace

absl::Status ListModelsReactor::Start(v1::ListModelsRequest, int64_t) {
  v1::ListModelsResponse response;
  for (const engine::ModelDescription& model : call().environment().engine.ListModels()) {
    *response.add_models() = ModelToMessage(model);
  }
  response.set_default_model(call().environment().default_model);
  Reply(std::move(response));
  return absl::OkStatus();
}

absl::Status GetModelReactor::Start(v1::GetModelRequest request, int64_t) {
  ASSIGN_OR_RETURN(const engine::ModelDescription model,
                   ResolveModel(call().environment(), request.model(), Capability::kAny));
  call().record().model = model.name;
  v1::GetModelResponse response;
  *response.mutable_model() = ModelToMessage(model);
  Reply(std::move(response));
  return absl::OkStatus();
}

absl::Status TokenizeReactor::Start(v1::TokenizeRequest request, int64_t num_bytes) {
  const RpcEnvironment& environment = call().environment();
  ASSIGN_OR_RETURN(const engine::ModelDescription model,
                   ResolveModel(environment, request.model(), Capability::kTokenizer));
  call().record().model = model.name;
  RETURN_IF_ERROR(CheckNumInputs("inputs", request.inputs_size(), environment.limits));
  if (request.has_truncation() && (request.truncation().has_max_tokens() ||
                                   request.truncation().side() > v1::Truncation::SIDE_NONE)) {
    return NotImplemented("truncation in Tokenize");
  }
  int64_t num_tokens = 0;
  for (const v1::TokenizeInput& input : request.inputs()) {
    num_tokens += EstimateTokens(input.text()) + EstimateTokens(input.pair().text()) +
                  EstimateTokens(input.pair().text_pair());
  }
  RETURN_IF_ERROR(call().Admit(num_tokens, num_bytes));
  {
    absl::MutexLock lock(&mutex_);
    answer_.set_model(model.name);
    for (int i = 0; i < request.inputs_size(); ++i) answer_.add_inputs();
    input_status_.resize(request.inputs_size());
    num_waiting_ = request.inputs_size();
  }
  const bool add_special_tokens = !request.has_add_special_tokens() || request.add_special_tokens();
  for (int i = 0; i < request.inputs_size(); ++i) {
    v1::TokenizeInput& input = *request.mutable_inputs(i);
    std::optional<std::string> text, text_pair;
    if (input.has_text()) text = std::move(*input.mutable_text());
    if (input.has_pair()) {
      text = std::move(*input.mutable_pair()->mutable_text());
      text_pair = std::move(*input.mutable_pair()->mutable_text_pair());
    }
    const auto on_input = [self = shared_from_this(), this,
                           i](absl::StatusOr<engine::TokenizedText> tokenized) {
      OnInput(i, std::move(tokenized));
    };
    if (!text.has_value()) {
      on_input(InvalidField(absl::StrCat("inputs[", i, "]"), "is not set: one of text, pair"));
    } else {
      environment.engine.Tokenize(model.name, *std::move(text), std::move(text_pair),
                                  add_special_tokens, on_input);
    }
  }
  return absl::OkStatus();
}

void TokenizeReactor::OnInput(int index, absl::StatusOr<engine::TokenizedText> text) {
  v1::TokenizedInput input;
  if (text.ok()) {
    input = TokenizedToMessage(*text);
  } else {
    *input.mutable_status() =
        ToRpcStatus(WithField(text.status(), absl::StrCat("inputs[", index, "]")));
  }
  absl::MutexLock lock(&mutex_);
  input_status_[index] = text.status();
  call().record().usage.input_tokens += input.tokens_size();
  *answer_.mutable_inputs(index) = std::move(input);
  if (--num_waiting_ > 0) return;
  const bool any_good =
      std::any_of(input_status_.begin(), input_status_.end(), [](const auto& s) { return s.ok(); });
  RunReply([self = shared_from_this(), this, any_good] {
    absl::MutexLock lock(&mutex_);
    if (any_good) {
      Reply(std::move(answer_));
    } else {
      Reply(WithField(input_status_.front(), "inputs[0]"));
    }
  });
}

absl::Status DetokenizeReactor::Start(v1::DetokenizeRequest request, int64_t num_bytes) {
  const RpcEnvironment& environment = call().environment();
  ASSIGN_OR_RETURN(const engine::ModelDescription model,
                   ResolveModel(environment, request.model(), Capability::kTokenizer));
  call().record().model = model.name;
  RETURN_IF_ERROR(CheckNumInputs("inputs", request.inputs_size(), environment.limits));
  int64_t num_tokens = 0;
  for (const v1::TokenIds& input : request.inputs()) num_tokens += input.ids_size();
  RETURN_IF_ERROR(call().Admit(num_tokens, num_bytes));
  call().record().usage.input_tokens = num_tokens;
  {
    absl::MutexLock lock(&mutex_);
    answer_.set_model(model.name);
    for (int i = 0; i < request.inputs_size(); ++i) answer_.add_texts();
    num_waiting_ = request.inputs_size();
  }
  for (int i = 0; i < request.inputs_size(); ++i) {
    const auto& ids = request.inputs(i).ids();
    environment.engine.Detokenize(
        model.name, std::vector<int32_t>(ids.begin(), ids.end()), request.skip_special_tokens(),
        [self = shared_from_this(), this, i](absl::StatusOr<std::string> text) {
          OnInput(i, std::move(text));
        });
  }
  return absl::OkStatus();
}

void DetokenizeReactor::OnInput(int index, absl::StatusOr<std::string> text) {
  absl::MutexLock lock(&mutex_);
  if (text.ok()) {
    answer_.set_texts(index, ToValidUtf8(*std::move(text)));
  } else if (status_.ok()) {
    status_ = WithField(text.status(), absl::StrCat("inputs[", index, "].ids"));
  }
  if (--num_waiting_ > 0) return;
  RunReply([self = shared_from_this(), this] {
    absl::MutexLock lock(&mutex_);
    if (status_.ok()) {
      Reply(std::move(answer_));
    } else {
      Reply(status_);
    }
  });
}

}  // namespace attendant::server
