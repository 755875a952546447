#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/array_file.h"
#include "client/cli/attention_problem.h"
#include "client/cli/command.h"
#include "client/cli/flags.h"
#include "client/cli/json.h"
#include "client/cli/terminal.h"

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
ABSL_FLAG(int32_t, heads, 2, "Heads of the random tensors");
ABSL_FLAG(std::optional<int32_t>, kv_heads, std::nullopt,
          "Key and value heads of the random tensors; default: --heads");
ABSL_FLAG(int32_t, length, 8, "Queries and keys of the random tensors");
ABSL_FLAG(int32_t, dim, 16, "Values for each head of the random tensors");
ABSL_FLAG(uint64_t, random_seed, 1, "Of the random tensors");
ABSL_FLAG(bool, check, false,
          "Compute the same here, as plain loops in double precision, and fail if it differs");
ABSL_FLAG(double, tolerance, 1e-4, "The largest difference that --check accepts");
ABSL_FLAG(std::string, output, "", "Write the output to this .npy file");

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

absl::Status CheckSizes() {
  for (const auto& [name, size] : {std::pair("heads", absl::GetFlag(FLAGS_heads)),
                                   std::pair("kv_heads", absl::GetFlag(FLAGS_kv_heads).value_or(1)),
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
  const int heads = absl::GetFlag(FLAGS_heads);
  if (has_files) {
    if (absl::GetFlag(FLAGS_layer))
      return absl::InvalidArgumentError("--layer works on random tensors only");
    const absl::Status status = ReadTensors(problem);
    if (!status.ok()) return status;
  } else {
    const absl::Status status = CheckSizes();
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

constexpr int64_t kMaxNumbers = 24;  // in a row of a picture; more are shades alone

// One head's weights as a picture: a row for each query, in percent where there is room for
// numbers.
void DrawHead(absl::Span<const float> weights, int64_t num_queries, int64_t num_keys) {
  static constexpr int64_t kMaxCells = 64;
  const int64_t rows = std::min(num_queries, kMaxCells);
  const int64_t columns = std::min(num_keys, kMaxCells);
  const bool has_numbers = columns <= kMaxNumbers;
  for (int64_t row = 0; row < rows; ++row) {
    std::cout << Dim(absl::StrFormat("%4d ", row));
    for (int64_t column = 0; column < columns; ++column) {
      const float weight = weights[row * num_keys + column];
      static constexpr const char* kShades[] = {"··", "░░", "▒▒", "▓▓", "██"};
      const std::string text = has_numbers ? absl::StrFormat("%3.0f ", 100 * weight)
                               : HasColor()
                                   ? "  "
                                   : kShades[std::clamp(static_cast<int>(weight * 8), 0, 4)];
      // Softmax over many keys is rarely near 1: the square root shows more of it.
      std::cout << (weight == 0 ? Dim(has_numbers ? "  · " : text)
                                : Shaded(text, std::sqrt(weight)));
    }
    std::cout << (columns < num_keys ? " …" : "") << "\n";
  }
  if (rows < num_queries)
    std::cout << Dim(absl::StrCat("     … ", num_queries - rows, " more queries")) << "\n";
}

void DrawWeights(const FloatTensor& weights) {
  static constexpr int64_t kMaxHeads = 4;
  const int64_t num_keys = weights.shape.back();
  const int64_t num_queries = weights.shape[weights.shape.size() - 2];
  const int64_t size = num_queries * num_keys;
  const int64_t num_heads = size > 0 ? static_cast<int64_t>(weights.values.size()) / size : 0;
  for (int64_t head = 0; head < std::min(num_heads, kMaxHeads); ++head) {
    std::cout << Bold(absl::StrCat("head ", head)) << Dim(": rows are queries, columns are keys")
              << Dim(num_keys <= kMaxNumbers ? ", in percent" : "") << "\n";
    DrawHead(absl::MakeConstSpan(weights.values).subspan(head * size, size), num_queries, num_keys);
  }
  if (num_heads > kMaxHeads) {
    std::cout << Dim(absl::StrCat("… ", num_heads - kMaxHeads, " more heads")) << "\n";
  }
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
  if (!attention.weights.shape.empty()) DrawWeights(attention.weights);
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

absl::Status Run(const Arguments& arguments) {
  if (!arguments.empty())
    return absl::InvalidArgumentError("`attend` takes no arguments, only flags");
  const auto problem = ProblemFromFlags();
  if (!problem.ok()) return problem.status();
  const auto client = ConnectWithFlags();
  if (!client.ok()) return client.status();
  const auto attention = client->Attend(ToRequest(*problem, absl::GetFlag(FLAGS_weights)));
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
  return absl::GetFlag(FLAGS_check) ? CheckAgainstPlainLoops(*problem, *attention)
                                    : absl::OkStatus();
}

}  // namespace

Command AttendCommand() {
  return {.name = "attend",
          .arguments = "",
          .summary = "compute attention on tensors, and draw its weights",
          .description =
              "softmax(Q·Kᵀ·scale + mask)·V on tensors from files, or on random ones.\n\n"
              "  attendant attend --causal\n"
              "  attendant attend --layer --heads=12 --dim=64 --length=128 --noweights --check\n"
              "  attendant attend --query=q.npy --key=k.npy --value=v.npy --output=out.npy",
          .flags = {"query", "key", "value", "mask", "causal", "scale", "sliding_window", "weights",
                    "layer", "heads", "kv_heads", "length", "dim", "random_seed", "check",
                    "tolerance", "output"},
          .run = Run};
}

}  // namespace attendant::client
