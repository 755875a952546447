#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/cli/array_file.h"
#include "client/cli/attention_problem.h"
#include "client/cli/command.h"
#include "client/cli/flags.h"
#include "client/cli/inputs.h"
#include "client/cli/json.h"
#include "client/cli/picture_files.h"
#include "client/cli/terminal.h"
#include "client/cli/terminal_picture.h"
#include "client/pictures/attention_picture.h"

ABSL_FLAG(std::string, query, "",
          "Query, [heads, q_len, d]: a .npy or JSON file; default: random tensors");
ABSL_FLAG(std::string, key, "", "Key, [kv_heads, kv_len, d]: a .npy or JSON file");
ABSL_FLAG(std::string, value, "", "Value, [kv_heads, kv_len, value_d]: a .npy or JSON file");
ABSL_FLAG(
    std::string, mask, "",
    "Mask that broadcasts to [heads, q_len, kv_len]: a .npy or JSON file, added to the scores");
ABSL_FLAG(bool, causal, false, "Queries see no later keys");
ABSL_FLAG(std::optional<float>, scale, std::nullopt, "Multiplies the scores; default: 1/sqrt(d)");
ABSL_FLAG(std::optional<int32_t>, sliding_window, std::nullopt,
          "Queries see keys less than this far; default: all");
ABSL_FLAG(bool, weights, true, "Ask for the attention weights and draw them");
ABSL_FLAG(bool, layer, false,
          "A whole layer of self-attention, with random projections of heads x dim");
ABSL_FLAG(
    std::string, heads, "",
    "Of a model: the heads to show, as in 0,3,8-11; default all. Of random tensors: how many; "
    "default 2");
ABSL_FLAG(std::optional<int32_t>, kv_heads, std::nullopt,
          "Key and value heads of the random tensors; default: --heads");
ABSL_FLAG(int32_t, length, 8, "Queries and keys of the random tensors");
ABSL_FLAG(int32_t, dim, 16, "Values for each head of the random tensors");
ABSL_FLAG(uint64_t, random_seed, 1, "Of the random tensors");
ABSL_FLAG(bool, check, false,
          "Compute the same here, as plain loops in double precision, and fail if it differs");
ABSL_FLAG(double, tolerance, 1e-4, "The largest difference that --check accepts");
ABSL_FLAG(std::string, output, "", "Write the output to this .npy file");
ABSL_FLAG(std::string, text, "", "Show the maps of a model that reads this text");
ABSL_FLAG(std::string, text_pair, "", "A second segment of --text");
ABSL_FLAG(std::string, target_text, "", "The output that an encoder-decoder is run on");
ABSL_FLAG(std::string, kind, "", "Which maps of the model: encoder, decoder or cross");
ABSL_FLAG(std::string, layers, "",
          "Of a model: the layers to show, as in 0,3,8-11; -1 is the last; default all");
ABSL_FLAG(std::string, reduction, "",
          "How maps become fewer: none, mean_heads, mean_layers, rollout, top_k");
ABSL_FLAG(std::string, query_range, "", "Rows to show, as in 0:8; default all");
ABSL_FLAG(std::string, key_range, "", "Columns to show, as in 0:8; default all");

