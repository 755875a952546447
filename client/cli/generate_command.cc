#include <cstdint>
#include <iostream>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/command.h"
#include "client/cli/flags.h"
#include "client/cli/json.h"
#include "client/cli/terminal.h"

ABSL_FLAG(std::optional<float>, temperature, std::nullopt,
          "0: the most likely token each time; higher: more varied");
ABSL_FLAG(std::optional<int32_t>, top_k, std::nullopt,
          "Choose among this many of the most likely tokens; 0: all");
ABSL_FLAG(std::optional<float>, top_p, std::nullopt,
          "Choose among the most likely tokens that add up to this");
ABSL_FLAG(std::optional<float>, min_p, std::nullopt,
          "Drop tokens less likely than this times the most likely");
ABSL_FLAG(std::optional<float>, repetition_penalty, std::nullopt,
          "Above 1: avoid what the text has already");
ABSL_FLAG(std::optional<float>, presence_penalty, std::nullopt,
          "Above 0: avoid what the output has already");
ABSL_FLAG(std::optional<float>, frequency_penalty, std::nullopt,
          "Above 0: avoid what the output has often");
ABSL_FLAG(std::optional<uint64_t>, seed, std::nullopt,
          "Of the random numbers; the same seed gives the same text");
ABSL_FLAG(std::optional<int32_t>, max_new_tokens, std::nullopt, "The most tokens to generate");
ABSL_FLAG(std::optional<int32_t>, min_new_tokens, std::nullopt, "The fewest tokens to generate");
ABSL_FLAG(std::vector<std::string>, stop, {},
          "Strings that end the text, separated by commas; \\n and the like work");
ABSL_FLAG(std::vector<std::string>, stop_token_ids, {},
          "Token ids that end the text, separated by commas");
ABSL_FLAG(bool, ignore_eos, false, "Go on past the model's end-of-sequence token");
ABSL_FLAG(int32_t, num_sequences, 1, "How many texts to generate");
ABSL_FLAG(std::optional<int32_t>, top_logprobs, std::nullopt,
          "With --json: this many likely tokens for each one");
ABSL_FLAG(bool, echo, false, "Begin with the prompt");
ABSL_FLAG(bool, cache_prefix, true, "Use and fill the server's prefix cache");
ABSL_FLAG(int32_t, priority, 0, "Higher goes first while the server is busy");

namespace attendant::client {
namespace {

void SetSampling(v1::SamplingParams& sampling) {
  if (const auto value = absl::GetFlag(FLAGS_temperature)) sampling.set_temperature(*value);
  if (const auto value = absl::GetFlag(FLAGS_top_k)) sampling.set_top_k(*value);
  if (const auto value = absl::GetFlag(FLAGS_top_p)) sampling.set_top_p(*value);
  if (const auto value = absl::GetFlag(FLAGS_min_p)) sampling.set_min_p(*value);
  if (const auto value = absl::GetFlag(FLAGS_repetition_penalty))
    sampling.set_repetition_penalty(*value);
  if (const auto value = absl::GetFlag(FLAGS_presence_penalty))
    sampling.set_presence_penalty(*value);
  if (const auto value = absl::GetFlag(FLAGS_frequency_penalty))
    sampling.set_frequency_penalty(*value);
  if (const auto value = absl::GetFlag(FLAGS_seed)) sampling.set_seed(*value);
}

absl::Status SetStopping(v1::StoppingCriteria& stopping) {
  if (const auto value = absl::GetFlag(FLAGS_max_new_tokens)) stopping.set_max_new_tokens(*value);
  if (const auto value = absl::GetFlag(FLAGS_min_new_tokens)) stopping.set_min_new_tokens(*value);
  for (const std::string& stop : absl::GetFlag(FLAGS_stop)) {
    std::string error;
    if (!absl::CUnescape(stop, stopping.add_stop(), &error)) {
      return absl::InvalidArgumentError(absl::StrCat("--stop: ", error, " in '", stop, "'"));
    }
  }
  for (const std::string& text : absl::GetFlag(FLAGS_stop_token_ids)) {
    int32_t id;
    if (!absl::SimpleAtoi(text, &id)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--stop_token_ids: '", text, "' is not a token id"));
    }
    stopping.add_stop_token_ids(id);
  }
  stopping.set_ignore_eos(absl::GetFlag(FLAGS_ignore_eos));
  return absl::OkStatus();
}

absl::StatusOr<v1::GenerateRequest> RequestFromFlags(const Arguments& arguments) {
  v1::GenerateRequest request;
  request.set_model(absl::GetFlag(FLAGS_model));
  request.set_text(arguments.empty() ? std::string(std::istreambuf_iterator<char>(std::cin), {})
                                     : absl::StrJoin(arguments, " "));
  SetSampling(*request.mutable_sampling());
  const absl::Status status = SetStopping(*request.mutable_stopping());
  if (!status.ok()) return status;
  request.set_num_sequences(absl::GetFlag(FLAGS_num_sequences));
  if (const auto value = absl::GetFlag(FLAGS_top_logprobs))
    request.mutable_output()->set_top_logprobs(*value);
  request.mutable_output()->set_echo(absl::GetFlag(FLAGS_echo));
  request.set_cache_prefix(absl::GetFlag(FLAGS_cache_prefix));
  request.set_priority(absl::GetFlag(FLAGS_priority));
  const auto truncation = TruncationFromFlags();
  if (!truncation.ok()) return truncation.status();
  if (*truncation) *request.mutable_truncation() = **truncation;
  return request;
}

std::string ReasonOf(const v1::GenerateFinished& finished) {
  switch (finished.finish_reason()) {
    case v1::FINISH_REASON_EOS:
      return "the model ended it";
    case v1::FINISH_REASON_STOP_SEQUENCE:
      return finished.has_stop() ? absl::StrCat("stopped at '", Printable(finished.stop()), "'")
                                 : absl::StrCat("stopped at token ", finished.stop_token_id());
    case v1::FINISH_REASON_LENGTH:
      return "reached --max_new_tokens, or the end of the context";
    default:
      return "ended";
  }
}

// "43 tokens after 12 (8 cached) in 1.20 s, first 50.0 ms, 37.4 tokens/s; the model ended it"
std::string Summary(const v1::GenerateFinished& finished) {
  const int64_t tokens = finished.usage().output_tokens();
  const absl::Duration total = ToDuration(finished.timing().total());
  const absl::Duration first = ToDuration(finished.time_to_first_token());
  std::string text = absl::StrCat(tokens, " tokens after ", finished.usage().input_tokens());
  if (finished.usage().cached_tokens() > 0)
    absl::StrAppend(&text, " (", finished.usage().cached_tokens(), " cached)");
  absl::StrAppend(&text, " in ", InTime(total), ", first after ", InTime(first));
  if (tokens > 1 && total > first) {
    absl::StrAppendFormat(&text, ", then %.1f tokens/s",
                          (tokens - 1) / absl::ToDoubleSeconds(total - first));
  }
  return absl::StrCat(text, "; ", ReasonOf(finished));
}

// Prints a stream as it comes. One sequence is written through; several, which come mixed, one
// after the other at the end.
class StreamPrinter {
 public:
  explicit StreamPrinter(int num_sequences) : is_single_(num_sequences == 1) {}

