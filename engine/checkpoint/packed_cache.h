#ifndef ATTENDANT_ENGINE_CHECKPOINT_PACKED_CACHE_H_
#define ATTENDANT_ENGINE_CHECKPOINT_PACKED_CACHE_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/packed_matrix.h"
#include "engine/checkpoint/packed_file.h"

namespace attendant::engine {

// The packed matrices of one model, taken from a file if there is one of the same origin, or else
// kept to be written to it. It never fails: without the file a model is packed, and the log says
// why.
//
// Matrices are taken, or kept, in the one order in which a model reads them. One thread at a time.
class PackedCache {
 public:
  PackedCache(std::string path, PackedFile::Origin origin);

  // Whether there are matrices to be taken; else they are to be kept.
  bool has_matrices() const { return file_.has_value(); }

  // The next matrix, which is called `name`. Errors say what is wrong with the file.
  absl::StatusOr<PackedMatrix> Take(absl::string_view name);

  // All that was taken is of no use, because of `reason`: everything is to be packed, and kept.
  void Reject(const absl::Status& reason);

  void Keep(absl::string_view name, PackedMatrix matrix);

  // After the last: lets go of the file and, if matrices were kept, writes it. Those taken live on.
  void Finish();

 private:
  const std::string path_;
  const PackedFile::Origin origin_;
  std::optional<PackedFile> file_;
  size_t num_taken_ = 0;
  std::vector<PackedFile::NamedMatrix> kept_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_CHECKPOINT_PACKED_CACHE_H_
