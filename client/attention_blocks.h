#ifndef ATTENDANT_CLIENT_ATTENTION_BLOCKS_H_
#define ATTENDANT_CLIENT_ATTENTION_BLOCKS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attendant/v1/attend.pb.h"
#include "client/client.h"

namespace attendant::client {

// Puts the blocks of one Attend stream, which come in any order, back together.
class AttentionBlocks {
 public:
  // For the answer to `request`, which says what the heads and rows of a model's maps are counted
  // from.
  explicit AttentionBlocks(const v1::AttendRequest& request);

  // INTERNAL if the message comes out of turn, or its block is outside the shape that was
  // announced.
  absl::Status Add(const v1::AttendResponse& response);

  // INTERNAL if the stream ended before its last message, or a part of a tensor never came.
  absl::StatusOr<Attention> Finish() &&;

 private:
  // One tensor of the answer, and how much of it has come.
  struct Part {
    const char* name;
    FloatTensor Attention::* tensor;
    int64_t received = 0;
  };

  absl::Status Start(const v1::AttendStarted& started);
  absl::Status Place(const v1::AttendBlock& block, const v1::Tensor& message, Part& part);
  absl::StatusOr<size_t> FindMap(const v1::AttendBlock& block);
  absl::Status PlaceInMap(const v1::AttendBlock& block);

  const bool is_model_;
  std::vector<int32_t> heads_;  // asked for, ascending; empty: all
  int32_t first_query_ = 0;
  bool started_ = false;
  bool finished_ = false;
  Attention attention_;
  Part output_{"output", &Attention::output};
  Part weights_{"weights", &Attention::weights};
  Part lse_{"lse", &Attention::lse};
  std::vector<int64_t> map_received_;  // of each of attention_.maps
};

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_ATTENTION_BLOCKS_H_
