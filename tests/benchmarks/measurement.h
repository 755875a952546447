#ifndef ATTENDANT_TESTS_BENCHMARKS_MEASUREMENT_H_
#define ATTENDANT_TESTS_BENCHMARKS_MEASUREMENT_H_

// What the programs that tests/benchmarks/peers starts have in common: one measurement a process,
// and its result as one line of JSON.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace attendant::benchmarks {

// Exit codes besides success: what was asked for is not served, or not as asked; wrong arguments.
inline constexpr int kNotServed = 3;
inline constexpr int kUsage = 2;

[[noreturn]] inline void Exit(int code, absl::string_view message) {
  std::fprintf(stderr, "%.*s\n", static_cast<int>(message.size()), message.data());
  std::exit(code);
}

inline void ExitUnlessOk(const absl::Status& status) {
  if (!status.ok()) Exit(kNotServed, status.message());
}

// "512x12x64": positive numbers, as many as `count` says.
inline std::vector<int32_t> ParseNumbers(absl::string_view text, size_t count) {
  std::vector<int32_t> numbers;
  for (absl::string_view part : absl::StrSplit(text, 'x')) {
    int32_t number;
    if (!absl::SimpleAtoi(part, &number) || number < 1) break;
    numbers.push_back(number);
  }
  if (numbers.size() != count) {
    Exit(kUsage, absl::StrCat("\"", text, "\" is not ", count, " positive numbers joined by x"));
  }
  return numbers;
}

// "32x128", 32 inputs of 128 tokens each, or "4,17,512", the lengths of three.
inline std::vector<int32_t> ParseLengths(absl::string_view text) {
  if (absl::StrContains(text, 'x')) {
    const std::vector<int32_t> numbers = ParseNumbers(text, 2);
    return std::vector<int32_t>(numbers[0], numbers[1]);
  }
  std::vector<int32_t> lengths;
  for (absl::string_view part : absl::StrSplit(text, ','))
    lengths.push_back(ParseNumbers(part, 1)[0]);
  return lengths;
}

// Ids of words: of the usual vocabularies, special tokens are at the beginning.
inline std::vector<int32_t> RandomTokens(int32_t count, int32_t vocab_size, uint32_t seed) {
  std::mt19937 random(seed);
  const int32_t first = std::min(vocab_size - 1, 300);
  std::vector<int32_t> ids(count);
  for (int32_t& id : ids) id = first + static_cast<int32_t>(random() % (vocab_size - first));
  return ids;
}

inline double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// Calls `run`, which returns the value of one run, once unmeasured and then for `seconds`: three
// times or more, unless that takes longer than four times as long, but once at least. All peers are
// run by this rule (peers/programs/loop.py).
inline std::vector<double> Repeat(double seconds, absl::FunctionRef<double()> run) {
  run();
  std::vector<double> values;
  const absl::Time start = absl::Now();
  double spent;
  do {
    values.push_back(run());
    spent = absl::ToDoubleSeconds(absl::Now() - start);
  } while (spent < seconds || (values.size() < 3 && spent < 4 * seconds));
  return values;
}

// Prints {"value": the median, "unit", "min", "max", "runs", ...}.
inline void PrintResult(const std::vector<double>& values, absl::string_view unit,
                        const std::vector<std::pair<std::string, double>>& more = {}) {
  std::string line = absl::StrCat("{\"value\": ", Median(values), ", \"unit\": \"", unit,
                                  "\", \"min\": ", *std::min_element(values.begin(), values.end()),
                                  ", \"max\": ", *std::max_element(values.begin(), values.end()),
                                  ", \"runs\": ", values.size());
  for (const auto& [name, value] : more) absl::StrAppend(&line, ", \"", name, "\": ", value);
  std::printf("%s}\n", line.c_str());
}

}  // namespace attendant::benchmarks

#endif  // ATTENDANT_TESTS_BENCHMARKS_MEASUREMENT_H_
