#include "engine/checkpoint/hugging_face_checkpoint.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/mapped_file.h"
#include "engine/checkpoint/messages.h"
#include "engine/checkpoint/safetensors_file.h"
#include "simdjson.h"

namespace attendant::engine {
namespace {

constexpr int64_t kMaxFileBytes = 256 << 20;
constexpr absl::string_view kConfig = "config.json";
constexpr absl::string_view kWeights = "model.safetensors";
constexpr absl::string_view kIndex = "model.safetensors.index.json";

// Reads every pytorch_model*.bin of a folder, without running the code that a pickle may hold.
constexpr absl::string_view kConversion =
    "python3 -c \"import glob, sys, torch; from safetensors.torch import save_file; d = "
    "sys.argv[1]; "
    "save_file({k: v.clone().contiguous() for f in glob.glob(d + '/pytorch_model*.bin') "
    "for k, v in torch.load(f, map_location='cpu', weights_only=True).items()}, "
    "d + '/model.safetensors', metadata={'format': 'pt'})\" ";

std::string ShellQuoted(absl::string_view text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", R"('\'')"}}), "'");
}

// Whether `name` is a relative path that cannot leave its folder. Links are followed: model caches
// are made of them.
bool StaysInside(absl::string_view name) {
  if (name.empty() || name[0] == '/' || absl::StrContains(name, '\0')) return false;
  for (const absl::string_view part : absl::StrSplit(name, '/')) {
    if (part == "..") return false;
  }
  return true;
}

absl::StatusOr<std::optional<std::string>> ReadFileIn(const std::string& folder,
                                                      absl::string_view name) {
  if (!StaysInside(name)) {
    return absl::InvalidArgumentError(
        absl::StrCat(Printable(name), " is not the name of a file inside ", folder));
  }
  return ReadSmallFile(absl::StrCat(folder, "/", name), kMaxFileBytes);
}

class HuggingFaceCheckpoint : public Checkpoint {
 public:
  explicit HuggingFaceCheckpoint(std::string folder) : folder_(std::move(folder)) {}

  absl::Status Open();

  const std::string& path() const override { return folder_; }
  const std::string& config_json() const override { return config_json_; }
  absl::StatusOr<std::optional<std::string>> ReadFile(absl::string_view name) const override {
    return ReadFileIn(folder_, name);
  }
  const GgufVocabulary* gguf_vocabulary() const override { return nullptr; }

  std::vector<std::string> TensorNames() const override {
    std::vector<std::string> names;
    names.reserve(shard_of_.size());
    for (const auto& [name, shard] : shard_of_) names.push_back(name);
    return names;
  }

  std::optional<std::vector<int64_t>> TensorShape(absl::string_view name) const override {
    const SafetensorsFile::Tensor* tensor = Find(name);
    if (tensor == nullptr) return std::nullopt;
    return tensor->shape;
  }

  std::string TensorFormat(absl::string_view name) const override {
    const SafetensorsFile::Tensor* tensor = Find(name);
    return tensor == nullptr ? std::string() : tensor->dtype;
  }

  absl::Status ReadTensor(absl::string_view name, absl::Span<const int64_t> shape,
                          absl::Span<float> output) const override {
    const auto shard = shard_of_.find(name);
    if (shard == shard_of_.end()) return NoSuchTensor(weights_path_, name);
    return shards_[shard->second].Read(name, shape, output);
  }

  void Release(absl::string_view name) const override {
    const auto shard = shard_of_.find(name);
    if (shard != shard_of_.end()) shards_[shard->second].Release(name);
  }

  std::string Fingerprint() const override {
    return absl::StrJoin(shards_, "; ", [](std::string* out, const SafetensorsFile& shard) {
      absl::StrAppend(out, shard.Fingerprint());
    });
  }

  int64_t size_bytes() const override {
    int64_t sum = 0;
    for (const SafetensorsFile& shard : shards_) sum += shard.size_bytes();
    return sum;
  }

 private:
  absl::Status OpenSingleFile();
  absl::Status OpenShards(const std::string& index_json);
  absl::Status NoWeights() const;

  const SafetensorsFile::Tensor* Find(absl::string_view name) const {
    const auto shard = shard_of_.find(name);
    return shard == shard_of_.end() ? nullptr : shards_[shard->second].Find(name);
  }