  bool Print(const v1::GenerateResponse& response) {
    if (response.has_started()) {
      const v1::GenerateStarted& started = response.started();
      const int64_t cut = started.original_tokens() - started.usage().input_tokens();
      if (cut > 0) {
        std::cerr << cut << " of the prompt's " << started.original_tokens()
                  << " tokens were cut\n";
      }
    } else if (response.has_chunk() && !response.chunk().is_prompt()) {
      const v1::GenerateChunk& chunk = response.chunk();
      if (is_single_) {
        std::cout << chunk.text() << std::flush;
        ends_line_ = chunk.text().empty() ? ends_line_ : chunk.text().back() == '\n';
      } else {
        texts_[chunk.sequence()] += chunk.text();
      }
    } else if (response.has_finished()) {
      finished_[response.finished().sequence()] = response.finished();
    }
    return std::cout.good();
  }

  void Finish() {
    if (is_single_ && !ends_line_) std::cout << "\n";
    for (const auto& [sequence, text] : texts_) {
      std::cout << Bold(absl::StrCat("-- ", sequence + 1)) << "\n" << text << "\n";
    }
    std::cout << std::flush;
    for (const auto& [sequence, finished] : finished_) std::cerr << Dim(Summary(finished)) << "\n";
  }

 private:
  const bool is_single_;
  bool ends_line_ = true;
  std::map<int, std::string> texts_;
  std::map<int, v1::GenerateFinished> finished_;
};

absl::Status Run(const Arguments& arguments) {
  const auto request = RequestFromFlags(arguments);
  if (!request.ok()) return request.status();
  const auto client = ConnectWithFlags();
  if (!client.ok()) return client.status();
  if (absl::GetFlag(FLAGS_json)) {
    return client->Generate(*request, [](const v1::GenerateResponse& response) {
      std::cout << ToJson(response) << std::endl;
      return std::cout.good();
    });
  }
  StreamPrinter printer(request->num_sequences());
  const absl::Status status = client->Generate(
      *request, [&](const v1::GenerateResponse& response) { return printer.Print(response); });
  printer.Finish();
  return status;
}

}  // namespace

Command GenerateCommand() {
  return {
      .name = "generate",
      .arguments = "[PROMPT...]",
      .summary = "continue a prompt, and print the text as it comes",
      .description =
          "Without arguments, the prompt is read from standard input. It is sent as it is: a chat "
          "model\n"
          "wants its own markers around it. What is not set is the model's own default.\n\n"
          "  attendant generate --model=smollm2 --max_new_tokens=40 'The capital of France is'\n"
          "  attendant generate --temperature=0.8 --seed=7 --stop='\\n' < prompt.txt\n\n"
          "With --json, each message of the stream is one line.",
      .flags = {"temperature",
                "top_k",
                "top_p",
                "min_p",
                "repetition_penalty",
                "presence_penalty",
                "frequency_penalty",
                "seed",
                "max_new_tokens",
                "min_new_tokens",
                "stop",
                "stop_token_ids",
                "ignore_eos",
                "num_sequences",
                "top_logprobs",
                "echo",
                "cache_prefix",
                "priority",
                "truncate",
                "max_tokens"},
      .run = Run};
}

}  // namespace attendant::client