namespace attendant::client {
namespace {

absl::StatusOr<FloatTensor> ReadFlagFile(absl::string_view flag, const std::string& path) {
  if (path.empty())
    return absl::InvalidArgumentError(absl::StrCat("--", flag, " is missing beside the others"));
  return ReadArrayFile(path);
}

absl::Status ReadTensors(AttentionProblem& problem) {
  for (const auto& [flag, path, tensor] :
       {std::tuple("query", absl::GetFlag(FLAGS_query), &problem.query),
        std::tuple("key", absl::GetFlag(FLAGS_key), &problem.key),
        std::tuple("value", absl::GetFlag(FLAGS_value), &problem.value)}) {
    auto content = ReadFlagFile(flag, path);
    if (!content.ok()) return content.status();
    *tensor = *std::move(content);
  }
  return absl::OkStatus();
}

absl::Status CheckSizes(int32_t heads) {
  for (const auto& [name, size] :
       {std::pair("heads", heads), std::pair("kv_heads", absl::GetFlag(FLAGS_kv_heads).value_or(1)),
        std::pair("length", absl::GetFlag(FLAGS_length)),
        std::pair("dim", absl::GetFlag(FLAGS_dim))}) {
    if (size < 1 || size > 1 << 16) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", name, " is ", size, "; it is at least 1 and at most 65536"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<AttentionProblem> ProblemFromFlags() {
  AttentionProblem problem;
  const bool has_files = !absl::GetFlag(FLAGS_query).empty() || !absl::GetFlag(FLAGS_key).empty() ||
                         !absl::GetFlag(FLAGS_value).empty();
  int32_t heads = 2;
  if (const std::string text = absl::GetFlag(FLAGS_heads);
      !text.empty() && !absl::SimpleAtoi(text, &heads)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--heads is '", text, "'; of random tensors it is a number"));
  }
  if (has_files) {
    if (absl::GetFlag(FLAGS_layer))
      return absl::InvalidArgumentError("--layer works on random tensors only");
    absl::Status status = ReadTensors(problem);
    if (!status.ok()) return status;
  } else {
    absl::Status status = CheckSizes(heads);
    if (!status.ok()) return status;
    problem = RandomAttention(heads, absl::GetFlag(FLAGS_kv_heads).value_or(heads),
                              absl::GetFlag(FLAGS_length), absl::GetFlag(FLAGS_dim),
                              absl::GetFlag(FLAGS_layer), absl::GetFlag(FLAGS_random_seed));
  }
  if (const std::string path = absl::GetFlag(FLAGS_mask); !path.empty()) {
    auto mask = ReadArrayFile(path);
    if (!mask.ok()) return mask.status();
    problem.mask = *std::move(mask);
  }
  problem.causal = absl::GetFlag(FLAGS_causal);
  problem.scale = absl::GetFlag(FLAGS_scale);
  problem.sliding_window = absl::GetFlag(FLAGS_sliding_window);
  return problem;
}

// The largest difference; infinite where a value is not a number.
double LargestDifference(const FloatTensor& a, const FloatTensor& b) {
  double largest = 0;
  for (size_t i = 0; i < a.values.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a.values[i]) - b.values[i]);
    largest = std::max(
        largest, std::isnan(difference) ? std::numeric_limits<double>::infinity() : difference);
  }
  return largest;
}

absl::Status CheckAgainstPlainLoops(const AttentionProblem& problem, const Attention& attention) {
  const auto expected = Solve(problem);
  if (!expected.ok()) return expected.status();
  double difference = 0;
  for (const auto& [name, actual, twin] :
       {std::tuple("output", &attention.output, &expected->output),
        std::tuple("weights", &attention.weights, &expected->weights)}) {
    if (actual->shape.empty() && twin == &expected->weights) continue;  // Not asked for.
    if (actual->shape != twin->shape) {
      return absl::InternalError(
          absl::StrCat(name, " has the shape [", absl::StrJoin(actual->shape, ", "),
                       "]; plain loops give [", absl::StrJoin(twin->shape, ", "), "]"));
    }
    difference = std::max(difference, LargestDifference(*actual, *twin));
  }
  const std::string text =
      absl::StrFormat("largest difference from plain loops in double precision: %.1e", difference);
  if (!(difference <= absl::GetFlag(FLAGS_tolerance))) {
    return absl::InternalError(
        absl::StrFormat("%s, above --tolerance=%.1e", text, absl::GetFlag(FLAGS_tolerance)));
  }
  (absl::GetFlag(FLAGS_json) ? std::cerr : std::cout) << text << "\n";
  return absl::OkStatus();
}

void PrintAnswer(const Attention& attention) {
  if (!attention.weights.shape.empty()) {
    const auto picture = PictureOfTensors(attention.weights);
    if (picture.ok()) DrawInTerminal(*picture);
  }
  const FloatTensor& output = attention.output;
  const size_t shown = std::min<size_t>(output.values.size(), 6);
  const auto format = [](std::string* out, float value) {
    absl::StrAppendFormat(out, "%.4f", value);
  };
  std::cout << "output [" << absl::StrJoin(output.shape, ", ") << "]: "
            << absl::StrJoin(output.values.begin(), output.values.begin() + shown, " ", format)
            << (shown < output.values.size() ? " …" : "") << "\n"
            << Dim(absl::StrCat(
                   InTime(ToDuration(attention.finished.timing().total())), " in the server, ",
                   InTime(ToDuration(attention.finished.timing().compute())), " of it computing"))
            << "\n";
}

absl::Status AttendToTensors() {
  const auto problem = ProblemFromFlags();
  if (!problem.ok()) return problem.status();
  const auto client = ConnectWithFlags();
  if (!client.ok()) return client.status();
  const bool has_weights = absl::GetFlag(FLAGS_weights) || WritesPictures();
  const auto attention = client->Attend(ToRequest(*problem, has_weights));
  if (!attention.ok()) return attention.status();
  if (absl::GetFlag(FLAGS_json)) {
    std::cout << JsonObject(
                     {{"output", ToJson(attention->output)},
                      {"weights",
                       attention->weights.shape.empty() ? "null" : ToJson(attention->weights)},
                      {"timing", ToJson(attention->finished.timing())}})
              << "\n";
  } else {
    PrintAnswer(*attention);
  }
  if (const std::string path = absl::GetFlag(FLAGS_output); !path.empty()) {
    const absl::Status status = WriteNpyFile(attention->output, path);
    if (!status.ok()) return status;
  }
  if (WritesPictures()) {
    const auto picture = PictureOfTensors(attention->weights);
    if (!picture.ok()) return picture.status();
    if (const absl::Status status = WritePictures(*picture); !status.ok()) return status;
  }
  return absl::GetFlag(FLAGS_check) ? CheckAgainstPlainLoops(*problem, *attention)
                                    : absl::OkStatus();
}

// "0,3,8-11" -> 0 3 8 9 10 11
absl::Status ParseIndices(absl::string_view flag, const std::string& text,
                          google::protobuf::RepeatedField<int32_t>& indices) {
  for (const absl::string_view part : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    int32_t first, last;
    const size_t dash = part.find('-', 1);
    const bool is_range = dash != absl::string_view::npos;
    bool is_good = absl::SimpleAtoi(part.substr(0, dash), &first);
    last = first;
    if (is_range) is_good = is_good && absl::SimpleAtoi(part.substr(dash + 1), &last);
    if (!is_good || last < first || last - first > 4096) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", flag, ": '", part, "' is neither an index nor a range such as 8-11"));
    }
    for (int32_t i = first; i <= last; ++i) indices.Add(i);
  }
  return absl::OkStatus();
}

