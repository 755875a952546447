#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/cli/command.h"
#include "client/cli/flags.h"
#include "client/cli/generate_flags.h"
#include "client/cli/json.h"
#include "client/cli/ordered_calls.h"
#include "client/cli/sentences.h"
#include "client/cli/terminal.h"

ABSL_FLAG(int32_t, concurrency, 32, "How many sentences are at the server at once");
ABSL_FLAG(bool, split, true, "Translate sentence by sentence; --nosplit: line by line");

namespace attendant::client {
namespace {

// Sentences that wait behind one that takes long, for each that is at the server: beyond it,
// reading stops.
constexpr size_t kWaitingPerCall = 8;

// What is written of the source, beside sentences, as it is.
struct Piece {
  int64_t line;          // from 1
  std::string before;    // white space
  std::string sentence;  // empty: none, as in a blank line
  std::string after;     // the end of the line, with the white space before it
};

// The bar on standard error, if that is a terminal.
class Progress {
 public:
  // `num_bytes` of the whole source, or 0 if nobody knows.
  explicit Progress(int64_t num_bytes)
      : is_shown_(isatty(STDERR_FILENO) != 0 && !absl::GetFlag(FLAGS_json)),
        num_bytes_(num_bytes) {}
  ~Progress() { Clear(); }

  void Add(const Piece& piece) {
    num_done_ +=
        static_cast<int64_t>(piece.before.size() + piece.sentence.size() + piece.after.size());
    num_sentences_ += piece.sentence.empty() ? 0 : 1;
    const absl::Time now = absl::Now();
    if (!is_shown_ || now - drawn_ < absl::Milliseconds(100)) return;
    drawn_ = now;
    const double seconds = absl::ToDoubleSeconds(now - begin_);
    std::string text;
    if (num_bytes_ > 0) {
      static constexpr int kWidth = 30;
      const double part = std::min(1.0, static_cast<double>(num_done_) / num_bytes_);
      const absl::Duration left = absl::Seconds(std::min(seconds * (1 - part) / part, 359999.0));
      text = absl::StrFormat("%3.0f %% %s  ", 100 * part, Padded(Bar(part, kWidth), kWidth));
      absl::StrAppendFormat(&text, "%d:%02d left  ", absl::ToInt64Minutes(left),
                            absl::ToInt64Seconds(left) % 60);
    }
    absl::StrAppend(&text, WithSeparators(num_sentences_), " sentences");
    absl::StrAppendFormat(&text, ", %.1f/s", num_sentences_ / seconds);
    std::cerr << "\r" << text << "\x1b[K" << std::flush;
  }

  // Makes room on the line for something else.
  void Clear() {
    if (is_shown_ && drawn_ != absl::InfinitePast()) std::cerr << "\r\x1b[K" << std::flush;
  }

  int64_t num_sentences() const { return num_sentences_; }

 private:
  const bool is_shown_;
  const int64_t num_bytes_;
  const absl::Time begin_ = absl::Now();
  absl::Time drawn_ = absl::InfinitePast();
  int64_t num_done_ = 0;
  int64_t num_sentences_ = 0;
};

// Whether the next sentence would fail for the same reason.
bool ConcernsAll(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return true;
    default:
      return false;
  }
}

// The text of the best sequence. Tries again when the server is full, as it says, for as long as
// --deadline.
absl::StatusOr<std::string> TranslateSentence(const Client& client, v1::GenerateRequest request,
                                              const std::string& sentence) {
  request.set_text(sentence);
  const absl::Time deadline = absl::Now() + absl::GetFlag(FLAGS_deadline);
  while (true) {
    std::string text;
    absl::Status status = client.Generate(request, [&](const v1::GenerateResponse& response) {
      if (response.chunk().sequence() == 0) text += response.chunk().text();
      return true;
    });
    if (status.ok()) return std::string(absl::StripAsciiWhitespace(text));
    if (status.code() != absl::StatusCode::kResourceExhausted) return status;
    const absl::Duration delay =
        std::max(RetryDelay(status).value_or(absl::Seconds(1)), absl::Milliseconds(10));
    if (absl::Now() + delay > deadline) return status;
    absl::SleepFor(delay);
  }
}

// Writes pieces as their translations come, in the order of the source.
class Translation {
 public:
  Translation(const Client& client, const v1::GenerateRequest& request, int64_t num_bytes)
      : progress_(num_bytes),
        concurrency_(absl::GetFlag(FLAGS_concurrency)),
        calls_(concurrency_, [&client, &request](const std::string& sentence) {
          return TranslateSentence(client, request, sentence);
        }) {}

  // Takes a line, with its end, which is empty for the last line of a file that has none. Waits
  // while too much is under way. Fails with what would fail every sentence.
  absl::Status Add(absl::string_view line, absl::string_view end) {
    ++num_lines_;
    std::vector<absl::string_view> sentences = SplitSentences(line);
    if (!absl::GetFlag(FLAGS_split) && !sentences.empty())
      sentences = {absl::StripAsciiWhitespace(line)};
    size_t place = 0;
    for (const absl::string_view sentence : sentences) {
      const size_t begin = sentence.data() - line.data();
      pieces_.push_back({.line = num_lines_,
                         .before = std::string(line.substr(place, begin - place)),
                         .sentence = std::string(sentence)});
      calls_.Add(std::string(sentence));
      place = begin + sentence.size();
    }
    if (sentences.empty()) pieces_.push_back({.line = num_lines_});
    pieces_.back().after = absl::StrCat(line.substr(place), end);
    return WriteUntil(concurrency_ * kWaitingPerCall);
  }

