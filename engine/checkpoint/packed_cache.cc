#include "engine/checkpoint/packed_cache.h"

#include <algorithm>
#include <utility>

#include "absl/log/log.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/messages.h"

namespace attendant::engine {
namespace {

absl::Status CheckOrigin(const PackedFile::Origin& found, const PackedFile::Origin& wanted) {
  for (const auto& [name, value] : wanted) {
    const auto same = std::find_if(found.begin(), found.end(),
                                   [&](const auto& part) { return part.first == name; });
    const std::string stored = same == found.end() ? "nothing" : Printable(same->second);
    if (same == found.end() || same->second != value) {
      return absl::FailedPreconditionError(
          absl::StrCat("it was made for another ", name, " (", stored, "; now ", value, ")"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<PackedFile> OpenFile(const std::string& path, const PackedFile::Origin& origin) {
  ASSIGN_OR_RETURN(PackedFile file, PackedFile::Open(path));
  RETURN_IF_ERROR(CheckOrigin(file.origin(), origin));
  return file;
}

}  // namespace

PackedCache::PackedCache(std::string path, PackedFile::Origin origin)
    : path_(std::move(path)), origin_(std::move(origin)) {
  absl::StatusOr<PackedFile> file = OpenFile(path_, origin_);
  if (file.ok()) {
    file_ = *std::move(file);
  } else if (!absl::IsNotFound(file.status())) {
    Reject(file.status());
  }
}

absl::StatusOr<PackedMatrix> PackedCache::Take(absl::string_view name) {
  if (num_taken_ == file_->num_matrices()) {
    return absl::FailedPreconditionError(absl::StrCat("it has no matrix ", name));
  }
  ASSIGN_OR_RETURN(PackedFile::NamedMatrix next, file_->Read(num_taken_++));
  if (next.name != name) {
    return absl::FailedPreconditionError(
        absl::StrCat("its next matrix is ", Printable(next.name), ", not ", name));
  }
  return std::move(next.matrix);
}

void PackedCache::Reject(const absl::Status& reason) {
  LOG(INFO) << "weights are packed again, for " << path_ << " is of no use: " << reason.message();
  file_.reset();
}

void PackedCache::Keep(absl::string_view name, PackedMatrix matrix) {
  kept_.push_back({std::string(name), std::move(matrix)});
}

void PackedCache::Finish() {
  if (file_) {
    LOG(INFO) << "packed weights are those of " << path_;
    file_.reset();
    return;
  }
  const absl::Time start = absl::Now();
  const absl::Status status = PackedFile::Write(path_, origin_, std::exchange(kept_, {}));
  if (status.ok()) {
    LOG(INFO) << "wrote packed weights to " << path_ << " in "
              << absl::Trunc(absl::Now() - start, absl::Milliseconds(1));
  } else if (absl::IsAborted(status)) {
    LOG(INFO) << "packed weights are not written: " << status.message();
  } else {
    LOG(WARNING) << "packed weights are not kept, and the next start packs them again: "
                 << status.message()
                 << ". Make the folder writable, or give --packed_cache one that is";
  }
}

}  // namespace attendant::engine
