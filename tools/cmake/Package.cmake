# What scripts/package.sh packs, besides the files that Install.cmake names: the wheel's METADATA, and CPack's settings
# for a .deb. A .deb takes the libraries of the system by its dependencies, and has documents of its own form.
configure_file("${PROJECT_SOURCE_DIR}/scripts/package/METADATA.in" "${PROJECT_BINARY_DIR}/METADATA" @ONLY)

set(package_dir "${PROJECT_SOURCE_DIR}/scripts/package")
add_custom_command(OUTPUT "${PROJECT_BINARY_DIR}/changelog.gz"
                   COMMAND gzip -9nc "${package_dir}/changelog" > "${PROJECT_BINARY_DIR}/changelog.gz"
                   DEPENDS "${package_dir}/changelog" VERBATIM)
add_custom_target(debian_files ALL DEPENDS "${PROJECT_BINARY_DIR}/changelog.gz")
install(FILES "${PROJECT_BINARY_DIR}/changelog.gz" "${package_dir}/copyright" DESTINATION "${CMAKE_INSTALL_DOCDIR}"
        COMPONENT debian EXCLUDE_FROM_ALL)
install(FILES "${package_dir}/lintian-overrides" DESTINATION "${CMAKE_INSTALL_DATADIR}/lintian/overrides"
        RENAME quantize COMPONENT debian EXCLUDE_FROM_ALL)

set(CPACK_GENERATOR DEB)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_GROUPING ALL_COMPONENTS_IN_ONE)
set(CPACK_COMPONENTS_ALL program share debian)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_CONTACT "see scripts/package/changelog")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS "${PTQ_TORCH_LIBDIR}")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
"Turns a float checkpoint of a language model into an INT8 or INT4 checkpoint,
and says in a JSON report what that cost. Reads PyTorch, safetensors and
Hugging Face directories, writes safetensors, GPTQ, AWQ, GGUF and others.

It runs on libtorch ${PTQ_TORCH_VERSION}: on the one inside this package, where it holds
one, or else on that of a Python package torch, which pip installs.")
include(CPack)
