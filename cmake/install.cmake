# `cmake --install`: the libraries, the public headers as include/accrue/FOLDER/, and what
# find_package(accrue) reads.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# The includer's own "core/tensor.h" stays reachable: ours lie one folder further down.
foreach(folder core autograd nn optim)
  install(
    DIRECTORY ${folder}/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/accrue/${folder}
    FILES_MATCHING PATTERN "*.h"
    PATTERN "reference" EXCLUDE
    PATTERN "cpu" EXCLUDE)
endforeach()

install(FILES accrue.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/accrue)

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/accrue)
install(
  TARGETS accrue accrue_core accrue_reference accrue_cpu accrue_cuda accrue_autograd accrue_nn accrue_optim
  EXPORT accrue-targets)
install(EXPORT accrue-targets NAMESPACE accrue:: DESTINATION ${package_folder})

configure_package_config_file(
  cmake/accrue-config.cmake.in ${PROJECT_BINARY_DIR}/accrue-config.cmake
  INSTALL_DESTINATION ${package_folder} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(
  ${PROJECT_BINARY_DIR}/accrue-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/accrue-config.cmake
              ${PROJECT_BINARY_DIR}/accrue-config-version.cmake DESTINATION ${package_folder})
