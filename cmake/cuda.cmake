# ACCRUE_CUDA: whether cuda/ is built, or cuda/stub/ in its place. Sets ACCRUE_HAS_CUDA.
set(ACCRUE_CUDA AUTO CACHE STRING "Build the CUDA backend: AUTO (where its parts are found), ON, OFF")
set_property(CACHE ACCRUE_CUDA PROPERTY STRINGS AUTO ON OFF)

file(GLOB cuda_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cuda/*.cpp ${PROJECT_SOURCE_DIR}/cuda/*.cu)
set(ACCRUE_HAS_CUDA OFF)
set(missing "")
if(ACCRUE_CUDA AND cuda_sources)
  # The toolkit's own folder need not be in PATH.
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    find_program(ACCRUE_NVCC nvcc PATHS ENV CUDA_PATH ENV CUDA_HOME /usr/local/cuda PATH_SUFFIXES bin)
    mark_as_advanced(ACCRUE_NVCC)
    if(ACCRUE_NVCC)
      set(CMAKE_CUDA_COMPILER ${ACCRUE_NVCC})
    endif()
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    string(CONCAT missing "a CUDA compiler; install the CUDA Toolkit (12.4 or later) and put its bin "
           "folder into PATH, or give -DCMAKE_CUDA_COMPILER=…/nvcc")
  else()
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 80 90)
    endif()
    enable_language(CUDA)
    set(CMAKE_CUDA_STANDARD 20)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    # CMake 3.25 does not know that nvcc speaks C++20.
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    endif()
    find_package(CUDAToolkit 12.4 QUIET)
    find_path(CUDNN_INCLUDE_DIR cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
    find_library(CUDNN_LIBRARY cudnn HINTS ${CUDAToolkit_LIBRARY_DIR})
    if(NOT CUDAToolkit_FOUND)
      set(missing "CUDA Toolkit 12.4 or later, with cuBLASLt")
    elseif(NOT CUDNN_INCLUDE_DIR OR NOT CUDNN_LIBRARY)
      set(missing "cuDNN 9; install it, or give -DCUDNN_INCLUDE_DIR=… and -DCUDNN_LIBRARY=…")
    else()
      set(ACCRUE_HAS_CUDA ON)
    endif()
  endif()
  if(missing AND NOT ACCRUE_CUDA STREQUAL AUTO)
    message(FATAL_ERROR "ACCRUE_CUDA=${ACCRUE_CUDA} needs ${missing}; or configure with -DACCRUE_CUDA=OFF")
  endif()
endif()

if(ACCRUE_HAS_CUDA)
  accrue_library(cuda cuda PUBLIC accrue_core PRIVATE CUDA::cudart CUDA::cublasLt ${CUDNN_LIBRARY}
                 ${CMAKE_DL_LIBS}) # NVTX looks for a profiler
  # Headers take nvcc nine seconds a file, most kernels less: those named here are compiled together.
  set(together "copy fill map sum dot" "optimizer dropout rope" "folds embedding" "squared_error cross_entropy"
               "norm norm_backward" "attention_forward_bf16 attention_forward_f16 attention_plain"
               "attention_backward_bf16 attention_backward_f16")
  file(GLOB kernels CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cuda/*.cu)
  foreach(group ${together})
    string(REPLACE " " "_and_" name ${group})
    string(REPLACE " " ";" files ${group})
    set(includes "")
    foreach(file ${files})
      list(REMOVE_ITEM kernels ${PROJECT_SOURCE_DIR}/cuda/${file}.cu)
      string(APPEND includes "#include \"${PROJECT_SOURCE_DIR}/cuda/${file}.cu\"\n")
    endforeach()
    file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/cuda/${name}.cu CONTENT "${includes}" @ONLY)
    list(APPEND kernels ${PROJECT_BINARY_DIR}/cuda/${name}.cu)
  endforeach()
  target_sources(accrue_cuda PRIVATE ${kernels})
  target_include_directories(accrue_cuda SYSTEM PRIVATE ${CUDNN_INCLUDE_DIR})
  # cuDNN's attention is a graph of its header library, PyPI's nvidia-cudnn-frontend.
  find_package(Python3 QUIET COMPONENTS Interpreter)
  find_path(CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h
            HINTS ${PROJECT_SOURCE_DIR}/build/cudnn_frontend/include ${CUDNN_INCLUDE_DIR}
            ${Python3_SITELIB}/include ${Python3_SITEARCH}/include)
  if(CUDNN_FRONTEND_INCLUDE_DIR)
    target_sources(accrue_cuda PRIVATE ${PROJECT_SOURCE_DIR}/cuda/cudnn/attention.cpp)
    target_link_libraries(accrue_cuda PRIVATE CUDA::nvrtc) # the headers call it
    set_source_files_properties(${PROJECT_SOURCE_DIR}/cuda/cudnn/attention.cpp PROPERTIES
                                INCLUDE_DIRECTORIES ${CUDNN_FRONTEND_INCLUDE_DIR}
                                COMPILE_DEFINITIONS CUDNN_FRONTEND_SKIP_JSON_LIB
                                COMPILE_OPTIONS "-w;-O0") # the library's warnings; it takes long to build
  else()
    target_sources(accrue_cuda PRIVATE ${PROJECT_SOURCE_DIR}/cuda/stub/cudnn/attention.cpp)
    message(STATUS "CUDA: attention by own kernels alone; cuDNN's want nvidia-cudnn-frontend's headers, "
                   "-DCUDNN_FRONTEND_INCLUDE_DIR=…")
  endif()
  # std::array, std::bit_cast and the like in device code.
  target_compile_options(accrue_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr>)
  message(STATUS "CUDA: ${CMAKE_CUDA_COMPILER_VERSION}, architectures ${CMAKE_CUDA_ARCHITECTURES}")
else()
  accrue_library(cuda cuda/stub PUBLIC accrue_core)
  if(missing)
    message(STATUS "CUDA: off, for want of ${missing}")
  else()
    message(STATUS "CUDA: off")
  endif()
endif()
