#ifndef ATTENDANT_SERVER_LOADING_PROGRESS_H_
#define ATTENDANT_SERVER_LOADING_PROGRESS_H_

#include <string>

#include "absl/time/time.h"
#include "engine/engine.h"

namespace attendant::server {

// Tells on stderr how far the loading of one model is: a bar on a terminal, else a log line at the
// beginning and at the end.
class LoadingProgress {
 public:
  explicit LoadingProgress(const engine::ModelSource& source);

  // `fraction` is from 0 to 1.
  void Update(double fraction);
  void Done(const engine::ModelDescription& model);

 private:
  const std::string name_;
  const bool terminal_;
  const absl::Time start_;
  int percent_ = -1;
};

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_LOADING_PROGRESS_H_
