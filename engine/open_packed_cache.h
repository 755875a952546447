#ifndef ATTENDANT_ENGINE_OPEN_PACKED_CACHE_H_
#define ATTENDANT_ENGINE_OPEN_PACKED_CACHE_H_

#include <memory>

#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/packed_cache.h"
#include "engine/engine.h"

namespace attendant::engine {

// The cache of a model's packed weights in the file that `options` ask for; null if they ask for
// none.
//
// The file's name tells the model's type of weights and this machine's instruction set, so that
// servers that differ in these do not overwrite each other's. What else decides what is in the
// file is its origin: the checkpoint, the library that packed it, and the program.
std::unique_ptr<PackedCache> OpenPackedCache(const ModelSource& source,
                                             const Checkpoint& checkpoint,
                                             const EngineOptions& options);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_OPEN_PACKED_CACHE_H_
