# cmake --install and CPack: a prefix that can be moved, with the program, its shell completion and
# man page, the recipes and the report's schema.
#
# The program finds libtorch by the path that it was built with. With PTQ_BUNDLE_TORCH its libraries are copied into
# the prefix, and the prefix also works where that path does not exist; for CPU builds of libtorch only, because the
# CUDA libraries lie in a dozen packages.
option(PTQ_BUNDLE_TORCH "install libtorch's libraries beside the program (CPU builds only)" OFF)

if(TARGET quantize)
  install(TARGETS quantize RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
  if(EXISTS "${PROJECT_SOURCE_DIR}/configs")
    install(DIRECTORY "${PROJECT_SOURCE_DIR}/configs" DESTINATION "${CMAKE_INSTALL_DATADIR}/quantize"
            FILES_MATCHING PATTERN "*.json")
  endif()
  install(FILES "${PROJECT_SOURCE_DIR}/tools/report.schema.json" DESTINATION "${CMAKE_INSTALL_DATADIR}/quantize")
  set(tools_dir "${PROJECT_BINARY_DIR}/tools")
  install(FILES "${tools_dir}/quantize.bash" DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions"
          RENAME quantize)
  install(FILES "${tools_dir}/quantize.zsh" DESTINATION "${CMAKE_INSTALL_DATADIR}/zsh/site-functions"
          RENAME _quantize)
  install(FILES "${tools_dir}/quantize.fish" DESTINATION "${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d")
  install(FILES "${tools_dir}/quantize.1" DESTINATION "${CMAKE_INSTALL_MANDIR}/man1")
  install(FILES README.md LICENSE DESTINATION "${CMAKE_INSTALL_DOCDIR}")

  if(PTQ_BUNDLE_TORCH)
    if(EXISTS "${PTQ_TORCH_LIBDIR}/libtorch_cuda.so")
      message(FATAL_ERROR "PTQ_BUNDLE_TORCH: the libtorch at ${PTQ_TORCH_ROOT} is a CUDA build; only CPU builds are "
                          "bundled. Set PTQ_TORCH_ROOT to one, or leave PTQ_BUNDLE_TORCH off")
    endif()
    file(GLOB bundled "${PTQ_TORCH_LIBDIR}/libgomp*.so*")
    list(APPEND bundled "${PTQ_TORCH_LIBDIR}/libtorch.so" "${PTQ_TORCH_LIBDIR}/libtorch_cpu.so"
         "${PTQ_TORCH_LIBDIR}/libc10.so")
    install(FILES ${bundled} DESTINATION "${CMAKE_INSTALL_LIBDIR}/ptq")
  endif()
endif()

set(CPACK_GENERATOR TGZ)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "post-training quantization of language models")
set(CPACK_RESOURCE_FILE_LICENSE "${PROJECT_SOURCE_DIR}/LICENSE")
set(CPACK_STRIP_FILES ON)
include(CPack)
