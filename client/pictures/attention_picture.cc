#include "client/pictures/attention_picture.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/pictures/text.h"

namespace attendant::client {
namespace {

using Labels = google::protobuf::RepeatedPtrField<std::string>;

// Names for the indices [begin, begin + count) of an axis: those of the server, which has them for
// the whole axis or for this part of it; else those of patches; else numbers.
std::vector<std::string> NameAxis(const Labels& tokens, const v1::PatchGrid* grid, int64_t begin,
                                  int64_t count) {
  std::vector<std::string> names;
  const int64_t first = tokens.size() == count ? 0 : begin;
  for (int64_t i = 0; i < count; ++i) {
    if (first + i < tokens.size()) {
      names.push_back(NameToken(tokens[static_cast<int>(first + i)]));
      continue;
    }
    const int64_t patch = grid == nullptr ? 0 : begin + i - grid->num_prefix_tokens();
    if (grid == nullptr || grid->columns() < 1) {
      names.push_back(absl::StrCat(begin + i));
    } else if (patch >= 0) {
      names.push_back(
          absl::StrCat("patch ", patch / grid->columns(), ",", patch % grid->columns()));
    } else {
      names.push_back(begin + i == 0 ? "[CLS]" : absl::StrCat("[token ", begin + i, "]"));
    }
  }
  return names;
}

std::string NameOfKind(v1::AttentionKind kind) {
  switch (kind) {
    case v1::ATTENTION_KIND_ENCODER_SELF:
      return "self-attention of the encoder";
    case v1::ATTENTION_KIND_DECODER_SELF:
      return "self-attention of the decoder";
    case v1::ATTENTION_KIND_CROSS:
      return "cross-attention";
    default:
      return "attention";
  }
}

std::string Count(size_t number, absl::string_view name) {
  return absl::StrCat(number, " ", name, number == 1 ? "" : "s");
}

}  // namespace

std::string NameToken(const std::string& token) {
  if (token.empty()) return "·";
  const absl::string_view word = absl::StripAsciiWhitespace(token);
  if (!word.empty()) return Printable(word);
  return token == std::string(token.size(), ' ') ? "␣" : Printable(token);
}

std::string AttentionPicture::NameOf(size_t layer, size_t head) const {
  const bool has_both = !layers[layer].empty() && !heads[head].empty();
  return absl::StrCat(layers[layer], has_both ? " · " : "", heads[head]);
}

float AttentionPicture::Largest() const {
  const auto largest = std::max_element(weights.begin(), weights.end());
  return largest == weights.end() || !(*largest > 0) ? 1.0f : *largest;
}

absl::StatusOr<AttentionPicture> PictureOfModel(const v1::ModelAttention& request,
                                                const Attention& attention) {
  if (attention.maps.empty()) return absl::InternalError("there are no maps to draw");
  const AttentionMap& first = attention.maps.front();
  const bool is_top_k = !first.keys.empty();
  const v1::AttendStarted& started = attention.started;
  const v1::PatchGrid* grid = started.has_patch_grid() ? &started.patch_grid() : nullptr;
  const std::vector<int64_t>& shape = first.weights.shape;
  const int64_t num_queries = shape[shape.size() - 2];
  const int64_t width = shape.back();
  const int64_t first_key = request.key_range().begin();
  int64_t num_keys = width;
  if (is_top_k && request.has_key_range()) {
    num_keys = int64_t{request.key_range().end()} - first_key;
  } else if (is_top_k) {
    num_keys = grid == nullptr
                   ? started.key_tokens_size()
                   : grid->num_prefix_tokens() + int64_t{grid->rows()} * grid->columns();
  }

  AttentionPicture picture;
  picture.title = Printable(started.model().empty() ? request.model() : started.model());
  picture.queries =
      NameAxis(started.query_tokens(), grid, request.query_range().begin(), num_queries);
  picture.keys = NameAxis(started.key_tokens(), grid, first_key, num_keys);
  const bool is_of_layers = request.reduction() == v1::ATTENTION_REDUCTION_ROLLOUT ||
                            request.reduction() == v1::ATTENTION_REDUCTION_MEAN_LAYERS;
  for (const AttentionMap& map : attention.maps) {
    picture.layers.push_back(is_of_layers ? "" : absl::StrCat("layer ", map.layer));
  }
  for (const int32_t head : first.heads) picture.heads.push_back(absl::StrCat("head ", head));
  picture.subtitle = NameOfKind(first.kind);
  switch (request.reduction()) {
    case v1::ATTENTION_REDUCTION_ROLLOUT:
      absl::StrAppend(&picture.subtitle, ", rolled out");
      picture.heads = {"rollout"};
      break;
    case v1::ATTENTION_REDUCTION_MEAN_LAYERS:
      picture.layers = {"mean of the layers"};
      break;
    case v1::ATTENTION_REDUCTION_MEAN_HEADS:
      picture.heads = {"mean of the heads"};
      break;
    case v1::ATTENTION_REDUCTION_TOP_K:
      absl::StrAppend(&picture.subtitle, ", the ", width, " largest of each query");
      break;
    default:
      absl::StrAppend(&picture.subtitle, ", ", Count(picture.layers.size(), "layer"), " of ",
                      Count(picture.heads.size(), "head"));
  }
  if (picture.heads.empty()) picture.heads = {""};
  if (grid != nullptr) {
    picture.patches = {.image = request.image(),
                       .rows = grid->rows(),
                       .columns = grid->columns(),
                       .num_prefix_tokens = grid->num_prefix_tokens()};
  }

  for (const AttentionMap& map : attention.maps) {
    if (map.weights.shape != shape || map.heads != first.heads)
      return absl::InternalError("the maps of the layers differ in shape");
    if (!is_top_k) {
      picture.weights.insert(picture.weights.end(), map.weights.values.begin(),
                             map.weights.values.end());
      continue;
    }
    const size_t begin = picture.weights.size();
    picture.weights.resize(begin + map.weights.values.size() / width * num_keys);
    for (size_t i = 0; i < map.keys.size(); ++i) {
      const int64_t key = map.keys[i] - first_key;
      if (key < 0 || key >= num_keys)
        return absl::InternalError(absl::StrCat("a weight has the key ", map.keys[i]));
      picture.weights[begin + i / width * num_keys + key] = map.weights.values[i];
    }
  }
  return picture;
}

absl::StatusOr<AttentionPicture> PictureOfTensors(const FloatTensor& weights) {
  const std::vector<int64_t>& shape = weights.shape;
  if (shape.size() < 3 || shape.size() > 4)
    return absl::InternalError("there are no weights to draw");
  AttentionPicture picture;
  picture.title = "attention";
  picture.queries = NameAxis({}, nullptr, 0, shape[shape.size() - 2]);
  picture.keys = NameAxis({}, nullptr, 0, shape.back());
  for (int64_t i = 0; i < shape[shape.size() - 3]; ++i)
    picture.heads.push_back(absl::StrCat("head ", i));
  if (shape.size() == 3) picture.layers = {""};
  for (int64_t i = 0; shape.size() == 4 && i < shape[0]; ++i)
    picture.layers.push_back(absl::StrCat("batch ", i));
  picture.subtitle =
      absl::StrCat(Count(picture.heads.size(), "head"), ", rows are queries, columns are keys");
  picture.weights = weights.values;
  return picture;
}

}  // namespace attendant::client
