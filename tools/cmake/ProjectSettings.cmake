# Settings shared by every target of ours: target ptq_settings, and ptq_add_library for a folder.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

# -O2: what must be fast is in libtorch or in src/kernels, which has flags of its own. -O3 costs a third more time to
# compile and gives nothing measurable.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

option(PTQ_WERROR "treat warnings as errors" ON)
option(PTQ_FUZZ "build the libFuzzer targets (clang only)" OFF)
set(PTQ_SANITIZE "" CACHE STRING "sanitizers, e.g. address,undefined")

find_program(PTQ_CCACHE ccache)
if(PTQ_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CMAKE_COMMAND}" -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime CCACHE_DEPEND=1 "${PTQ_CCACHE}")
endif()

add_library(ptq_settings INTERFACE)
target_include_directories(ptq_settings INTERFACE "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/src")
target_compile_options(ptq_settings INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion
                       $<$<BOOL:${PTQ_WERROR}>:-Werror>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # "text" + std::string sets off a false alarm in this compiler's own headers (GCC bug 105651).
  target_compile_options(ptq_settings INTERFACE -Wno-restrict -Wno-stringop-overflow -Wno-stringop-overread
                         -Wno-array-bounds)
endif()
if(PTQ_SANITIZE)
  # Accesses through wrong pointers are AddressSanitizer's to find; to check each for null and alignment too takes a
  # fifth of the time to compile.
  target_compile_options(ptq_settings INTERFACE -fsanitize=${PTQ_SANITIZE} -fno-omit-frame-pointer
                         -fno-sanitize=null,alignment,vptr,object-size,nonnull-attribute,returns-nonnull-attribute)
  target_link_options(ptq_settings INTERFACE -fsanitize=${PTQ_SANITIZE})
endif()

# Everything shares one of two precompiled headers, libtorch's (of codec) or the one without (of base), but for the
# kernels, whose files have flags of their own.
set(PTQ_PCH <algorithm> <filesystem> <functional> <map> <memory> <optional> <string> <vector> <nlohmann/json.hpp>)

# ptq_add_library(folder sources... [TORCH] [USES folders...] [LINK targets...])
# A static library ptq_<folder> from the folder's sources. TORCH gives it libtorch.
function(ptq_add_library folder)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;USES;LINK" ${ARGN})
  add_library(ptq_${folder} STATIC ${ARG_SOURCES})
  target_link_libraries(ptq_${folder} PUBLIC ptq_settings)
  foreach(used IN LISTS ARG_USES)
    target_link_libraries(ptq_${folder} PUBLIC ptq_${used})
  endforeach()
  target_link_libraries(ptq_${folder} PUBLIC ${ARG_LINK})
  if(ARG_TORCH)
    target_link_libraries(ptq_${folder} PUBLIC ptq::torch)
  endif()
  if(folder STREQUAL "base")
    target_precompile_headers(ptq_base PRIVATE ${PTQ_PCH})
  elseif(folder STREQUAL "codec")
    target_precompile_headers(ptq_codec PRIVATE ${PTQ_PCH} <ATen/ATen.h>)
  elseif(ARG_TORCH)
    target_precompile_headers(ptq_${folder} REUSE_FROM ptq_codec)
  elseif(NOT folder STREQUAL "kernels")
    target_precompile_headers(ptq_${folder} REUSE_FROM ptq_base)
  endif()
endfunction()