// "0:8"
absl::Status ParseRange(absl::string_view flag, const std::string& text, v1::IndexRange& range) {
  const std::pair<absl::string_view, absl::string_view> ends = absl::StrSplit(text, ':');
  int32_t begin, end;
  if (!absl::SimpleAtoi(ends.first, &begin) || !absl::SimpleAtoi(ends.second, &end)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag, " is '", text, "'; it is BEGIN:END, without END, as in 0:8"));
  }
  range.set_begin(begin);
  range.set_end(end);
  return absl::OkStatus();
}

absl::Status SetSelection(v1::ModelAttention& model) {
  for (const auto& [flag, text, indices] :
       {std::tuple("layers", absl::GetFlag(FLAGS_layers), model.mutable_layers()),
        std::tuple("heads", absl::GetFlag(FLAGS_heads), model.mutable_heads())}) {
    const absl::Status status = ParseIndices(flag, text, *indices);
    if (!status.ok()) return status;
  }
  if (const std::string text = absl::GetFlag(FLAGS_query_range); !text.empty()) {
    const absl::Status status = ParseRange("query_range", text, *model.mutable_query_range());
    if (!status.ok()) return status;
  }
  if (const std::string text = absl::GetFlag(FLAGS_key_range); !text.empty()) {
    const absl::Status status = ParseRange("key_range", text, *model.mutable_key_range());
    if (!status.ok()) return status;
  }
  if (const std::string name = absl::GetFlag(FLAGS_kind); !name.empty()) {
    if (name == "encoder") {
      model.set_kind(v1::ATTENTION_KIND_ENCODER_SELF);
    } else if (name == "decoder") {
      model.set_kind(v1::ATTENTION_KIND_DECODER_SELF);
    } else if (name == "cross") {
      model.set_kind(v1::ATTENTION_KIND_CROSS);
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("--kind is '", name, "'; it is one of encoder, decoder, cross"));
    }
  }
  if (const std::string name = absl::GetFlag(FLAGS_reduction); !name.empty()) {
    v1::AttentionReduction reduction;
    if (!v1::AttentionReduction_Parse(
            absl::StrCat("ATTENTION_REDUCTION_", absl::AsciiStrToUpper(name)), &reduction) ||
        reduction == v1::ATTENTION_REDUCTION_UNSPECIFIED) {
      return absl::InvalidArgumentError(
          absl::StrCat("--reduction is '", name,
                       "'; it is one of none, mean_heads, mean_layers, rollout, top_k"));
    }
    model.set_reduction(reduction);
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::AttendRequest> ModelRequestFromFlags() {
  v1::AttendRequest request;
  v1::ModelAttention& model = *request.mutable_model();
  model.set_model(absl::GetFlag(FLAGS_model));
  const std::vector<std::string> images = absl::GetFlag(FLAGS_image);
  const std::string text = absl::GetFlag(FLAGS_text);
  const std::string text_pair = absl::GetFlag(FLAGS_text_pair);
  if (images.size() > 1 || (!images.empty() && !text.empty()))
    return absl::InvalidArgumentError("`attend` takes one --text, or one --image");
  if (!images.empty()) {
    auto image = ReadWholeFile(images[0]);
    if (!image.ok()) return image.status();
    model.set_image(*std::move(image));
  } else if (!text_pair.empty()) {
    model.mutable_pair()->set_text(text);
    model.mutable_pair()->set_text_pair(text_pair);
  } else {
    model.set_text(text);
  }
  if (const std::string target = absl::GetFlag(FLAGS_target_text); !target.empty())
    model.set_target_text(target);
  if (const auto top_k = absl::GetFlag(FLAGS_top_k)) model.set_top_k(*top_k);
  if (absl::Status status = SetSelection(model); !status.ok()) return status;
  const auto truncation = TruncationFromFlags();
  if (!truncation.ok()) return truncation.status();
  if (*truncation) *model.mutable_truncation() = **truncation;
  return request;
}

// Whether nothing says which of a model's maps to show, nor where: a screen has no room for all.
bool ShowsAllOnScreen(const v1::ModelAttention& model) {
  return model.layers().empty() && model.heads().empty() &&
         model.reduction() == v1::ATTENTION_REDUCTION_UNSPECIFIED && !WritesPictures() &&
         !absl::GetFlag(FLAGS_json);
}

void PrintMaps(const Attention& attention) {
  std::string maps = "[";
  for (const AttentionMap& map : attention.maps) {
    absl::StrAppend(&maps, maps.size() > 1 ? "," : "",
                    JsonObject({{"kind", JsonString(v1::AttentionKind_Name(map.kind))},
                                {"layer", absl::StrCat(map.layer)},
                                {"heads", absl::StrCat("[", absl::StrJoin(map.heads, ","), "]")},
                                {"weights", ToJson(map.weights)},
                                {"keys", absl::StrCat("[", absl::StrJoin(map.keys, ","), "]")}}));
  }
  std::cout << JsonObject({{"started", ToJson(attention.started)},
                           {"maps", maps + "]"},
                           {"finished", ToJson(attention.finished)}})
            << "\n";
}

absl::Status AttendToModel() {
  auto request = ModelRequestFromFlags();
  if (!request.ok()) return request.status();
  v1::ModelAttention& model = *request->mutable_model();
  const bool has_default_choice = ShowsAllOnScreen(model);
  if (has_default_choice) {
    model.add_layers(-1);
    model.set_reduction(v1::ATTENTION_REDUCTION_MEAN_HEADS);
  }
  const auto client = ConnectWithFlags();
  if (!client.ok()) return client.status();
  const auto attention = client->Attend(*request);
  if (!attention.ok()) return attention.status();
  if (absl::GetFlag(FLAGS_json)) PrintMaps(*attention);
  const auto picture = PictureOfModel(model, *attention);
  if (!picture.ok()) return picture.status();
  if (WritesPictures()) return WritePictures(*picture);
  if (absl::GetFlag(FLAGS_json)) return absl::OkStatus();
  DrawInTerminal(*picture);
  if (has_default_choice) {
    std::cerr << Dim("The last layer; --layers, --heads and --reduction choose others, --html and "
                     "--png draw all.")
              << "\n";
  }
  return absl::OkStatus();
}

absl::Status Run(const Arguments& arguments) {
  if (!arguments.empty())
    return absl::InvalidArgumentError("`attend` takes no arguments, only flags");
  const bool is_model = !absl::GetFlag(FLAGS_text).empty() || !absl::GetFlag(FLAGS_image).empty();
  return is_model ? AttendToModel() : AttendToTensors();
}

}  // namespace

