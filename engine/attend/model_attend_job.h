#ifndef ATTENDANT_ENGINE_ATTEND_MODEL_ATTEND_JOB_H_
#define ATTENDANT_ENGINE_ATTEND_MODEL_ATTEND_JOB_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/attend/attend_job.h"
#include "engine/base/tensor.h"
#include "engine/batch.h"
#include "engine/kernels/kernel_context.h"
#include "engine/model/transformer.h"
#include "engine/request.h"

namespace attendant::engine {

// Which of a model's attention maps, and what becomes of them. Everything is within the model and
// its input, and ascending.
struct MapSelection {
  AttentionKind kind = AttentionKind::kEncoderSelf;  // not kModelDefault
  std::vector<int32_t> layers;                       // at least one
  std::vector<int32_t> heads;                        // at least one
  IndexRange queries, keys;                          // not empty
  AttentionReduction reduction = AttentionReduction::kNone;
  int32_t top_k = 0;  // of kTopK; 1 to keys.size()
};

// What the maps are of; each is one sequence, or empty where there is no such stack.
struct MapInput {
  Batch source;                // what an encoder reads
  Batch target;                // what a decoder is run on; of kEncoderSelf not needed
  std::vector<float> patches;  // of an image; the source's sequence refers to them
};

// The maps of one input inside a model. The job walks the stack a layer at a time (a decoder's
// after its encoder's), keeping that layer's queries and keys, and makes of these, head by head,
// the weights of as many query rows as fit a block: beside reductions over layers, its memory is
// O(tokens).
//
//   kNone        each layer's [heads, queries, keys]
//   kMeanHeads   each layer's mean over the heads, [queries, keys]
//   kMeanLayers  each head's mean over the layers, [heads, queries, keys]
//   kRollout     [queries, keys] of the product over the layers, the later from the left, of (mean
//                of the heads + identity), rows scaled to sum to 1: Abnar and Zuidema, "Quantifying
//                Attention Flow in Transformers", 2020. Self-attention only.
//   kTopK        each layer's [heads, queries, top_k], the largest first, of equals the first, and
//                their keys
class ModelAttendJob : public AttendJob {
 public:
  // `started` has the names of the axes and the usage. INVALID_ARGUMENT if the results, and what a
  // reduction over layers keeps, take more than `max_bytes` (--max_map_bytes). Any thread.
  static absl::StatusOr<std::unique_ptr<ModelAttendJob>> Create(
      MapInput input, MapSelection selection, AttendStarted started,
      std::shared_ptr<RequestControl> control, int64_t max_bytes);
  ~ModelAttendJob() override;

  // Before the first Next; `model` outlives the job, and its steps are for the same thread.
  void Bind(Transformer& model);

  bool done() const override;
  absl::StatusOr<std::optional<AttendBlock>> Next(KernelContext& context) override;

 private:
  class StackWalk;

  // A rectangle of one layer's maps: what a step computes.
  struct Piece {
    IndexRange heads;  // empty: the mean over all
    IndexRange queries;
  };

  ModelAttendJob(MapInput input, MapSelection selection, AttendStarted started,
                 std::shared_ptr<RequestControl> control);

  const Batch& queries() const {
    return selection_.kind == AttentionKind::kEncoderSelf ? input_.source : input_.target;
  }
  int64_t num_keys() const {
    return selection_.kind == AttentionKind::kCross ? input_.source.num_tokens()
                                                    : queries().num_tokens();
  }
  int64_t num_heads() const { return static_cast<int64_t>(selection_.heads.size()); }
  bool accumulates() const;
  absl::Status Plan(int64_t max_bytes);
  void CutIntoPieces();
  std::vector<Piece> PiecesOfHeads(int64_t max_rows, int64_t max_head_rows) const;

  void ComputeHead(KernelContext& context, int32_t head, IndexRange queries, float* weights) const;
  void ComputeMean(KernelContext& context, IndexRange queries, float* mean);
  std::optional<AttendBlock> ComputePiece(KernelContext& context, int32_t layer,
                                          const Piece& piece);
  void RollOut(KernelContext& context, IndexRange queries);
  AttendBlock MakeBlock(int32_t layer, const Piece& piece) const;
  void KeepLargest(const float* weights, IndexRange queries, float* kept, int32_t* keys) const;
  AttendBlock AccumulatedBlock(const Piece& piece) const;

  const MapInput input_;
  const MapSelection selection_;
  int64_t width_ = 0;                        // columns of a block
  std::unique_ptr<StackWalk> encoder_walk_;  // of an encoder-decoder: before the decoder's
  std::unique_ptr<StackWalk> walk_;          // of the stack whose maps are asked for

  std::vector<Piece> pieces_;         // of each layer
  std::vector<Piece> result_pieces_;  // of what was accumulated
  size_t next_layer_ = 0;             // of selection_.layers
  size_t next_piece_ = 0;

  std::vector<float> scratch_;      // weights of a step, [queries, num_keys]
  std::vector<float> accumulated_;  // kMeanLayers: the result; kRollout: [num_keys, num_keys]
  std::vector<float> rolled_;       // kRollout: the product with one layer more
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_ATTEND_MODEL_ATTEND_JOB_H_
