#include <algorithm>
#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/command.h"
#include "client/cli/flags.h"
#include "client/cli/inputs.h"
#include "client/cli/json.h"
#include "client/cli/terminal.h"

ABSL_FLAG(std::string, aggregation, "",
          "For models that label tokens: none (each by itself) or entity (B- and I- together)");

namespace attendant::client {
namespace {

absl::Status FillText(const std::string& line, v1::ClassifyInput& input) {
  input.set_text(line);
  return absl::OkStatus();
}

absl::Status FillImage(const std::string& path, v1::ClassifyInput& input) {
  auto content = ReadWholeFile(path);
  if (!content.ok()) return content.status();
  input.set_image(*std::move(content));
  return absl::OkStatus();
}

std::string Score(float score) {
  return absl::GetFlag(FLAGS_raw_scores) ? absl::StrFormat("%.3f", score) : InPercent(score);
}

std::string TitleOf(const v1::ClassifyInput& input, const std::string& line) {
  switch (input.input_case()) {
    case v1::ClassifyInput::kText:
      return Printable(input.text());
    case v1::ClassifyInput::kPair:
      return Printable(absl::StrCat(input.pair().text(), " / ", input.pair().text_pair()));
    case v1::ClassifyInput::kImage:
      return Printable(line);
    default:
      return absl::StrCat(input.tokens().ids_size(), " tokens");
  }
}

void PrintLabels(const v1::ClassifiedInput& classified) {
  static constexpr int kBarWidth = 30;
  int width = 0;
  for (const v1::LabelScore& label : classified.labels())
    width = std::max(width, WidthOf(Printable(label.label())));
  for (const v1::LabelScore& label : classified.labels()) {
    std::cout << "  " << Padded(Score(label.score()), 7, true) << "  "
              << Padded(Printable(label.label()), width);
    if (!absl::GetFlag(FLAGS_raw_scores)) std::cout << "  " << Bar(label.score(), kBarWidth);
    std::cout << "\n";
  }
}

void PrintSpans(const v1::ClassifiedInput& classified) {
  Table table("lrll", {"", "characters", "text", "labels"});
  for (const v1::LabeledSpan& span : classified.spans()) {
    std::string labels;
    for (const v1::LabelScore& label : span.labels()) {
      absl::StrAppend(&labels, labels.empty() ? "" : "  ", Printable(label.label()), " ",
                      Score(label.score()));
    }
    table.AddRow({"", absl::StrCat(span.span().char_start(), "-", span.span().char_end()),
                  Printable(span.text()), labels});
  }
  table.Print();
}

absl::StatusOr<v1::ClassifyRequest> RequestFromFlags() {
  v1::ClassifyRequest request;
  request.set_model(absl::GetFlag(FLAGS_model));
  if (const auto top_k = absl::GetFlag(FLAGS_top_k)) request.set_top_k(*top_k);
  request.set_raw_scores(absl::GetFlag(FLAGS_raw_scores));
  const std::string aggregation = absl::GetFlag(FLAGS_aggregation);
  if (aggregation == "entity") {
    request.set_aggregation(v1::TOKEN_AGGREGATION_ENTITY);
  } else if (aggregation == "none") {
    request.set_aggregation(v1::TOKEN_AGGREGATION_NONE);
  } else if (!aggregation.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--aggregation is '", aggregation, "'; it is one of none, entity"));
  }
  const auto truncation = TruncationFromFlags();
  if (!truncation.ok()) return truncation.status();
  if (*truncation) *request.mutable_truncation() = **truncation;
  return request;
}

absl::Status Run(const Arguments& arguments) {
  auto request = RequestFromFlags();
  if (!request.ok()) return request.status();
  const std::vector<std::string> images = absl::GetFlag(FLAGS_image);
  if (!images.empty() && !arguments.empty())
    return absl::InvalidArgumentError("--image and texts exclude each other");
  auto lines = InputLines::Open(images.empty() ? arguments : images);
  if (!lines.ok()) return lines.status();
  const auto client = ConnectWithFlags();
  if (!client.ok()) return client.status();

  FailedInputs failed;
  const auto count = ForEachCall<v1::ClassifyRequest, v1::ClassifyInput>(
      *lines, *request, images.empty() ? FillText : FillImage, [&](int64_t first) -> absl::Status {
        const auto response = client->Classify(*request);
        if (!response.ok()) return response.status();
        if (response->inputs_size() != request->inputs_size())
          return absl::InternalError("the server's answer does not match the request");
        for (int i = 0; i < response->inputs_size(); ++i) {
          const v1::ClassifiedInput& classified = response->inputs(i);
          if (!failed.Check(first + i, classified.status()) || absl::GetFlag(FLAGS_json)) continue;
          std::cout << Bold(
                           TitleOf(request->inputs(i), images.empty() ? "" : images[first + i - 1]))
                    << "\n";
          classified.spans().empty() ? PrintLabels(classified) : PrintSpans(classified);
        }
        if (absl::GetFlag(FLAGS_json)) std::cout << ToJson(*response) << "\n";
        return absl::OkStatus();
      });
  return count.ok() ? failed.Result(*count) : count.status();
}

}  // namespace

Command ClassifyCommand() {
  return {
      .name = "classify",
      .arguments = "[TEXT...]",
      .summary = "label texts, their tokens, or images",
      .description =
          "Without arguments, each line of --input or of standard input is a text. A line of "
          "an --input that\n"
          "ends in .jsonl is {\"text\": ...} or {\"pair\": {\"text\": ..., \"text_pair\": "
          "...}}.\n\n"
          "  attendant classify 'What a wonderful film!'\n"
          "  attendant classify --aggregation=entity 'Clara lives in Berlin.'\n"
          "  attendant classify --image=cat.jpg --top_k=3",
      .flags = {"image", "top_k", "raw_scores", "aggregation", "input", "truncate", "max_tokens"},
      .run = Run};
}

}  // namespace attendant::client
