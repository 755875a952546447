#include <algorithm>
#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "client/cli/command.h"
#include "client/cli/flags.h"
#include "client/cli/inputs.h"
#include "client/cli/json.h"
#include "client/cli/terminal.h"

ABSL_FLAG(std::vector<std::string>, targets, {},
          "Score only these words, separated by commas; each is one token of the model");

namespace attendant::client {
namespace {

absl::Status FillText(const std::string& line, v1::FillMaskInput& input) {
  input.set_text(line);
  return absl::OkStatus();
}

void PrintMasks(const v1::FillMaskInput& input, const v1::FilledInput& filled) {
  static constexpr int kBarWidth = 30;
  std::cout << Bold(Printable(input.text())) << "\n";
  for (int i = 0; i < filled.masks_size(); ++i) {
    if (filled.masks_size() > 1) std::cout << Dim(absl::StrCat("  mask ", i + 1)) << "\n";
    int width = 0;
    for (const v1::MaskCandidate& candidate : filled.masks(i).candidates())
      width = std::max(width, WidthOf(Printable(candidate.token())));
    for (const v1::MaskCandidate& candidate : filled.masks(i).candidates()) {
      std::cout << "  " << Padded(InPercent(candidate.score()), 7, true) << "  "
                << Padded(Printable(candidate.token()), width) << "  "
                << Bar(candidate.score(), kBarWidth) << "\n";
    }
  }
}

absl::Status Run(const Arguments& arguments) {
  v1::FillMaskRequest request;
  request.set_model(absl::GetFlag(FLAGS_model));
  if (const auto top_k = absl::GetFlag(FLAGS_top_k)) request.set_top_k(*top_k);
  for (const std::string& target : absl::GetFlag(FLAGS_targets)) request.add_targets(target);
  const auto truncation = TruncationFromFlags();
  if (!truncation.ok()) return truncation.status();
  if (*truncation) *request.mutable_truncation() = **truncation;
  auto lines = InputLines::Open(arguments);
  if (!lines.ok()) return lines.status();
  const auto client = ConnectWithFlags();
  if (!client.ok()) return client.status();

  FailedInputs failed;
  const auto count = ForEachCall<v1::FillMaskRequest, v1::FillMaskInput>(
      *lines, request, FillText, [&](int64_t first) -> absl::Status {
        const auto response = client->FillMask(request);
        if (!response.ok()) return response.status();
        if (response->inputs_size() != request.inputs_size())
          return absl::InternalError("the server's answer does not match the request");
        for (int i = 0; i < response->inputs_size(); ++i) {
          if (failed.Check(first + i, response->inputs(i).status()) && !absl::GetFlag(FLAGS_json)) {
            PrintMasks(request.inputs(i), response->inputs(i));
          }
        }
        if (absl::GetFlag(FLAGS_json)) std::cout << ToJson(*response) << "\n";
        return absl::OkStatus();
      });
  return count.ok() ? failed.Result(*count) : count.status();
}

}  // namespace

Command FillMaskCommand() {
  return {.name = "fill-mask",
          .arguments = "[TEXT...]",
          .summary = "say which words fit the gaps of a text",
          .description =
              "A gap is the model's mask token: [MASK] for BERT, <mask> for RoBERTa. Without "
              "arguments, each\n"
              "line of --input or of standard input is a text.\n\n"
              "  attendant fill-mask 'The capital of France is [MASK].'\n"
              "  attendant fill-mask --top_k=3 --targets=good,bad 'The film was [MASK].'\n"
              "  attendant fill-mask --json --input=texts.txt",
          .flags = {"top_k", "targets", "input", "truncate", "max_tokens"},
          .run = Run};
}

}  // namespace attendant::client
