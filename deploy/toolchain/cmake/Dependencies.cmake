# Every third-party library, in one place. All come from Debian's packages (deploy/toolchain/packages.txt).

find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED)
find_package(absl REQUIRED)
find_package(Protobuf REQUIRED)
# gRPC would look for re2 with pkg-config, which takes 45 s to walk what re2 asks for (all of Abseil, many times over).
set(re2_FOUND TRUE)
add_library(re2::re2 INTERFACE IMPORTED)
target_link_libraries(re2::re2 INTERFACE re2)
find_package(gRPC CONFIG REQUIRED)
find_package(prometheus-cpp CONFIG REQUIRED)
find_package(dnnl CONFIG REQUIRED)
find_package(GTest REQUIRED)
find_package(benchmark REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(SIMDJSON REQUIRED IMPORTED_TARGET simdjson)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
find_package(hwy CONFIG REQUIRED)
find_package(JPEG REQUIRED)
find_package(PNG REQUIRED)
if(ATTENDANT_PICTURES)
  pkg_check_modules(PANGOCAIRO REQUIRED IMPORTED_TARGET pangocairo)
  add_library(pangocairo ALIAS PkgConfig::PANGOCAIRO)
endif()

add_library(simdjson ALIAS PkgConfig::SIMDJSON)
add_library(pcre2 ALIAS PkgConfig::PCRE2)
add_library(utf8proc ALIAS PkgConfig::UTF8PROC)

# google/rpc/{status,error_details,code}.proto
find_path(GOOGLEAPIS_PROTO_DIR google/rpc/status.proto
          PATHS /usr/lib/python3/dist-packages /usr/share/googleapis REQUIRED)
