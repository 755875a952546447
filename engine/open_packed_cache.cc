#include "engine/open_packed_cache.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/build_id.h"
#include "engine/base/data_type.h"
#include "engine/base/hash.h"
#include "engine/checkpoint/mapped_file.h"
#include "engine/kernels/linear.h"
#include "engine/model/model_weights.h"

namespace attendant::engine {
namespace {

std::string HashText(absl::string_view text) { return absl::StrFormat("%016x", Hash64(text)); }

// Of the code that packs, which may change the values of weights, not only their places.
std::string ProgramId() {
  if (std::string id = BuildId(); !id.empty()) return id;
  const absl::StatusOr<MappedFile> program = MappedFile::Open("/proc/self/exe");
  return program.ok() ? Fingerprint(program->bytes(), program->bytes().size(), &*program) : "";
}

// Which of the forms that the checkpoint's weights may be packed in.
std::string FormOf(const ModelSource& source, const Checkpoint& checkpoint) {
  if (source.dtype) return std::string(DataTypeName(*source.dtype));
  if (QuantizedType(checkpoint)) return "stored";
  return std::string(DataTypeName(DefaultDataType()));
}

}  // namespace

std::unique_ptr<PackedCache> OpenPackedCache(const ModelSource& source,
                                             const Checkpoint& checkpoint,
                                             const EngineOptions& options) {
  if (!options.packed_cache) return nullptr;
  std::error_code ignored;
  std::filesystem::path model = std::filesystem::weakly_canonical(checkpoint.path(), ignored);
  if (model.empty()) model = checkpoint.path();
  const std::string form = FormOf(source, checkpoint);
  const Packing packing = CurrentPacking();
  const std::string suffix = absl::StrCat(".", form, "-", packing.instruction_set, ".packed");
  std::filesystem::path path;
  if (!options.packed_cache->empty()) {
    // Models of one name may come from several places.
    path = std::filesystem::path(*options.packed_cache) /
           absl::StrCat(model.filename().string(), "-", HashText(model.string()), suffix);
  } else if (std::filesystem::is_directory(model, ignored)) {
    path = model / absl::StrCat("model", suffix);
  } else {
    path = absl::StrCat(model.string(), suffix);
  }
  return std::make_unique<PackedCache>(
      path.string(), PackedFile::Origin{{"checkpoint", checkpoint.Fingerprint()},
                                        {"config.json", HashText(checkpoint.config_json())},
                                        {"dtype", form},
                                        {"instruction set", packing.instruction_set},
                                        {"library", packing.library},
                                        {"program", ProgramId()}});
}

}  // namespace attendant::engine