Command AttendCommand() {
  return {
      .name = "attend",
      .arguments = "",
      .summary = "show what attends to what in a model, or compute attention on tensors",
      .description =
          "With --text or --image, the attention maps inside a model; else "
          "softmax(Q·Kᵀ·scale + mask)·V on\n"
          "tensors from files, or on random ones. Maps are drawn in the terminal, or where "
          "--html and --png say. Over an image the patches are laid as over all of it: of a model "
          "that cuts out the\n"
          "middle of images, as most DeiT do, they belong to that part.\n\n"
          "  attendant attend --model=bert --text='The cat sat on the mat'\n"
          "  attendant attend --model=bert --text='The cat sat' --layers=0-3 --heads=0,5 "
          "--html=maps.html\n"
          "  attendant attend --model=opus --kind=cross --text='A cat' --target_text='Eine "
          "Katze' --png=map.png\n"
          "  attendant attend --model=vit --image=cat.jpg --reduction=rollout --png=cat.png\n"
          "  attendant attend --causal\n"
          "  attendant attend --layer --heads=12 --dim=64 --length=128 --noweights --check\n"
          "  attendant attend --query=q.npy --key=k.npy --value=v.npy --output=out.npy",
      .flags = {"text",     "text_pair", "image",      "target_text",    "kind",      "layers",
                "heads",    "reduction", "top_k",      "query_range",    "key_range", "html",
                "png",      "truncate",  "max_tokens", "query",          "key",       "value",
                "mask",     "causal",    "scale",      "sliding_window", "weights",   "layer",
                "kv_heads", "length",    "dim",        "random_seed",    "check",     "tolerance",
                "output"},
      .run = Run};
}

}  // namespace attendant::client
