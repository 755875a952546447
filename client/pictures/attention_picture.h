#ifndef ATTENDANT_CLIENT_PICTURES_ATTENTION_PICTURE_H_
#define ATTENDANT_CLIENT_PICTURES_ATTENTION_PICTURE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "attendant/v1/attend.pb.h"
#include "client/client.h"
#include "client/tensor.h"

namespace attendant::client {

// What a picture of attention shows, however it is drawn: a map for each layer and head, all with
// the same queries and keys.
struct AttentionPicture {
  // The image whose patches are the keys and the queries behind the first `num_prefix_tokens`.
  struct Patches {
    std::string image;  // an encoded file
    int32_t rows = 0;
    int32_t columns = 0;
    int32_t num_prefix_tokens = 0;
  };

  std::string title;
  std::string subtitle;
  // What rows and columns are called; Printable.
  std::vector<std::string> queries, keys;
  // "layer 3" and "head 5", or what was made of several. At least one each; a name may be empty.
  std::vector<std::string> layers, heads;
  // [layers, heads, queries, keys].
  std::vector<float> weights;
  std::optional<Patches> patches;

  // [queries, keys].
  absl::Span<const float> Map(size_t layer, size_t head) const {
    const size_t size = queries.size() * keys.size();
    return absl::MakeConstSpan(weights).subspan((layer * heads.size() + head) * size, size);
  }

  // "layer 3 · head 5".
  std::string NameOf(size_t layer, size_t head) const;

  // The largest of all weights; 1 if there is none above 0.
  float Largest() const;
};

// What a token is called on an axis: without the space that many begin with, and Printable; what
// cannot be seen has a sign.
std::string NameToken(const std::string& token);

// The maps of a model, as `request` asked for them. Weights that ATTENTION_REDUCTION_TOP_K left out
// are 0. INTERNAL if the maps are not all of the same shape.
absl::StatusOr<AttentionPicture> PictureOfModel(const v1::ModelAttention& request,
                                                const Attention& attention);

// The weights of tensors, [heads, queries, keys] or [batch, heads, queries, keys], whose rows and
// columns have numbers. INTERNAL for other shapes.
absl::StatusOr<AttentionPicture> PictureOfTensors(const FloatTensor& weights);

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_PICTURES_ATTENTION_PICTURE_H_
