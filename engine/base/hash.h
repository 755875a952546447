#ifndef ATTENDANT_ENGINE_BASE_HASH_H_
#define ATTENDANT_ENGINE_BASE_HASH_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace attendant::engine {

// XXH64 with the seed 0 (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md): as quick
// as memory is read, some 10 GB/s, and the same on every machine. It tells damage and change, not
// malice. (Abseil's CRC-32C needs a build for newer processors to be as quick: Debian's, which is
// for all of them, reads 1.3 GB/s.)
uint64_t Hash64(absl::Span<const std::byte> bytes);
uint64_t Hash64(absl::string_view text);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_BASE_HASH_H_
