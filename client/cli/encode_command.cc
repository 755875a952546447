#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <optional>
#include <string>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/command.h"
#include "client/cli/flags.h"
#include "client/cli/inputs.h"
#include "client/cli/json.h"
#include "client/cli/terminal.h"

ABSL_FLAG(bool, similarity, false,
          "Print how near each text is to each other, as the cosine of their vectors");
ABSL_FLAG(int32_t, values, 6, "How many values of each vector to print; 0 for all");
ABSL_FLAG(std::string, pooling, "",
          "How tokens become a vector: mean, cls, max, last_token; default: the model's");
ABSL_FLAG(std::optional<bool>, normalize, std::nullopt,
          "true: scale vectors to length 1; default: as the model says");
ABSL_FLAG(std::optional<int32_t>, dimensions, std::nullopt,
          "Keep this many values of each vector; default: all");
ABSL_FLAG(std::string, prompt, "", "Put this before each text");
ABSL_FLAG(std::string, prompt_name, "", "Put the model's prompt of this name before each text");

namespace attendant::client {
namespace {

// What one call carries when texts come from a file of any length; and of images, each of which may
// have megabytes.
constexpr int kTextsPerCall = 256;
constexpr int kImagesPerCall = 8;

absl::StatusOr<v1::EncodeRequest> RequestFromFlags() {
  v1::EncodeRequest request;
  request.set_model(absl::GetFlag(FLAGS_model));
  if (const std::string pooling = absl::GetFlag(FLAGS_pooling); !pooling.empty()) {
    v1::Pooling value;
    std::string name = absl::StrCat("POOLING_", pooling);
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return std::toupper(c); });
    if (!v1::Pooling_Parse(name, &value) || value == v1::POOLING_NONE ||
        value == v1::POOLING_UNSPECIFIED) {
      return absl::InvalidArgumentError(
          absl::StrCat("--pooling is '", pooling, "'; it is one of mean, cls, max, last_token"));
    }
    request.set_pooling(value);
  }
  if (const auto normalize = absl::GetFlag(FLAGS_normalize)) request.set_normalize(*normalize);
  if (const auto dimensions = absl::GetFlag(FLAGS_dimensions)) request.set_dimensions(*dimensions);
  const std::string prompt = absl::GetFlag(FLAGS_prompt);
  const std::string prompt_name = absl::GetFlag(FLAGS_prompt_name);
  if (!prompt.empty() && !prompt_name.empty()) {
    return absl::InvalidArgumentError("--prompt and --prompt_name exclude each other");
  }
  if (!prompt.empty()) request.set_prompt(prompt);
  if (!prompt_name.empty()) request.set_prompt_name(prompt_name);
  const auto truncation = TruncationFromFlags();
  if (!truncation.ok()) return truncation.status();
  if (*truncation) *request.mutable_truncation() = **truncation;
  return request;
}

// A good text and its vector.
struct Row {
  std::string text;
  std::vector<float> vector;
};

double Cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double product = 0, a_square = 0, b_square = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    product += static_cast<double>(a[i]) * b[i];
    a_square += static_cast<double>(a[i]) * a[i];
    b_square += static_cast<double>(b[i]) * b[i];
  }
  return product / std::sqrt(std::max(a_square * b_square, 1e-300));
}

FloatTensor Similarities(const std::vector<Row>& rows) {
  const int64_t count = static_cast<int64_t>(rows.size());
  FloatTensor matrix{{count, count}, {}};
  for (const Row& a : rows) {
    for (const Row& b : rows)
      matrix.values.push_back(static_cast<float>(Cosine(a.vector, b.vector)));
  }
  return matrix;
}

void PrintSimilarities(const std::vector<Row>& rows) {
  static constexpr int kTextWidth = 44;
  const FloatTensor matrix = Similarities(rows);
  std::string numbers;
  for (size_t i = 0; i < rows.size(); ++i) absl::StrAppendFormat(&numbers, "%6d", i + 1);
  std::cout << Dim(absl::StrCat(std::string(kTextWidth + 5, ' '), numbers)) << "\n";
  for (size_t i = 0; i < rows.size(); ++i) {
    const std::string text = Padded(Shortened(Printable(rows[i].text), kTextWidth), kTextWidth);
    std::cout << Dim(absl::StrFormat("%3d  ", i + 1)) << text;
    for (const float similarity : matrix.Row(i)) {
      std::cout << Shaded(absl::StrFormat("%6.2f", similarity), similarity);
    }
    std::cout << "\n";
  }
}

void PrintVectors(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    const size_t size = row.vector.size();
    const size_t shown = absl::GetFlag(FLAGS_values) > 0
                             ? std::min<size_t>(size, absl::GetFlag(FLAGS_values))
                             : size;
    const auto format = [](std::string* out, float value) {
      absl::StrAppendFormat(out, "%9.6f", value);
    };
    std::cout << absl::StrJoin(row.vector.begin(), row.vector.begin() + shown, " ", format);
    if (shown < size) std::cout << Dim(absl::StrCat(" … ", size - shown, " more"));
    std::cout << "  " << Shortened(Printable(row.text), 48) << "\n";
  }
}

