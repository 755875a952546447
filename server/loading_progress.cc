#include "server/loading_progress.h"

#include <unistd.h>

#include <cstdio>

#include "absl/log/log.h"
#include "absl/strings/str_format.h"

namespace attendant::server {

LoadingProgress::LoadingProgress(const engine::ModelSource& source)
    : name_(source.name), terminal_(isatty(STDERR_FILENO) == 1), start_(absl::Now()) {
  if (!terminal_) LOG(INFO) << "loading " << name_ << " from " << source.path;
  Update(0);
}

void LoadingProgress::Update(double fraction) {
  constexpr int kWidth = 30;
  const int percent = static_cast<int>(fraction * 100);
  if (!terminal_ || percent == percent_) return;
  percent_ = percent;
  const int filled = percent * kWidth / 100;
  absl::FPrintF(stderr, "\r%s [%s%s] %3d%%", name_, std::string(filled, '#'),
                std::string(kWidth - filled, '.'), percent);
  std::fflush(stderr);
}

void LoadingProgress::Done(const engine::ModelDescription& model) {
  if (terminal_) absl::FPrintF(stderr, "\r\033[K");
  LOG(INFO) << absl::StrFormat(
      "loaded %s: %s, %.1f M parameters, %s, %s of weights, up to %d tokens, in %s", name_,
      model.architecture, model.num_parameters * 1e-6, engine::DataTypeName(model.dtype),
      absl::StrFormat("%.1f MiB", model.weight_bytes / 1048576.0), model.max_tokens,
      absl::FormatDuration(absl::Trunc(absl::Now() - start_, absl::Milliseconds(1))));
}

}  // namespace attendant::server
