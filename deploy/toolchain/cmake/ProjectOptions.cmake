# What every target of ours is compiled with. Third-party headers are SYSTEM and see none of the warnings.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
# -O2 and the baseline instruction set: faster paths are chosen at run time (oneDNN, Highway).
# NDEBUG is set in release, so DCHECK costs nothing there.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g1")

set(ATTENDANT_SANITIZER "" CACHE STRING "Comma-separated sanitizers: address,undefined or thread")
option(ATTENDANT_ENGINE_ONLY "Leave out what needs gRPC, whose package is not built for sanitizers or fuzzing" OFF)
option(ATTENDANT_PICTURES "Let `attendant` draw PNG files, which needs Pango and Cairo" ON)
option(ATTENDANT_FUZZ "Build the fuzzers with libFuzzer (clang); otherwise they replay their seeds as tests" OFF)

find_program(ATTENDANT_CCACHE ccache)
if(ATTENDANT_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${ATTENDANT_CCACHE})
endif()

find_program(ATTENDANT_MOLD mold)
if(ATTENDANT_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

if(ATTENDANT_SANITIZER)
  add_compile_options(-fsanitize=${ATTENDANT_SANITIZER} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${ATTENDANT_SANITIZER})
  # Abseil's tables would expect their library to have been built with the address sanitizer, too.
  add_compile_definitions(NDEBUG_SANITIZER)
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND ATTENDANT_SANITIZER MATCHES undefined)
    # With these GCC no longer knows in constant expressions that a function is not null, which Abseil's tables ask
    # (gcc.gnu.org/PR71962). The address sanitizer stops at a null pointer as well.
    add_compile_options(-fno-sanitize=null,nonnull-attribute,returns-nonnull-attribute)
  endif()
endif()

if(ATTENDANT_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

add_library(project_options INTERFACE)
target_compile_options(project_options INTERFACE -Wall -Wextra -Wno-sign-compare -Wno-missing-field-initializers)
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  target_compile_options(project_options INTERFACE -Wthread-safety)
endif()
