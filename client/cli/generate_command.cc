#include <unistd.h>

#include <cstdint>
#include <iostream>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/command.h"
#include "client/cli/flags.h"
#include "client/cli/generate_flags.h"
#include "client/cli/json.h"
#include "client/cli/picture_files.h"
#include "client/cli/terminal.h"
#include "client/cli/terminal_picture.h"
#include "client/pictures/attention_picture.h"

ABSL_FLAG(int32_t, num_sequences, 1, "How many texts to generate");
ABSL_FLAG(std::optional<int32_t>, top_logprobs, std::nullopt,
          "With --json: this many likely tokens for each one");
ABSL_FLAG(bool, echo, false, "Begin with the prompt");
ABSL_FLAG(bool, cross_attention, false,
          "Of an encoder-decoder: draw what each token of the output attends to in the source");

namespace attendant::client {
namespace {

absl::StatusOr<v1::GenerateRequest> RequestFromFlags(const Arguments& arguments) {
  auto request = GenerateRequestFromFlags();
  if (!request.ok()) return request.status();
  request->set_text(arguments.empty() ? std::string(std::istreambuf_iterator<char>(std::cin), {})
                                      : absl::StrJoin(arguments, " "));
  request->set_num_sequences(absl::GetFlag(FLAGS_num_sequences));
  v1::OutputOptions& output = *request->mutable_output();
  if (const auto value = absl::GetFlag(FLAGS_top_logprobs)) output.set_top_logprobs(*value);
  output.set_echo(absl::GetFlag(FLAGS_echo));
  if (absl::GetFlag(FLAGS_cross_attention)) {
    output.set_cross_attention(true);
    output.set_token_ids(true);
  }
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
      if (chunk.has_cross_attention()) AddAlignment(chunk);
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
  }

  // For who sits in front of it; a file or a pipe has the text alone.
  void PrintSummary() const {
    if (isatty(STDERR_FILENO) == 0) return;
    for (const auto& [sequence, finished] : finished_) std::cerr << Dim(Summary(finished)) << "\n";
  }

  // What the tokens of each sequence attend to: [tokens, source tokens].
  struct Alignment {
    std::vector<std::string> tokens;
    FloatTensor weights;
  };
  const std::map<int, Alignment>& alignments() const { return alignments_; }

 private:
  void AddAlignment(const v1::GenerateChunk& chunk) {
    const auto rows = FromMessage(chunk.cross_attention());
    if (!rows.ok() || rows->shape.size() != 2) return;
    Alignment& alignment = alignments_[chunk.sequence()];
    FloatTensor& weights = alignment.weights;
    if (weights.shape.empty()) weights.shape = {0, rows->shape[1]};
    if (weights.shape[1] != rows->shape[1]) return;
    weights.shape[0] += rows->shape[0];
    weights.values.insert(weights.values.end(), rows->values.begin(), rows->values.end());
    for (const v1::Token& token : chunk.tokens()) alignment.tokens.push_back(token.text());
    alignment.tokens.resize(weights.shape[0]);
  }

  const bool is_single_;
  bool ends_line_ = true;
  std::map<int, std::string> texts_;
  std::map<int, v1::GenerateFinished> finished_;
  std::map<int, Alignment> alignments_;
};

// The tokens of the source, as its model reads it; nothing if it cannot be asked, or has read
// others.
std::vector<std::string> SourceTokens(const Client& client, const v1::GenerateRequest& request,
                                      int64_t count) {
  v1::TokenizeRequest tokenize;
  tokenize.set_model(request.model());
  tokenize.add_inputs()->set_text(request.text());
  const auto response = client.Tokenize(tokenize);
  std::vector<std::string> tokens;
  if (!response.ok() || response->inputs_size() != 1 ||
      response->inputs(0).tokens_size() != count) {
    for (int64_t i = 0; i < count; ++i) tokens.push_back(absl::StrCat(i));
    return tokens;
  }
  for (const v1::TextToken& token : response->inputs(0).tokens())
    tokens.push_back(NameToken(token.token()));
  return tokens;
}

// What every sequence attends to: into the files of --html and --png the first one, else all on the
// screen.
absl::Status DrawAlignments(const Client& client, const v1::GenerateRequest& request,
                            const StreamPrinter& printer) {
  for (const auto& [sequence, alignment] : printer.alignments()) {
    AttentionPicture picture;
    picture.title = Printable(request.model().empty() ? "generate" : request.model());
    picture.subtitle = "cross-attention of the output, mean of the last layer's heads";
    if (printer.alignments().size() > 1)
      absl::StrAppend(&picture.subtitle, ", sequence ", sequence + 1);
    for (const std::string& token : alignment.tokens) picture.queries.push_back(NameToken(token));
    picture.keys = SourceTokens(client, request, alignment.weights.shape[1]);
    picture.layers = picture.heads = {""};
    picture.weights = alignment.weights.values;
    if (WritesPictures()) return WritePictures(picture);
    DrawInTerminal(picture);
  }
  return absl::OkStatus();
}

absl::Status Run(const Arguments& arguments) {
  const auto request = RequestFromFlags(arguments);
  if (!request.ok()) return request.status();
  const auto client = ConnectWithFlags();
  if (!client.ok()) return client.status();
  if (absl::GetFlag(FLAGS_json)) {
    return client->Generate(*request, [](const v1::GenerateResponse& response) {
      std::cout << ToJson(response) << '\n' << std::flush;
      return std::cout.good();
    });
  }
  StreamPrinter printer(request->num_sequences());
  absl::Status status = client->Generate(
      *request, [&](const v1::GenerateResponse& response) { return printer.Print(response); });
  printer.Finish();
  if (!status.ok()) return status;
  const absl::Status drawn = DrawAlignments(*client, *request, printer);
  std::cout << std::flush;
  printer.PrintSummary();
  return drawn;
}

}  // namespace

Command GenerateCommand() {
  std::vector<absl::string_view> flags = {"num_sequences",   "top_logprobs", "echo",
                                          "cross_attention", "html",         "png"};
  for (const absl::string_view flag : GenerateFlags()) flags.push_back(flag);
  return {
      .name = "generate",
      .arguments = "[PROMPT...]",
      .summary = "continue a prompt, or transform a text, and print it as it comes",
      .description =
          "Without arguments, the prompt is read from standard input. It is sent as it is: a chat "
          "model\n"
          "wants its own markers around it. Of an encoder-decoder, it is the source. What is not "
          "set is the\n"
          "model's own default.\n\n"
          "  attendant generate --model=smollm2 --max_new_tokens=40 'The capital of France is'\n"
          "  attendant generate --temperature=0.8 --seed=7 --stop='\\n' < prompt.txt\n"
          "  attendant generate --model=nllb --source_language=eng_Latn --target_language=deu_Latn "
          "--num_beams=4 'A cat.'\n"
          "  attendant generate --model=dates --cross_attention 'the third of May 2021'\n\n"
          "With --json, each message of the stream is one line.",
      .flags = flags,
      .run = Run};
}

}  // namespace attendant::client
