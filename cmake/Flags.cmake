# Compiler and linker flags for everything that muster builds.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
# Static libraries and programs alike, so that both can share precompiled headers.
set(CMAKE_POSITION_INDEPENDENT_CODE OFF)
add_compile_options(-fPIE)

option(MUSTER_WERROR "Treat warnings as errors" ON)
option(MUSTER_PCH "Precompile the headers of gRPC and protobuf" ON)
# A target with definitions of its own compiles without them, and that is no error.
set(CMAKE_PCH_WARN_INVALID OFF)
set(MUSTER_SANITIZE "" CACHE STRING "Sanitizers to build with: address,undefined or thread")
option(MUSTER_COVERAGE "Build with coverage counters" OFF)
option(MUSTER_FUZZ "Build fuzz targets with libFuzzer (clang)" OFF)

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
    CCACHE_BASEDIR=/ CCACHE_NOHASHDIR=1
    CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
    ${CCACHE_PROGRAM})
endif()

add_compile_options(-Wall -Wextra -Wformat=2 -Wconversion -Wsign-conversion -Wimplicit-fallthrough
  -Wnon-virtual-dtor -Wno-missing-field-initializers)
if(MUSTER_WERROR)
  add_compile_options(-Werror)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_compile_options(-Wbidi-chars=any -fpch-preprocess)
  # The linker that abseil and gRPC's many objects want.
  add_link_options(-fuse-ld=mold)
else()
  # Abseil of this version trips newer warnings of clang in its own headers only.
  # A service's private method is named as the RPC that it answers.
  add_compile_options(-Wthread-safety -Wno-overloaded-virtual -Wno-unknown-warning-option)
endif()

# Hardening. _FORTIFY_SOURCE needs optimisation, and sanitizers bring checks of their own.
add_compile_options(-fstack-protector-strong -fno-delete-null-pointer-checks -fno-strict-overflow
  -fno-strict-aliasing)
add_compile_definitions(_GLIBCXX_ASSERTIONS)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_compile_options(-fstack-clash-protection -fcf-protection=full -ftrivial-auto-var-init=zero)
endif()
if(NOT MUSTER_SANITIZE AND NOT MUSTER_COVERAGE AND NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
  add_compile_options(-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
endif()
add_link_options(-pie -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,-z,separate-code -Wl,--as-needed)

if(MUSTER_SANITIZE)
  # gcc's own instrumentation makes it see uninitialised reads inside fmt.
  add_compile_options(-Wno-maybe-uninitialized -Wno-uninitialized)
  add_compile_options(-fsanitize=${MUSTER_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  if(MUSTER_SANITIZE MATCHES "undefined")
    # tests/ubsan.supp is looked at only where a check may go on; scripts/check has every other finding end the process.
    add_compile_options(-fsanitize-recover=vptr)
  endif()
  add_link_options(-fsanitize=${MUSTER_SANITIZE})
endif()
if(MUSTER_SANITIZE STREQUAL "thread")
  # protobuf's map_field.h adds members under this macro that Debian's library, built without it, does not
  # have: a program that keeps it crashes in the first map field read by reflection.
  add_compile_options(-U__SANITIZE_THREAD__)
  # Into every program, so that the sanitizer sees absl's mutexes.
  add_library(muster_tsan OBJECT ${PROJECT_SOURCE_DIR}/tests/support/tsan_mutex.cc)
  target_compile_options(muster_tsan PRIVATE -fno-sanitize=all -Wno-thread-safety)
  target_link_libraries(muster_tsan PUBLIC absl::synchronization)
  link_libraries($<$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>:$<TARGET_OBJECTS:muster_tsan>>
    absl::synchronization absl::time)
endif()
if(MUSTER_FUZZ)
  # libFuzzer sees which branches of the libraries an input took, and goes where none went before.
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(MUSTER_COVERAGE)
  # Threads count the same lines.
  add_compile_options(--coverage -fprofile-update=atomic)
  add_link_options(--coverage)
endif()
