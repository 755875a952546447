# attendant_library(NAME SOURCES a.cc b.cc DEPS x y): one library for one folder. Headers are spelled from the root.
function(attendant_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  if(ARG_SOURCES)
    add_library(${name} STATIC ${ARG_SOURCES})
    target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
    target_link_libraries(${name} PUBLIC ${ARG_DEPS} PRIVATE project_options)
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
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  include(GoogleTest)
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
                       PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
endfunction()

# attendant_benchmark(NAME SOURCES a_benchmark.cc DEPS x y): a Google Benchmark program, which ./dev bench runs. As a
# test (label benchmark) it makes one pass, so that a benchmark whose result is wrong is noticed.
function(attendant_benchmark name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  attendant_program(${name} SOURCES ${ARG_SOURCES} DEPS ${ARG_DEPS} benchmark::benchmark_main)
  add_dependencies(benchmarks ${name})
  add_test(NAME ${name} COMMAND ${name} --benchmark_min_time=1x)
  set_tests_properties(${name} PROPERTIES LABELS benchmark TIMEOUT 120)
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
    set_tests_properties(${program} PROPERTIES LABELS fuzz TIMEOUT 120)
  endif()
  add_dependencies(fuzzers ${program})
endfunction()
