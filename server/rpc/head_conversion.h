#ifndef ATTENDANT_SERVER_RPC_HEAD_CONVERSION_H_
#define ATTENDANT_SERVER_RPC_HEAD_CONVERSION_H_

// Messages of FillMask, Classify, Rank and Answer to engine types and back, as
// request_conversion.h does for the others: every field is checked here, and an error names it.
// Requests are taken apart.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "attendant/v1/heads.pb.h"
#include "engine/engine.h"
#include "engine/request.h"
#include "server/rpc/call.h"

namespace attendant::server {

// A request without name of model and control. One bad input fails alone.
template <typename Request>
struct HeadConversion {
  Request request;
  std::vector<absl::Status> input_status;  // one for each input; a bad one is empty in `request`
  int64_t num_tokens = 0;                  // about, for admission
};

// Each fails if the request as a whole is bad, or every input is.
absl::StatusOr<HeadConversion<engine::FillMaskRequest>> FromMessage(
    v1::FillMaskRequest& message, const engine::ModelDescription& model,
    const RequestLimits& limits);
absl::StatusOr<HeadConversion<engine::ClassifyRequest>> FromMessage(
    v1::ClassifyRequest& message, const engine::ModelDescription& model,
    const RequestLimits& limits);
absl::StatusOr<HeadConversion<engine::RankRequest>> FromMessage(
    v1::RankRequest& message, const engine::ModelDescription& model, const RequestLimits& limits);
absl::StatusOr<HeadConversion<engine::AnswerRequest>> FromMessage(
    v1::AnswerRequest& message, const engine::ModelDescription& model, const RequestLimits& limits);

// `input_status` as above: what was wrong before the engine saw it.
v1::FillMaskResponse ToMessage(engine::FillMaskResult result,
                               const std::vector<absl::Status>& input_status,
                               const std::string& model, absl::Duration total);
v1::ClassifyResponse ToMessage(engine::ClassifyResult result,
                               const std::vector<absl::Status>& input_status,
                               const std::string& model, absl::Duration total);
v1::RankResponse ToMessage(engine::RankResult result, const std::vector<absl::Status>& input_status,
                           const std::string& model, absl::Duration total);
v1::AnswerResponse ToMessage(engine::AnswerResult result,
                             const std::vector<absl::Status>& input_status,
                             const std::string& model, absl::Duration total);

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_RPC_HEAD_CONVERSION_H_
