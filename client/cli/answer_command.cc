#include <algorithm>
#include <cstdint>
#include <iostream>
#include <optional>
#include <string>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "client/cli/command.h"
#include "client/cli/flags.h"
#include "client/cli/inputs.h"
#include "client/cli/json.h"
#include "client/cli/terminal.h"

ABSL_FLAG(std::string, context, "", "The text that holds the answers");
ABSL_FLAG(std::string, context_file, "", "A file with that text; - for standard input");
ABSL_FLAG(std::optional<int32_t>, max_answer_tokens, std::nullopt,
          "The longest answer, in tokens; default 15");
ABSL_FLAG(std::optional<int32_t>, window_overlap_tokens, std::nullopt,
          "Tokens that the windows of a long text share; default 128");
ABSL_FLAG(bool, allow_no_answer, false, "Let the model find that the text has no answer");

namespace attendant::client {
namespace {

// The context that all questions of the command line share.
std::string& SharedContext() {
  static auto* context = new std::string;
  return *context;
}

absl::Status FillQuestion(const std::string& line, v1::AnswerInput& input) {
  input.set_question(line);
  input.set_context(SharedContext());
  return absl::OkStatus();
}

// The answer where it stands, with some of the text around it.
std::string InContext(const std::string& context, const v1::TextSpan& span) {
  static constexpr size_t kAround = 36;
  const size_t begin = span.byte_start();
  const size_t end = span.byte_end();
  if (span.byte_start() < 0 || begin >= end || end > context.size()) return "";
  const auto is_inside = [&context](size_t i) { return (context[i] & 0xc0) == 0x80; };
  size_t first = begin - std::min(begin, kAround);
  while (first < begin && is_inside(first)) ++first;
  size_t last = std::min(context.size(), end + kAround);
  while (last < context.size() && is_inside(last)) ++last;
  return absl::StrCat(first > 0 ? "…" : "", Printable(context.substr(first, begin - first)),
                      Bold(Printable(context.substr(begin, end - begin))),
                      Printable(context.substr(end, last - end)), last < context.size() ? "…" : "");
}

void PrintAnswers(const v1::AnswerInput& input, const v1::AnsweredInput& answered) {
  std::cout << Bold(Printable(input.question())) << "\n";
  int width = 0;
  for (const v1::AnswerSpan& answer : answered.answers())
    width = std::max(width, WidthOf(Printable(answer.text())));
  for (const v1::AnswerSpan& answer : answered.answers()) {
    std::cout << "  " << Padded(InPercent(answer.score()), 7, true) << "  ";
    if (answer.has_span()) {
      std::cout << Padded(Printable(answer.text()), width) << "  "
                << Dim(absl::StrCat(answer.span().char_start(), "-", answer.span().char_end()))
                << "  " << InContext(input.context(), answer.span()) << "\n";
    } else {
      std::cout << Dim("no answer in the text") << "\n";
    }
  }
}

absl::Status ReadSharedContext() {
  SharedContext() = absl::GetFlag(FLAGS_context);
  const std::string path = absl::GetFlag(FLAGS_context_file);
  if (!SharedContext().empty() && !path.empty())
    return absl::InvalidArgumentError("--context and --context_file exclude each other");
  if (path.empty()) return absl::OkStatus();
  auto content = ReadWholeFile(path);
  if (!content.ok()) return content.status();
  SharedContext() = *std::move(content);
  return absl::OkStatus();
}

absl::Status Run(const Arguments& arguments) {
  v1::AnswerRequest request;
  request.set_model(absl::GetFlag(FLAGS_model));
  if (const auto value = absl::GetFlag(FLAGS_top_k)) request.set_top_k(*value);
  if (const auto value = absl::GetFlag(FLAGS_max_answer_tokens))
    request.set_max_answer_tokens(*value);
  if (const auto value = absl::GetFlag(FLAGS_window_overlap_tokens))
    request.set_window_overlap_tokens(*value);
  request.set_allow_no_answer(absl::GetFlag(FLAGS_allow_no_answer));
  if (const absl::Status status = ReadSharedContext(); !status.ok()) return status;
  auto lines = InputLines::Open(arguments);
  if (!lines.ok()) return lines.status();
  if (!lines->is_json() && SharedContext().empty()) {
    return absl::InvalidArgumentError(
        "there is no text to find answers in: --context or --context_file gives one");
  }
  const auto client = ConnectWithFlags();
  if (!client.ok()) return client.status();

  FailedInputs failed;
  const auto count = ForEachCall<v1::AnswerRequest, v1::AnswerInput>(
      *lines, request, FillQuestion, [&](int64_t first) -> absl::Status {
        const auto response = client->Answer(request);
        if (!response.ok()) return response.status();
        if (response->inputs_size() != request.inputs_size())
          return absl::InternalError("the server's answer does not match the request");
        for (int i = 0; i < response->inputs_size(); ++i) {
          if (failed.Check(first + i, response->inputs(i).status()) && !absl::GetFlag(FLAGS_json))
            PrintAnswers(request.inputs(i), response->inputs(i));
        }
        if (absl::GetFlag(FLAGS_json)) std::cout << ToJson(*response) << "\n";
        return absl::OkStatus();
      });
  return count.ok() ? failed.Result(*count) : count.status();
}

}  // namespace

Command AnswerCommand() {
  return {.name = "answer",
          .arguments = "[QUESTION...]",
          .summary = "find the answers to questions in a text",
          .description =
              "Each argument is a question; without any, each line of --input or of standard "
              "input. A line of\n"
              "an --input that ends in .jsonl has a context of its own:\n"
              "{\"question\": ..., \"context\": ...}. A text of any length is read in overlapping "
              "windows.\n\n"
              "  attendant answer --context='My name is Clara. I live in Berlin.' 'Where do I "
              "live?'\n"
              "  attendant answer --context_file=article.txt --top_k=3 'Who won?' 'When?'\n"
              "  attendant answer --json --input=questions.jsonl",
          .flags = {"context", "context_file", "top_k", "max_answer_tokens",
                    "window_overlap_tokens", "allow_no_answer", "input"},
          .run = Run};
}

}  // namespace attendant::client