class Encoder {
 public:
  // With `are_images`, texts are the names of image files.
  Encoder(const Client& client, v1::EncodeRequest request, bool are_images)
      : client_(client), request_(std::move(request)), are_images_(are_images) {}

  // Encodes texts [begin, end) and keeps their vectors.
  absl::Status Encode(const std::vector<std::string>& texts, size_t begin, size_t end) {
    request_.clear_inputs();
    for (size_t i = begin; i < end; ++i) {
      if (!are_images_) {
        request_.add_inputs()->set_text(texts[i]);
        continue;
      }
      auto content = ReadWholeFile(texts[i]);
      if (!content.ok()) return content.status();
      request_.add_inputs()->set_image(*std::move(content));
    }
    const auto response = client_.Encode(request_);
    if (!response.ok()) return response.status();
    const auto embeddings = FromMessage(response->embeddings());
    if (!embeddings.ok()) return embeddings.status();
    if (embeddings->shape.size() != 2 ||
        static_cast<size_t>(response->inputs_size()) != end - begin) {
      return absl::InternalError("the server's answer does not match the request");
    }
    for (int i = 0; i < response->inputs_size(); ++i) {
      const v1::EncodedInput& input = response->inputs(i);
      if (input.status().code() != 0) {
        std::cerr << "text " << begin + i + 1 << ": " << input.status().message() << "\n";
        ++num_failed_;
        continue;
      }
      if (input.row() < 0 || input.row() >= embeddings->shape[0]) {
        return absl::InternalError(absl::StrCat("the server's answer has no row ", input.row()));
      }
      if (const int cut = input.original_tokens() - input.num_tokens(); cut > 0) {
        std::cerr << "text " << begin + i + 1 << ": " << cut << " of " << input.original_tokens()
                  << " tokens were cut\n";
      }
      const auto vector = embeddings->Row(input.row());
      rows_.push_back({texts[begin + i], {vector.begin(), vector.end()}});
    }
    if (absl::GetFlag(FLAGS_json)) PrintJson(*response, *embeddings);
    return absl::OkStatus();
  }

  const std::vector<Row>& rows() const { return rows_; }
  int num_failed() const { return num_failed_; }
  void Clear() { rows_.clear(); }

 private:
  void PrintJson(const v1::EncodeResponse& response, const FloatTensor& embeddings) const {
    std::vector<std::pair<absl::string_view, std::string>> members = {
        {"inputs", JsonList(response.inputs())},
        {"embeddings", ToJson(embeddings)},
        {"usage", ToJson(response.usage())},
        {"timing", ToJson(response.timing())},
    };
    if (absl::GetFlag(FLAGS_similarity))
      members.push_back({"similarity", ToJson(Similarities(rows_))});
    std::cout << JsonObject(members) << "\n";
  }

  const Client& client_;
  v1::EncodeRequest request_;
  const bool are_images_;
  std::vector<Row> rows_;
  int num_failed_ = 0;
};

absl::Status Run(const Arguments& arguments) {
  auto request = RequestFromFlags();
  if (!request.ok()) return request.status();
  std::vector<std::string> texts = arguments;
  const std::vector<std::string> images = absl::GetFlag(FLAGS_image);
  if (!images.empty()) {
    if (!texts.empty()) return absl::InvalidArgumentError("--image and texts exclude each other");
    texts = images;
  } else if (texts.empty()) {
    for (std::string line; std::getline(std::cin, line);) texts.push_back(line);
  }
  const bool similarity = absl::GetFlag(FLAGS_similarity);
  if (similarity && texts.size() > kTextsPerCall) {
    return absl::InvalidArgumentError(
        absl::StrCat("--similarity takes at most ", kTextsPerCall, " texts"));
  }
  const auto client = ConnectWithFlags();
  if (!client.ok()) return client.status();
  Encoder encoder(*client, *std::move(request), !images.empty());
  const size_t step = images.empty() ? kTextsPerCall : kImagesPerCall;
  for (size_t begin = 0; begin == 0 || begin < texts.size(); begin += step) {
    const absl::Status status = encoder.Encode(texts, begin, std::min(begin + step, texts.size()));
    if (!status.ok()) return status;
    if (!absl::GetFlag(FLAGS_json))
      similarity ? PrintSimilarities(encoder.rows()) : PrintVectors(encoder.rows());
    encoder.Clear();
  }
  if (encoder.num_failed() == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(encoder.num_failed(), " of ", texts.size(), " texts failed"));
}

}  // namespace

Command EncodeCommand() {
  return {.name = "encode",
          .arguments = "[TEXT...]",
          .summary = "turn texts or images into vectors, or compare them",
          .description =
              "Without arguments, each line of standard input is a text.\n\n"
              "  attendant encode --json 'A man is eating food.'\n"
              "  attendant encode --similarity 'A cat sleeps' 'A kitten naps' 'Stocks fell'\n"
              "  attendant encode < sentences.txt\n"
              "  attendant encode --similarity --image=cat.jpg,dog.jpg",
          .flags = {"similarity", "image", "values", "pooling", "normalize", "dimensions", "prompt",
                    "prompt_name", "truncate", "max_tokens"},
          .run = Run};
}

}  // namespace attendant::client
