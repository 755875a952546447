#include <cstdint>
#include <iostream>
#include <iterator>
#include <string>

#include "absl/flags/flag.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/cli/command.h"
#include "client/cli/flags.h"
#include "client/cli/json.h"
#include "client/cli/terminal.h"

ABSL_FLAG(bool, special_tokens, true,
          "Add the special tokens that the model reads; keep them in the text");

namespace attendant::client {
namespace {

std::string ReadInput() { return {std::istreambuf_iterator<char>(std::cin), {}}; }

void PrintTokens(const std::string& text, const v1::TokenizedInput& input) {
  Table table("rrlll", {"", "id", "token", "bytes", "text"});
  int index = 0;
  for (const v1::TextToken& token : input.tokens()) {
    const int begin = token.span().byte_start();
    const int end = token.span().byte_end();
    const bool is_in_text = 0 <= begin && begin < end && end <= static_cast<int>(text.size());
    table.AddRow({absl::StrCat(index++), absl::StrCat(token.id()), Printable(token.token()),
                  is_in_text ? absl::StrCat(begin, "-", end) : "",
                  is_in_text ? Printable(absl::string_view(text).substr(begin, end - begin)) : ""});
  }
  table.Print();
}

absl::Status RunTokenize(const Arguments& arguments) {
  v1::TokenizeRequest request;
  request.set_model(absl::GetFlag(FLAGS_model));
  request.set_add_special_tokens(absl::GetFlag(FLAGS_special_tokens));
  const auto truncation = TruncationFromFlags();
  if (!truncation.ok()) return truncation.status();
  if (*truncation) *request.mutable_truncation() = **truncation;
  for (const std::string& text : arguments) request.add_inputs()->set_text(text);
  if (arguments.empty()) {
    request.add_inputs()->set_text(ReadInput());
  }
  const auto client = ConnectWithFlags();
  if (!client.ok()) return client.status();
  const auto response = client->Tokenize(request);
  if (!response.ok()) return response.status();
  if (absl::GetFlag(FLAGS_json)) {
    std::cout << ToJson(*response) << "\n";
    return absl::OkStatus();
  }
  for (int i = 0; i < response->inputs_size() && i < request.inputs_size(); ++i) {
    if (i > 0) std::cout << "\n";
    const v1::TokenizedInput& input = response->inputs(i);
    if (input.status().code() != 0) {
      std::cout << "text " << i << ": " << input.status().message() << "\n";
      continue;
    }
    PrintTokens(request.inputs(i).text(), input);
    if (const int cut = input.original_tokens() - input.tokens_size(); cut > 0) {
      std::cout << Dim(absl::StrCat(cut, " of ", input.original_tokens(), " tokens were cut"))
                << "\n";
    }
  }
  return absl::OkStatus();
}

absl::Status RunDetokenize(const Arguments& arguments) {
  v1::DetokenizeRequest request;
  request.set_model(absl::GetFlag(FLAGS_model));
  request.set_skip_special_tokens(!absl::GetFlag(FLAGS_special_tokens));
  v1::TokenIds& tokens = *request.add_inputs();
  const std::string text = arguments.empty() ? ReadInput() : absl::StrJoin(arguments, " ");
  for (const absl::string_view id :
       absl::StrSplit(text, absl::ByAnyChar(", \n"), absl::SkipEmpty())) {
    int32_t number;
    if (!absl::SimpleAtoi(id, &number)) {
      return absl::InvalidArgumentError(absl::StrCat("'", id, "' is not a token id"));
    }
    tokens.add_ids(number);
  }
  if (tokens.ids().empty()) {
    return absl::InvalidArgumentError("there are no token ids to turn into text");
  }
  const auto client = ConnectWithFlags();
  if (!client.ok()) return client.status();
  const auto response = client->Detokenize(request);
  if (!response.ok()) return response.status();
  if (absl::GetFlag(FLAGS_json)) {
    std::cout << ToJson(*response) << "\n";
    return absl::OkStatus();
  }
  for (const std::string& text : response->texts()) std::cout << text << "\n";
  return absl::OkStatus();
}

}  // namespace

Command TokenizeCommand() {
  return {.name = "tokenize",
          .arguments = "[TEXT...]",
          .summary = "show the tokens of a text, as the model reads it",
          .description =
              "Without arguments, the text is read from standard input.\n\n"
              "  attendant tokenize --model=minilm 'Attention is all you need'",
          .flags = {"special_tokens", "truncate", "max_tokens"},
          .run = RunTokenize};
}

Command DetokenizeCommand() {
  return {
      .name = "detokenize",
      .arguments = "[ID...]",
      .summary = "turn token ids back into text",
      .description =
          "Ids are separated by spaces or commas. Without arguments, they are read from standard\n"
          "input.\n\n"
          "  attendant detokenize --model=minilm --nospecial_tokens 101 3086 2003 102",
      .flags = {"special_tokens"},
      .run = RunDetokenize};
}

}  // namespace attendant::client
