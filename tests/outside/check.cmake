# Installs accrue from BUILD into a fresh prefix under WORK, then configures, builds and runs the
# outside project against it alone. FLAGS are the compiler flags accrue was built with.
cmake_minimum_required(VERSION 3.22)
foreach(name BUILD WORK SOURCE COMPILER)
  if(NOT ${name})
    message(FATAL_ERROR "check.cmake: expected -D${name}=…")
  endif()
endforeach()

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE ${WORK})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)

# What is private stays at home, and no installed file points back into the build.
file(GLOB_RECURSE private ${WORK}/prefix/include/accrue/core/cpu/*
     ${WORK}/prefix/include/accrue/core/reference/*)
if(private)
  message(FATAL_ERROR "private headers were installed: ${private}")
endif()
file(GLOB package ${WORK}/prefix/*/cmake/accrue/*.cmake ${WORK}/prefix/*/*/cmake/accrue/*.cmake)
foreach(file ${package})
  file(READ ${file} content)
  string(FIND "${content}" "${BUILD}" at)
  if(NOT at EQUAL -1)
    message(FATAL_ERROR "${file} names the build folder ${BUILD}")
  endif()
endforeach()

run(${CMAKE_COMMAND} -G Ninja -S ${SOURCE} -B ${WORK}/build -DCMAKE_PREFIX_PATH=${WORK}/prefix
    -DCMAKE_FIND_USE_PACKAGE_REGISTRY=OFF -DCMAKE_BUILD_TYPE=Release
    -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_CXX_FLAGS=${FLAGS})
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/outside)