  // Waits for all that is under way. INVALID_ARGUMENT if sentences failed.
  absl::Status Finish() {
    absl::Status status = WriteUntil(0);
    progress_.Clear();
    if (!status.ok()) return status;
    std::cout << std::flush;
    if (num_failed_ == 0) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(num_failed_, " of ", progress_.num_sentences(),
                                                   " sentences failed, and were left as they are"));
  }

 private:
  // Writes what is ready; and waits, until at most `num_waiting` sentences are under way.
  absl::Status WriteUntil(size_t num_waiting) {
    while (!pieces_.empty()) {
      const bool has_call = !pieces_.front().sentence.empty();
      if (has_call && !calls_.IsReady() && calls_.size() <= num_waiting) break;
      const absl::StatusOr<std::string> result = has_call ? calls_.Take() : std::string();
      const Piece piece = std::move(pieces_.front());
      pieces_.pop_front();
      progress_.Add(piece);
      if (!result.ok() && ConcernsAll(result.status())) return result.status();
      Write(piece, result);
      if (!std::cout.good()) return absl::CancelledError("the output cannot be written");
    }
    return absl::OkStatus();
  }

  void Write(const Piece& piece, const absl::StatusOr<std::string>& result) {
    if (!result.ok()) {
      ++num_failed_;
      progress_.Clear();
      std::cerr << "line " << piece.line << ": " << Describe(result.status()) << "\n  "
                << Shortened(Printable(piece.sentence), 72) << "\n";
    }
    const std::string& text = result.ok() ? *result : piece.sentence;
    if (absl::GetFlag(FLAGS_json)) {
      if (piece.sentence.empty()) return;
      std::cout << JsonObject({{"line", absl::StrCat(piece.line)},
                               {"source", JsonString(piece.sentence)},
                               {result.ok() ? "text" : "error",
                                JsonString(result.ok() ? text : result.status().message())}})
                << "\n";
      return;
    }
    // Chinese and Japanese put nothing between sentences; what it is translated into may.
    const bool needs_space =
        piece.before.empty() && follows_sentence_ && !EndsInFullWidthMark(last_text_);
    std::cout << (needs_space ? " " : piece.before) << text << piece.after;
    follows_sentence_ = piece.after.empty() && !text.empty();
    last_text_ = text;
  }

  Progress progress_;
  const int concurrency_;
  OrderedCalls calls_;
  std::deque<Piece> pieces_;
  int64_t num_lines_ = 0;
  int64_t num_failed_ = 0;
  bool follows_sentence_ = false;  // on the same line
  std::string last_text_;
};

absl::Status Run(const Arguments& arguments) {
  if (arguments.size() != 1) {
    return absl::InvalidArgumentError(
        "`translate` takes one argument: the file to translate, or - for standard input");
  }
  if (const int concurrency = absl::GetFlag(FLAGS_concurrency);
      concurrency < 1 || concurrency > 1024) {
    return absl::InvalidArgumentError(
        absl::StrCat("--concurrency is ", concurrency, "; it is at least 1 and at most 1024"));
  }
  const auto request = GenerateRequestFromFlags();
  if (!request.ok()) return request.status();
  std::ifstream file;
  int64_t num_bytes = 0;
  if (arguments[0] != "-") {
    file.open(arguments[0], std::ios::binary);
    std::error_code error;
    if (!file || std::filesystem::is_directory(arguments[0], error))
      return absl::InvalidArgumentError(absl::StrCat(arguments[0], ": cannot be read"));
    const auto size = std::filesystem::file_size(arguments[0], error);
    if (!error) num_bytes = static_cast<int64_t>(size);
  }
  const auto client = ConnectWithFlags();
  if (!client.ok()) return client.status();

  Translation translation(*client, *request, num_bytes);
  std::istream& source = arguments[0] == "-" ? std::cin : file;
  for (std::string line; std::getline(source, line);) {
    const bool has_end = !source.eof();
    const bool is_crlf = has_end && !line.empty() && line.back() == '\r';
    if (is_crlf) line.pop_back();
    const absl::Status status = translation.Add(line, is_crlf ? "\r\n" : has_end ? "\n" : "");
    if (!status.ok()) return status;
  }
  return translation.Finish();
}

}  // namespace

Command TranslateCommand() {
  std::vector<absl::string_view> flags = {"concurrency", "split"};
  for (const absl::string_view flag : GenerateFlags()) flags.push_back(flag);
  return {
      .name = "translate",
      .arguments = "FILE",
      .summary = "translate a file, sentence by sentence",
      .description =
          "Lines stay lines, in their order; many sentences are at the server at once. FILE may "
          "be -, for\n"
          "standard input. A sentence that fails is named on standard error and left as it is. "
          "Any model that\n"
          "turns one text into another will do: --model=t5 with --nosplit summarizes lines.\n\n"
          "  attendant translate --model=opus-mt-en-de letter.txt > brief.txt\n"
          "  attendant translate --model=nllb --source_language=eng_Latn "
          "--target_language=deu_Latn -\n"
          "  attendant translate --num_beams=4 --json book.txt",
      .flags = flags,
      .run = Run};
}

}  // namespace attendant::client
