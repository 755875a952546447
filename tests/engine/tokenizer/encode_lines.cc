// Encodes texts for reference_parity.py, which compares the result with the reference library's.
//
//   encode_lines json|gguf FILE < TEXTS > RESULTS
//   encode_lines folder FOLDER MODEL_TYPE < TEXTS > RESULTS
//
// FILE is a tokenizer.json, or the vocabulary of a GGUF file as JSON; FOLDER has the files of a
// model's tokenizer. TEXTS are length-prefixed
// (u32, little-endian). For each text RESULTS has the number of tokens (u32); their ids, begins and
// ends (i32 each); and the length (u32) and bytes of what the ids decode to. Encoding alone is
// timed, and the time written to stderr.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/tokenizer/stream_decoder.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_folder.h"
#include "simdjson.h"

namespace attendant::engine {
namespace {

GgufVocabulary ParseGgufVocabulary(const std::string& json) {
  simdjson::dom::parser parser;
  const simdjson::dom::element root = parser.parse(json);
  GgufVocabulary vocabulary;
  vocabulary.model = std::string(std::string_view(root["model"]));
  vocabulary.pre = std::string(std::string_view(root["pre"]));
  for (const std::string_view token : root["tokens"]) vocabulary.tokens.emplace_back(token);
  for (const double score : root["scores"]) vocabulary.scores.push_back(static_cast<float>(score));
  for (const int64_t type : root["token_types"])
    vocabulary.token_types.push_back(static_cast<int32_t>(type));
  for (const std::string_view merge : root["merges"]) vocabulary.merges.emplace_back(merge);
  const auto read_id = [&](const char* key, std::optional<int32_t>& id) {
    int64_t value = 0;
    if (root[key].get(value) == simdjson::SUCCESS) id = static_cast<int32_t>(value);
  };
  read_id("bos_id", vocabulary.bos_id);
  read_id("eos_id", vocabulary.eos_id);
  read_id("unknown_id", vocabulary.unknown_id);
  return vocabulary;
}

template <typename T>
void Write(const T* values, size_t count) {
  CHECK_EQ(std::fwrite(values, sizeof(T), count, stdout), count);
}

std::optional<std::string> ReadIfThere(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file.is_open()) return std::nullopt;
  return std::string{std::istreambuf_iterator<char>(file), {}};
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Load(absl::string_view form, const std::string& path,
                                                const std::string& model_type) {
  if (form == "folder") {
    return ReadSourceTokenizer(
        {path, model_type,
         [&](absl::string_view name) -> absl::StatusOr<std::optional<std::string>> {
           return ReadIfThere(absl::StrCat(path, "/", name));
         }});
  }
  const std::optional<std::string> contents = ReadIfThere(path);
  CHECK(contents.has_value()) << path;
  return form == "gguf" ? CreateGgufTokenizer(ParseGgufVocabulary(*contents), path)
                        : CreateTokenizer(*contents, path);
}

int Main(absl::string_view form, const std::string& path, const std::string& model_type) {
  const auto tokenizer = Load(form, path, model_type);
  CHECK_OK(tokenizer.status());
  CHECK(*tokenizer != nullptr) << path << " has no tokenizer";

  std::vector<std::string> texts;
  for (uint32_t size = 0; std::fread(&size, sizeof(size), 1, stdin) == 1;) {
    texts.emplace_back(size, '\0');
    CHECK_EQ(std::fread(texts.back().data(), 1, size, stdin), size);
  }
  std::vector<Encoding> encodings;
  encodings.reserve(texts.size());
  const absl::Time start = absl::Now();
  for (const std::string& text : texts) {
    auto encoding = (*tokenizer)->Encode(text, /*add_special_tokens=*/true);
    CHECK_OK(encoding.status());
    encodings.push_back(*std::move(encoding));
  }
  std::cerr << absl::ToDoubleSeconds(absl::Now() - start) << "\n";

  for (const Encoding& encoding : encodings) {
    const auto count = static_cast<uint32_t>(encoding.ids.size());
    Write(&count, 1);
    Write(encoding.ids.data(), count);
    for (const TextRange& range : encoding.offsets) Write(&range.begin, 1);
    for (const TextRange& range : encoding.offsets) Write(&range.end, 1);
    StreamDecoder decoder(**tokenizer, {}, /*skip_special_tokens=*/true);
    std::string text;
    for (const int32_t id : encoding.ids) absl::StrAppend(&text, decoder.Push(id));
    absl::StrAppend(&text, decoder.Finish());
    const auto size = static_cast<uint32_t>(text.size());
    Write(&size, 1);
    Write(text.data(), size);
  }
  return 0;
}

}  // namespace
}  // namespace attendant::engine

int main(int argc, char** argv) {
  CHECK(argc == 3 || argc == 4) << "usage: encode_lines json|gguf|folder PATH [MODEL_TYPE]";
  return attendant::engine::Main(argv[1], argv[2], argc == 4 ? argv[3] : "");
}