  std::string folder_;
  std::string weights_path_;  // the file or the index, for messages
  std::string config_json_;
  std::vector<SafetensorsFile> shards_;
  absl::btree_map<std::string, size_t> shard_of_;  // tensor -> index in shards_
};

absl::Status HuggingFaceCheckpoint::Open() {
  std::error_code ignored;
  if (std::filesystem::exists(absl::StrCat(folder_, "/", kWeights), ignored)) {
    RETURN_IF_ERROR(OpenSingleFile());
  } else {
    ASSIGN_OR_RETURN(const std::optional<std::string> index, ReadFile(kIndex));
    if (!index.has_value()) return NoWeights();
    RETURN_IF_ERROR(OpenShards(*index));
  }
  ASSIGN_OR_RETURN(std::optional<std::string> config, ReadFile(kConfig));
  if (!config.has_value()) {
    return absl::NotFoundError(absl::StrCat(folder_, " has weights but no ", kConfig));
  }
  config_json_ = *std::move(config);
  return absl::OkStatus();
}

absl::Status HuggingFaceCheckpoint::OpenSingleFile() {
  weights_path_ = absl::StrCat(folder_, "/", kWeights);
  ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(weights_path_));
  for (const auto& [name, tensor] : file.tensors()) shard_of_[name] = 0;
  shards_.push_back(std::move(file));
  return absl::OkStatus();
}

// {"metadata": {...}, "weight_map": {"tensor": "model-00001-of-00002.safetensors", ...}}
absl::Status HuggingFaceCheckpoint::OpenShards(const std::string& index_json) {
  weights_path_ = absl::StrCat(folder_, "/", kIndex);
  const auto malformed = [&](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat(weights_path_, ": ", what));
  };
  simdjson::dom::parser parser;
  simdjson::dom::element json;
  if (const auto error = parser.parse(index_json).get(json)) {
    return malformed(absl::StrCat("malformed JSON: ", simdjson::error_message(error)));
  }
  simdjson::dom::object weight_map;
  if (json["weight_map"].get(weight_map) != simdjson::SUCCESS) {
    return malformed("\"weight_map\" is missing, or not an object");
  }

  absl::btree_map<std::string, size_t> shard_by_file;
  for (const simdjson::dom::key_value_pair entry : weight_map) {
    // Debian's Abseil has a string_view of its own.
    const absl::string_view tensor(entry.key.data(), entry.key.size());
    std::string_view file_value;
    if (entry.value.get(file_value) != simdjson::SUCCESS) {
      return malformed(absl::StrCat("the shard of tensor ", Printable(tensor), " is not a string"));
    }
    const std::string file(file_value);
    if (!StaysInside(file)) {
      return malformed(absl::StrCat("the shard of tensor ", Printable(tensor), ", ",
                                    Printable(file),
                                    ", is not the name of a file inside the folder"));
    }
    const auto [shard, is_new] = shard_by_file.try_emplace(file, shards_.size());
    if (is_new) {
      ASSIGN_OR_RETURN(SafetensorsFile opened,
                       SafetensorsFile::Open(absl::StrCat(folder_, "/", file)));
      shards_.push_back(std::move(opened));
    }
    if (shards_[shard->second].Find(tensor) == nullptr) {
      return malformed(absl::StrCat("tensor ", Printable(tensor), " is said to be in ",
                                    Printable(file), ", but is not"));
    }
    if (!shard_of_.try_emplace(std::string(tensor), shard->second).second) {
      return malformed(absl::StrCat("tensor ", Printable(tensor), " is given twice"));
    }
  }
  for (const SafetensorsFile& shard : shards_) {
    for (const auto& [name, tensor] : shard.tensors()) {
      const auto listed = shard_of_.find(name);
      if (listed == shard_of_.end() || &shards_[listed->second] != &shard) {
        return malformed(absl::StrCat("tensor ", Printable(name), " is in ", shard.name(),
                                      ", but the index does not say so"));
      }
    }
  }
  return absl::OkStatus();
}

// There are no safetensors: says what there is instead.
absl::Status HuggingFaceCheckpoint::NoWeights() const {
  std::vector<std::string> pickles, ggufs;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder_, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (absl::StartsWith(name, "pytorch_model") && absl::EndsWith(name, ".bin")) {
      pickles.push_back(name);
    }
    if (absl::EndsWith(name, ".gguf")) ggufs.push_back(name);
  }
  if (error) {
    return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot list the folder ", folder_));
  }
  if (!pickles.empty()) {
    return absl::UnimplementedError(
        absl::StrCat(folder_, " holds its weights as a pickle (",
                     *std::min_element(pickles.begin(), pickles.end()),
                     "), which can run code when read, and is not read here. Convert it with:\n",
                     kConversion, ShellQuoted(folder_)));
  }
  if (!ggufs.empty()) {
    return absl::NotFoundError(absl::StrCat(folder_, " has neither ", kWeights, " nor ", kIndex,
                                            "; to load its GGUF file, name the file: ", folder_,
                                            "/", *std::min_element(ggufs.begin(), ggufs.end())));
  }
  return absl::NotFoundError(absl::StrCat(folder_, " has neither ", kWeights, " nor ", kIndex));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenHuggingFaceCheckpoint(const std::string& folder) {
  auto checkpoint = std::make_unique<HuggingFaceCheckpoint>(folder);
  RETURN_IF_ERROR(checkpoint->Open());
  return checkpoint;
}

}  // namespace attendant::engine
