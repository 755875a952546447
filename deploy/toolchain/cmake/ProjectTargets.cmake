# Headers that are parsed once for all files: precompiled/NAME.h, for targets that say PRECOMPILED NAME; `common` if they
# do not say. (-fpch-preprocess lets ccache see through them.)
function(attendant_precompiled name)
  set(source ${CMAKE_BINARY_DIR}/precompiled/${name}.cc)
  file(CONFIGURE OUTPUT ${source} CONTENT "")
  add_library(precompiled_${name} OBJECT ${source})
  target_include_directories(precompiled_${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(precompiled_${name} PRIVATE ${ARGN} project_options)
  target_precompile_headers(precompiled_${name} PRIVATE <deploy/toolchain/cmake/precompiled/${name}.h>)
endfunction()

function(attendant_use_precompiled target name)
  target_precompile_headers(${target} REUSE_FROM precompiled_${name})
  target_compile_options(${target} PRIVATE -fpch-preprocess)
endfunction()

attendant_precompiled(common)
attendant_precompiled(testing GTest::gmock)
# Tests are programs, and the code of a program is compiled as that.
set_target_properties(precompiled_testing PROPERTIES POSITION_INDEPENDENT_CODE OFF)
target_compile_options(precompiled_testing PRIVATE -fPIE)
if(NOT ATTENDANT_ENGINE_ONLY)
  attendant_precompiled(rpc gRPC::grpc++)
endif()

# attendant_library(NAME SOURCES a.cc b.cc DEPS x y): one library for one folder. Headers are spelled from the root.
function(attendant_library name)
  cmake_parse_arguments(ARG "" "PRECOMPILED" "SOURCES;DEPS" ${ARGN})
  if(ARG_SOURCES)
    add_library(${name} STATIC ${ARG_SOURCES})
    target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
    target_link_libraries(${name} PUBLIC ${ARG_DEPS} PRIVATE project_options)
    if(NOT ARG_PRECOMPILED)
      set(ARG_PRECOMPILED common)
    endif()
    attendant_use_precompiled(${name} ${ARG_PRECOMPILED})
  else()
    add_library(${name} INTERFACE)
    target_include_directories(${name} INTERFACE ${CMAKE_SOURCE_DIR})
    target_link_libraries(${name} INTERFACE ${ARG_DEPS})
  endif()
endfunction()

# attendant_program(NAME SOURCES main.cc DEPS x y). The target `programs` builds those outside tests/: what users run.
add_custom_target(programs)
function(attendant_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  string(FIND ${CMAKE_CURRENT_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/tests tests)
  if(tests EQUAL -1)
    add_dependencies(programs ${name})
  endif()
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} project_options)
endfunction()

# attendant_test(NAME LABEL unit SOURCES a_test.cc DEPS x [TIMEOUT seconds]): a GoogleTest program, each case of which
# is a CTest test. LABEL is one of unit, integration, golden, fuzz. Tests find their data with tests/support/test_data.h.
function(attendant_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} tests_support GTest::gmock GTest::gtest_main project_options)
  attendant_use_precompiled(${name} testing)
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  include(GoogleTest)
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60 NO_PRETTY_VALUES
                       PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
endfunction()

# attendant_benchmark(NAME SOURCES a_benchmark.cc DEPS x y TEST_FILTER regex): a Google Benchmark program, which ./dev
# bench runs. As a test (label benchmark) it makes one pass over the small cases of TEST_FILTER, so that a benchmark
# whose result is wrong is noticed, on a busy machine too.
function(attendant_benchmark name)
  cmake_parse_arguments(ARG "" "TEST_FILTER" "SOURCES;DEPS" ${ARGN})
  attendant_program(${name} SOURCES ${ARG_SOURCES} DEPS ${ARG_DEPS} benchmark::benchmark_main)
  add_dependencies(benchmarks ${name})
  add_test(NAME ${name} COMMAND ${name} --benchmark_min_time=1x --benchmark_filter=${ARG_TEST_FILTER})
  set_tests_properties(${name} PROPERTIES LABELS benchmark TIMEOUT 300
                       FAIL_REGULAR_EXPRESSION "Failed to match any benchmarks")
endfunction()

# attendant_fuzzer(NAME SOURCES a_fuzzer.cc DEPS x y): a libFuzzer program, NAME_fuzzer, with its seeds in
# tests/fuzz/corpus/NAME. Without ATTENDANT_FUZZ it is a test (label fuzz) that runs each seed once.
function(attendant_fuzzer name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  set(program ${name}_fuzzer)
  if(ATTENDANT_FUZZ)
    attendant_program(${program} SOURCES ${ARG_SOURCES} DEPS ${ARG_DEPS})
    target_link_options(${program} PRIVATE -fsanitize=fuzzer)
  else()
    attendant_program(${program} SOURCES ${ARG_SOURCES} DEPS ${ARG_DEPS} fuzz_replay)
    add_test(NAME ${program} COMMAND ${program} ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${name})
    set_tests_properties(${program} PROPERTIES LABELS fuzz TIMEOUT 300)
  endif()
  add_dependencies(fuzzers ${program})
endfunction()
