// A GGUF file of any bytes, opened as a model is: metadata, tensors, and the tokenizer it carries.

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "engine/base/tensor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/tokenizer/tokenizer.h"

namespace {

using attendant::engine::Checkpoint;

void Remove() { std::remove(absl::StrCat("/dev/shm/attendant-", getpid(), ".gguf").c_str()); }

void TryTokenizer(const Checkpoint& checkpoint) {
  if (checkpoint.gguf_vocabulary() == nullptr) return;
  const auto tokenizer =
      attendant::engine::CreateGgufTokenizer(*checkpoint.gguf_vocabulary(), "fuzz.gguf");
  if (!tokenizer.ok()) return;
  const auto encoding = (*tokenizer)->Encode("Hello, wörld 123\n", true);
  if (encoding.ok()) (*tokenizer)->Decode(encoding->ids, true).IgnoreError();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string path = [] {
    std::atexit(Remove);
    return absl::StrCat("/dev/shm/attendant-", getpid(), ".gguf");
  }();
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  const auto checkpoint = Checkpoint::Open(path);
  if (!checkpoint.ok()) return 0;
  for (const std::string& name : (*checkpoint)->TensorNames()) {
    const auto shape = (*checkpoint)->TensorShape(name);
    std::vector<float> values(attendant::engine::NumElements(*shape));
    (*checkpoint)->ReadTensor(name, *shape, absl::MakeSpan(values)).IgnoreError();
  }
  (*checkpoint)->ReadFile("generation_config.json").IgnoreError();
  TryTokenizer(**checkpoint);
  return 0;
}
