#include <cstdint>
#include <iostream>
#include <optional>
#include <string>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/command.h"
#include "client/cli/flags.h"
#include "client/cli/inputs.h"
#include "client/cli/json.h"
#include "client/cli/terminal.h"

ABSL_FLAG(std::optional<int32_t>, top_n, std::nullopt,
          "Return only the best so many documents; default: all");

namespace attendant::client {
namespace {

absl::Status Run(const Arguments& arguments) {
  if (arguments.empty()) {
    return absl::InvalidArgumentError(
        "there is no query; it is the first argument, and the documents follow");
  }
  v1::RankRequest request;
  request.set_model(absl::GetFlag(FLAGS_model));
  request.set_query(arguments[0]);
  if (const auto top_n = absl::GetFlag(FLAGS_top_n)) request.set_top_n(*top_n);
  request.set_raw_scores(absl::GetFlag(FLAGS_raw_scores));
  const auto truncation = TruncationFromFlags();
  if (!truncation.ok()) return truncation.status();
  if (*truncation) *request.mutable_truncation() = **truncation;
  auto lines = InputLines::Open({arguments.begin() + 1, arguments.end()});
  if (!lines.ok()) return lines.status();
  if (lines->is_json()) {
    return absl::InvalidArgumentError("--input: `rank` reads documents as lines of text");
  }
  // One call ranks them all: how many it takes is the server's to say.
  for (std::string line; lines->Next(line);) request.add_documents(line);
  const auto client = ConnectWithFlags();
  if (!client.ok()) return client.status();
  const auto response = client->Rank(request);
  if (!response.ok()) return response.status();

  FailedInputs failed;
  Table table("rrl", {"document", "score", ""});
  for (const v1::RankedDocument& document : response->documents()) {
    if (document.index() < 0 || document.index() >= request.documents_size())
      return absl::InternalError(absl::StrCat("there is no document ", document.index()));
    if (!failed.Check(document.index() + 1, document.status())) continue;
    table.AddRow({absl::StrCat(document.index() + 1), absl::StrFormat("%.4f", document.score()),
                  Shortened(Printable(request.documents(document.index())), TerminalWidth() - 20)});
  }
  if (absl::GetFlag(FLAGS_json)) {
    std::cout << ToJson(*response) << "\n";
  } else {
    table.Print();
  }
  return failed.Result(request.documents_size());
}

}  // namespace

Command RankCommand() {
  return {.name = "rank",
          .arguments = "QUERY [DOCUMENT...]",
          .summary = "order documents by how well they answer a query",
          .description =
              "Without documents among the arguments, each line of --input or of standard input "
              "is one.\n\n"
              "  attendant rank 'How many people live in Berlin?' 'Berlin has 3.5 million "
              "inhabitants.' 'I like tea.'\n"
              "  attendant rank --top_n=5 'capital of France' < passages.txt",
          .flags = {"top_n", "raw_scores", "input", "truncate", "max_tokens"},
          .run = Run};
}

}  // namespace attendant::client
