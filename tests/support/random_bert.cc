#include "tests/support/random_bert.h"

#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/support/test_data.h"

namespace attendant::testing {
namespace {

constexpr int64_t kVocabSize = 97;

struct Entry {
  std::string name;
  std::vector<int64_t> shape;
};

void WriteFile(const std::filesystem::path& path, const std::string& contents) {
  std::ofstream file(path, std::ios::binary);
  file << contents;
  CHECK(file.good()) << path;
}

}  // namespace

void WriteBert(const BertShape& shape, const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  const int64_t hidden = shape.hidden_size;
  WriteFile(folder / "config.json",
            absl::StrCat(R"({"architectures": ["BertModel"], "model_type": "bert", )",
                         R"("hidden_act": "gelu", "layer_norm_eps": 1e-12, "type_vocab_size": 2, )",
                         R"("vocab_size": )", kVocabSize, R"(, "hidden_size": )", hidden,
                         R"(, "intermediate_size": )", hidden, R"(, "num_hidden_layers": )",
                         shape.num_hidden_layers, R"(, "num_attention_heads": )",
                         shape.num_attention_heads, R"(, "max_position_embeddings": )",
                         shape.max_position_embeddings, "}"));
  const std::filesystem::path tokenizer = TestDataPath("goldens/bert/plain/tokenizer.json");
  WriteFile(folder / "tokenizer.json", ReadFileOrDie(tokenizer));

  std::vector<Entry> entries = {
      {"embeddings.word_embeddings.weight", {kVocabSize, hidden}},
      {"embeddings.position_embeddings.weight", {shape.max_position_embeddings, hidden}},
      {"embeddings.token_type_embeddings.weight", {2, hidden}}};
  const auto add_norm = [&](const std::string& name) {
    entries.push_back({name + ".weight", {hidden}});
    entries.push_back({name + ".bias", {hidden}});
  };
  add_norm("embeddings.LayerNorm");
  for (int64_t layer = 0; layer < shape.num_hidden_layers; ++layer) {
    const std::string prefix = absl::StrCat("encoder.layer.", layer, ".");
    for (const char* linear : {"attention.self.query", "attention.self.key", "attention.self.value",
                               "attention.output.dense", "intermediate.dense", "output.dense"}) {
      entries.push_back({absl::StrCat(prefix, linear, ".weight"), {hidden, hidden}});
      entries.push_back({absl::StrCat(prefix, linear, ".bias"), {hidden}});
    }
    add_norm(prefix + "attention.output.LayerNorm");
    add_norm(prefix + "output.LayerNorm");
  }

  // The safetensors format: the length of the header, the header, the values.
  std::mt19937 generator(1);
  std::string header = "{", data;
  for (const Entry& entry : entries) {
    int64_t count = 1;
    for (const int64_t extent : entry.shape) count *= extent;
    const size_t begin = data.size();
    std::uniform_real_distribution<float> uniform(-0.3f, 0.3f);
    std::vector<float> values(count);
    for (float& value : values) value = uniform(generator);
    data.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    absl::StrAppend(&header, header.size() > 1 ? "," : "", "\"", entry.name,
                    R"(":{"dtype":"F32","shape":[)", absl::StrJoin(entry.shape, ","),
                    R"(],"data_offsets":[)", begin, ",", data.size(), "]}");
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::string length(sizeof(uint64_t), '\0');
  const uint64_t size = header.size();
  std::memcpy(length.data(), &size, sizeof(size));
  WriteFile(folder / "model.safetensors", length + header + data);
}

}  // namespace attendant::testing
