#include "engine/base/build_id.h"

#include <elf.h>
#include <link.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"

namespace attendant::engine {
namespace {

// The program itself comes first, so one call is enough.
int FindBuildId(dl_phdr_info* info, size_t, void* result) {
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    const auto* notes = reinterpret_cast<const char*>(info->dlpi_addr + segment.p_vaddr);
    const size_t alignment = segment.p_align == 8 ? 8 : 4;
    const auto aligned = [&](size_t size) {
      return (size + alignment - 1) / alignment * alignment;
    };
    for (size_t at = 0; at + sizeof(ElfW(Nhdr)) <= segment.p_memsz;) {
      ElfW(Nhdr) note;
      std::memcpy(&note, notes + at, sizeof(note));
      const size_t name = at + sizeof(note);
      const size_t content = name + aligned(note.n_namesz);
      if (note.n_type == NT_GNU_BUILD_ID &&
          absl::string_view(notes + name, note.n_namesz) == absl::string_view("GNU", 4)) {
        *static_cast<std::string*>(result) =
            absl::BytesToHexString(absl::string_view(notes + content, note.n_descsz));
        return 1;
      }
      at = content + aligned(note.n_descsz);
    }
  }
  return 1;
}

}  // namespace

std::string BuildId() {
  std::string id;
  dl_iterate_phdr(&FindBuildId, &id);
  return id;
}

}  // namespace attendant::engine
