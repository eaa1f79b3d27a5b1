# muster_library(NAME [GRPC] DEPS … TEST_DEPS …)
#   A folder as a library: its *.cc files, but for *_test.cc, which become one test program NAME_test,
#   *_fuzz.cc, which become a fuzz target each, *_tool.cc and main.cc. GRPC says that gRPC's headers are
#   worth precompiling; PLAIN, that the target stands below the precompiled headers.
# muster_program(NAME DEPS …)    main.cc of the folder as build/bin/NAME.
include(GoogleTest)

function(muster_use_pch target pch)
  if(MUSTER_PCH AND TARGET ${pch})
    target_precompile_headers(${target} REUSE_FROM ${pch})
  endif()
endfunction()

# malloc of the programs that hold very many sessions (docs/decisions/0074). Sanitizers bring their own.
add_library(muster_allocator INTERFACE)
if(NOT MUSTER_SANITIZE)
  target_link_libraries(muster_allocator INTERFACE PkgConfig::jemalloc)
endif()

# Every fuzz target and nothing else.
add_custom_target(fuzz_targets)

function(muster_fuzz_target file)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  get_filename_component(name ${file} NAME_WE)
  set(corpus ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
  if(MUSTER_FUZZ)
    add_executable(${name} ${file})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    # Without libFuzzer the target replays its corpus and seeded mutations of it, as a test.
    add_executable(${name} ${file} ${PROJECT_SOURCE_DIR}/tests/fuzz/replay_main.cc)
    add_test(NAME fuzz.${name} COMMAND ${name} ${corpus})
    set_tests_properties(fuzz.${name} PROPERTIES TIMEOUT 120)
  endif()
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
  add_dependencies(fuzz_targets ${name})
endfunction()

function(muster_library name)
  cmake_parse_arguments(ARG "GRPC;PLAIN" "" "DEPS;TEST_DEPS" ${ARGN})
  set(pch muster_pch)
  set(test_pch muster_test_pch)
  if(ARG_GRPC)
    set(pch muster_grpc_pch)
    set(test_pch muster_grpc_pch)
  endif()
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  set(tests ${sources})
  set(fuzzers ${sources})
  list(FILTER sources EXCLUDE REGEX "(_test|_fuzz|_tool|/main)\\.cc$")
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER fuzzers INCLUDE REGEX "_fuzz\\.cc$")

  if(sources)
    add_library(${name} STATIC ${sources})
    target_link_libraries(${name} PUBLIC ${ARG_DEPS})
    if(NOT ARG_PLAIN)
      muster_use_pch(${name} ${pch})
    endif()
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE ${ARG_DEPS})
  endif()

  if(tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE ${name} ${ARG_TEST_DEPS} GTest::gmock_main)
    muster_use_pch(${name}_test ${test_pch})
    target_compile_definitions(${name}_test PRIVATE
      MUSTER_SOURCE_DIR="${PROJECT_SOURCE_DIR}" MUSTER_BIN_DIR="${PROJECT_BINARY_DIR}/bin")
    gtest_discover_tests(${name}_test DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
      PROPERTIES TIMEOUT 300)
  endif()
  foreach(file ${fuzzers})
    muster_fuzz_target(${file} DEPS ${name})
  endforeach()
endfunction()

function(muster_program name)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  add_executable(${name} ${CMAKE_CURRENT_SOURCE_DIR}/main.cc)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
endfunction()
