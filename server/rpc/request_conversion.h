#ifndef ATTENDANT_SERVER_RPC_REQUEST_CONVERSION_H_
#define ATTENDANT_SERVER_RPC_REQUEST_CONVERSION_H_

// Messages to engine types and back. Every field of a request is checked here, once, and an error
// names it by its path; what only the engine can know (the number of tokens of a text, shapes that
// must agree) it checks itself.
//
// Requests are taken apart, not copied: a converted message is left without its texts and tensors.

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attendant/v1/attend.pb.h"
#include "attendant/v1/encode.pb.h"
#include "attendant/v1/generate.pb.h"
#include "attendant/v1/model.pb.h"
#include "engine/engine.h"
#include "server/rpc/call.h"

namespace attendant::server {

// `message` must hold exactly the bytes that its shape and type say. `path` names it in errors.
absl::StatusOr<engine::Tensor> TensorFromMessage(v1::Tensor& message, absl::string_view path);
void TensorToMessage(engine::Tensor tensor, v1::Tensor* message);

void TimingToMessage(const engine::RequestTimings& timings, absl::Duration total,
                     v1::Timing* message);
void UsageToMessage(const engine::RequestUsage& usage, v1::Usage* message);

// OK if the model reads what the input at `path` is: an image, or text or tokens.
absl::Status CheckInputKind(absl::string_view path, bool is_image,
                            const engine::ModelDescription& model);

// Encode. One bad input fails alone.
struct EncodeConversion {
  engine::EncodeRequest request;  // without name of model and control; no tokens for a bad input
  std::vector<absl::Status> input_status;  // one for each input
  int64_t num_tokens = 0;                  // about, for admission
};
// Fails if the request as a whole is bad, or every input is.
absl::StatusOr<EncodeConversion> EncodeFromMessage(v1::EncodeRequest& message,
                                                   const engine::ModelDescription& model,
                                                   const RequestLimits& limits);
// `input_status` as above: what was wrong before the engine saw it.
v1::EncodeResponse EncodeToMessage(engine::EncodeResult result,
                                   const std::vector<absl::Status>& input_status,
                                   const std::string& model, absl::Duration total);

// Generate.
struct GenerateConversion {
  engine::GenerateRequest request;  // without name of model and control
  int64_t num_tokens = 0;           // of the prompt, about
};
absl::StatusOr<GenerateConversion> GenerateFromMessage(v1::GenerateRequest& message,
                                                       const engine::ModelDescription& model,
                                                       const RequestLimits& limits);

// What of the tokens was asked for.
struct TokenOutput {
  bool tokens = false;     // send tokens at all
  bool logprobs = false;   // with their log probability
  int num_top = 0;         // and that of so many alternatives
  bool prompt = false;     // and all this for the prompt, with
  int num_prompt_top = 0;  // so many alternatives
};
TokenOutput TokenOutputOf(const v1::GenerateRequest& message);

// The first message of the stream, and the prompt's tokens if they were asked for.
std::vector<v1::GenerateResponse> GenerateToMessages(engine::GenerateStarted started,
                                                     const TokenOutput& output,
                                                     const std::string& request_id,
                                                     const std::string& model);
v1::GenerateResponse GenerateToMessage(engine::GenerateChunk chunk, const TokenOutput& output);
v1::GenerateResponse GenerateToMessage(const engine::GenerateFinished& finished,
                                       absl::Duration total);

// Attend.
struct AttendConversion {
  engine::AttendRequest request;  // without name of model and control
  int64_t num_tokens = 0;         // of what a model reads, about
};
// `model` is that of message.model(); unused for other sources.
absl::StatusOr<AttendConversion> AttendFromMessage(v1::AttendRequest& message,
                                                   const engine::ModelDescription& model);
v1::AttendResponse AttendToMessage(engine::AttendStarted started, const std::string& request_id,
                                   const std::string& model);
v1::AttendResponse AttendToMessage(engine::AttendBlock block);

// Models.
v1::Model ModelToMessage(const engine::ModelDescription& model);
v1::TokenizedInput TokenizedToMessage(const engine::TokenizedText& text);

// About how many tokens `text` is, from its bytes: real tokenizers make one of three to five bytes.
int64_t EstimateTokens(absl::string_view text);

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_RPC_REQUEST_CONVERSION_H_
