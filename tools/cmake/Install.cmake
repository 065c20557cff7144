# cmake --install: a prefix that can be moved, with the program, its shell completion and
# man page, the recipes and the report's schema. tools/launcher.cpp says how the program finds libtorch.
#
# Components: program, share and local are what `cmake --install` installs; libraries (those of the system that the
# program needs), torch (libtorch itself) and debian (what only a .deb holds) are for scripts/package.sh.
option(PTQ_BUNDLE_TORCH "install libtorch's libraries beside the program (CPU builds only)" OFF)

set(PTQ_PRIVATE_LIBDIR lib/quantize)
file(REMOVE "${PROJECT_BINARY_DIR}/torch-may-be-bundled")
if(EXISTS "${PTQ_TORCH_LIBDIR}/libtorch_cuda.so")
  if(PTQ_BUNDLE_TORCH)
    message(FATAL_ERROR "PTQ_BUNDLE_TORCH: the libtorch at ${PTQ_TORCH_ROOT} is a CUDA build, whose libraries lie in a "
                        "dozen packages; only CPU builds are bundled. Set PTQ_TORCH_ROOT to one, or leave "
                        "PTQ_BUNDLE_TORCH off")
  endif()
else()
  file(TOUCH "${PROJECT_BINARY_DIR}/torch-may-be-bundled")
  file(GLOB bundled "${PTQ_TORCH_LIBDIR}/libgomp*.so*")
  list(APPEND bundled "${PTQ_TORCH_LIBDIR}/libtorch.so" "${PTQ_TORCH_LIBDIR}/libtorch_cpu.so"
       "${PTQ_TORCH_LIBDIR}/libc10.so")
  if(NOT PTQ_BUNDLE_TORCH)
    set(only_asked_for EXCLUDE_FROM_ALL)
  endif()
  install(FILES ${bundled} DESTINATION "${PTQ_PRIVATE_LIBDIR}" COMPONENT torch ${only_asked_for})
  install(CODE "if(CMAKE_INSTALL_DO_STRIP)
    file(GLOB installed \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${PTQ_PRIVATE_LIBDIR}/lib*.so*\")
    execute_process(COMMAND \"${CMAKE_STRIP}\" --strip-unneeded \${installed} COMMAND_ERROR_IS_FATAL ANY)
  endif()" COMPONENT torch ${only_asked_for})
  file(GLOB torch_licences "${PTQ_TORCH_ROOT}/../torch-${PTQ_TORCH_VERSION}.*.dist-info/licenses/LICENSE")
  install(FILES ${torch_licences} DESTINATION "${CMAKE_INSTALL_DOCDIR}" RENAME copyright.libtorch
          COMPONENT torch ${only_asked_for})
endif()

install(TARGETS quantize_launcher RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT program)
install(TARGETS quantize RUNTIME_DEPENDENCY_SET needed RUNTIME DESTINATION "${PTQ_PRIVATE_LIBDIR}" COMPONENT program)
file(WRITE "${PROJECT_BINARY_DIR}/torch-root" "${PTQ_TORCH_ROOT}\n")
install(FILES "${PROJECT_BINARY_DIR}/torch-root" DESTINATION "${PTQ_PRIVATE_LIBDIR}" COMPONENT local)

install(DIRECTORY "${PROJECT_SOURCE_DIR}/configs" DESTINATION "${CMAKE_INSTALL_DATADIR}/quantize" COMPONENT share
        FILES_MATCHING PATTERN "*.json")
install(FILES "${PROJECT_SOURCE_DIR}/tools/report.schema.json" DESTINATION "${CMAKE_INSTALL_DATADIR}/quantize"
        COMPONENT share)
set(tools_dir "${PROJECT_BINARY_DIR}/tools")
install(FILES "${tools_dir}/quantize.bash" DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions"
        RENAME quantize COMPONENT share)
install(FILES "${tools_dir}/quantize.zsh" DESTINATION "${CMAKE_INSTALL_DATADIR}/zsh/site-functions"
        RENAME _quantize COMPONENT share)
install(FILES "${tools_dir}/quantize.fish" DESTINATION "${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d"
        COMPONENT share)
install(FILES "${tools_dir}/quantize.1.gz" DESTINATION "${CMAKE_INSTALL_MANDIR}/man1" COMPONENT share)
install(FILES README.md DESTINATION "${CMAKE_INSTALL_DOCDIR}" COMPONENT share)
install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DOCDIR}" COMPONENT local)

# What every system that can run libtorch has is left out, and libtorch.
install(RUNTIME_DEPENDENCY_SET needed DESTINATION "${PTQ_PRIVATE_LIBDIR}" COMPONENT libraries EXCLUDE_FROM_ALL
        DIRECTORIES "${PTQ_TORCH_LIBDIR}"
        PRE_EXCLUDE_REGEXES "^ld-linux" "^lib(c|m|dl|rt|pthread|stdc\\+\\+|gcc_s|gomp.*|torch.*|c10.*)\\.so"
        POST_EXCLUDE_REGEXES "^${PTQ_TORCH_LIBDIR}/")
