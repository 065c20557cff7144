# Finds libtorch and defines ptq::torch.
#
# find_package(Torch) is not used: on a CUDA wheel it is a hard error without a full CUDA toolkit, and it puts
# torch's include directory (which carries its own fmt) in front of the system's, which breaks spdlog.
set(PTQ_TORCH_ROOT "$ENV{PTQ_TORCH_ROOT}" CACHE PATH
    "directory that holds include/ and lib/ of libtorch (default: the torch package of PTQ_PYTHON)")
if(NOT PTQ_TORCH_ROOT)
  find_program(PTQ_PYTHON NAMES python3 HINTS "${PROJECT_SOURCE_DIR}/.venv/bin" NO_CMAKE_SYSTEM_PATH)
  if(PTQ_PYTHON)
    execute_process(
      COMMAND "${PTQ_PYTHON}" -c "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
      OUTPUT_VARIABLE PTQ_TORCH_ROOT OUTPUT_STRIP_TRAILING_WHITESPACE)
  endif()
endif()
if(NOT EXISTS "${PTQ_TORCH_ROOT}/include/ATen/ATen.h")
  message(FATAL_ERROR "libtorch not found: run scripts/quickstart.sh, which installs it into .venv, "
                      "or set PTQ_TORCH_ROOT to the folder that holds include/ATen and lib/")
endif()

file(STRINGS "${PTQ_TORCH_ROOT}/include/torch/headeronly/version.h" version_lines
     REGEX "^#define TORCH_VERSION_(MAJOR|MINOR) [0-9]+$")
string(REGEX REPLACE "[^0-9;]" "" version_lines "${version_lines}")
list(JOIN version_lines "." PTQ_TORCH_VERSION)
if(PTQ_TORCH_VERSION VERSION_LESS 2.13)
  message(FATAL_ERROR "libtorch '${PTQ_TORCH_VERSION}' at ${PTQ_TORCH_ROOT} is too old: 2.13 or newer is needed")
endif()
message(STATUS "libtorch ${PTQ_TORCH_VERSION}: ${PTQ_TORCH_ROOT}")

set(PTQ_TORCH_LIBDIR "${PTQ_TORCH_ROOT}/lib")
set(torch_libraries "${PTQ_TORCH_LIBDIR}/libtorch.so" "${PTQ_TORCH_LIBDIR}/libtorch_cpu.so"
    "${PTQ_TORCH_LIBDIR}/libc10.so")
if(EXISTS "${PTQ_TORCH_LIBDIR}/libtorch_cuda.so")
  list(APPEND torch_libraries "${PTQ_TORCH_LIBDIR}/libtorch_cuda.so" "${PTQ_TORCH_LIBDIR}/libc10_cuda.so")
endif()

add_library(ptq_torch INTERFACE)
add_library(ptq::torch ALIAS ptq_torch)
target_compile_features(ptq_torch INTERFACE cxx_std_20)
# -idirafter keeps torch's bundled headers (fmt, protobuf) behind the system's. Without -fopenmp,
# at::parallel_for runs on one thread and says nothing.
target_compile_options(ptq_torch INTERFACE -fopenmp "SHELL:-idirafter \"${PTQ_TORCH_ROOT}/include\""
                       "SHELL:-idirafter \"${PTQ_TORCH_ROOT}/include/torch/csrc/api/include\"")
target_link_libraries(ptq_torch INTERFACE -Wl,--push-state,--no-as-needed ${torch_libraries} -Wl,--pop-state)
file(GLOB torch_gomp "${PTQ_TORCH_LIBDIR}/libgomp*.so*")
if(torch_gomp)
  target_link_libraries(ptq_torch INTERFACE ${torch_gomp})
else()
  find_package(OpenMP REQUIRED)
  target_link_libraries(ptq_torch INTERFACE OpenMP::OpenMP_CXX)
endif()
