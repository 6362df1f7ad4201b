# Finds LibTorch: the one that the user names, else the one that scripts/setup chose, else CMake's own
# search. Decides whether the CUDA kernels are built (RWKVX_CUDA=AUTO) and for which GPUs.
#
# Sets RWKVX_WITH_CUDA, RWKVX_TORCH_HALF (the CPU half of a CUDA build is linked), RWKVX_CUDA_TEXT (what
# --version says about it), and all that LibTorch's own package sets.
include(${CMAKE_CURRENT_LIST_DIR}/TorchCpuHalf.cmake)

# ---- which LibTorch ------------------------------------------------------------------------------

# TorchConfig.cmake's directory below one of the prefixes, or nothing.
function(rwkvx_torch_below result)
  set(${result} "" PARENT_SCOPE)
  foreach(prefix ${ARGN})
    foreach(directory "" /Torch /share/cmake/Torch /lib/cmake/Torch)
      if(prefix AND EXISTS "${prefix}${directory}/TorchConfig.cmake")
        set(${result} "${prefix}${directory}" PARENT_SCOPE)
        return()
      endif()
    endforeach()
  endforeach()
endfunction()

string(REPLACE ":" ";" prefixes "$ENV{CMAKE_PREFIX_PATH}")
rwkvx_torch_below(given "${Torch_ROOT};$ENV{Torch_ROOT};${CMAKE_PREFIX_PATH};${prefixes}")
set(settings ${PROJECT_SOURCE_DIR}/.venv/rwkvx-torch)  # written by scripts/setup: NAME=VALUE lines
if(Torch_DIR)
  # Found before, or given with -D.
elseif(NOT "$ENV{Torch_DIR}" STREQUAL "")
  set(Torch_DIR "$ENV{Torch_DIR}" CACHE PATH "directory with TorchConfig.cmake" FORCE)
elseif(given)
  set(Torch_DIR "${given}" CACHE PATH "directory with TorchConfig.cmake" FORCE)
elseif(EXISTS "${settings}")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${settings}")
  file(STRINGS "${settings}" lines ENCODING UTF-8)
  foreach(line ${lines})
    if(line MATCHES "^([A-Za-z_]+)=(.*)$")
      set(name ${CMAKE_MATCH_1})
      if(NOT ${name})
        set(${name} "${CMAKE_MATCH_2}" CACHE STRING "chosen by scripts/setup" FORCE)
      endif()
    endif()
  endforeach()
endif()
if(Torch_DIR AND NOT EXISTS "${Torch_DIR}/TorchConfig.cmake")
  message(FATAL_ERROR "Torch_DIR: expected a directory with TorchConfig.cmake, got ${Torch_DIR}; "
                      "run scripts/setup, or give -DTorch_DIR=DIR")
endif()

# ---- its CUDA half -------------------------------------------------------------------------------

# What nvidia-smi says about the GPUs here, one line each, or nothing.
function(rwkvx_ask_gpus result property)
  set(${result} "" PARENT_SCOPE)
  find_program(NVIDIA_SMI nvidia-smi)
  mark_as_advanced(NVIDIA_SMI)
  if(NOT NVIDIA_SMI)
    return()
  endif()
  execute_process(COMMAND ${NVIDIA_SMI} --query-gpu=${property} --format=csv,noheader
                  RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_QUIET
                  OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(status EQUAL 0 AND output)
    string(REPLACE "\n" ";" output "${output}")
    list(FILTER output INCLUDE REGEX "^[0-9]")  # "[N/A]" where the driver does not know
    set(${result} "${output}" PARENT_SCOPE)
  endif()
endfunction()

set(built_with_cuda "")
get_filename_component(prefix "${Torch_DIR}/../../.." ABSOLUTE)
if(Torch_DIR AND EXISTS "${prefix}/version.py")
  file(STRINGS "${prefix}/version.py" line REGEX "^cuda.*= *'[0-9.]+'")
  if(line MATCHES "'([0-9.]+)'")
    set(built_with_cuda ${CMAKE_MATCH_1})
  endif()
endif()
file(GLOB cuda_libraries "${prefix}/lib/libtorch_cuda.so")
if(Torch_DIR AND cuda_libraries AND NOT built_with_cuda)
  set(built_with_cuda "of unknown version")
endif()

rwkvx_ask_gpus(capabilities compute_cap)
set(RWKVX_TORCH_HALF FALSE)
if(built_with_cuda)
  # LibTorch's package ends with an error unless it finds nvcc beside the headers and libraries.
  set(toolkit "")
  find_program(RWKVX_NVCC nvcc HINTS "${CUDA_TOOLKIT_ROOT_DIR}/bin" "${CUDAToolkit_ROOT}/bin"
               "$ENV{CUDA_HOME}/bin" /usr/local/cuda/bin)
  mark_as_advanced(RWKVX_NVCC)
  foreach(nvcc "${CMAKE_CUDA_COMPILER}" "${RWKVX_NVCC}")
    if(nvcc AND EXISTS "${nvcc}" AND NOT toolkit)
      file(REAL_PATH "${nvcc}" nvcc)
      get_filename_component(directory "${nvcc}/../.." ABSOLUTE)
      foreach(root "${CUDA_TOOLKIT_ROOT_DIR}" "${directory}" /usr/local/cuda /usr)
        if(root AND NOT toolkit AND EXISTS "${root}/include/cublas_v2.h")
          set(toolkit "${root}")
        endif()
      endforeach()
    endif()
  endforeach()
  if(NOT cuda_libraries)
    set(reason "it holds the CPU half of a CUDA build")
  elseif(NOT RWKVX_NVCC AND NOT CMAKE_CUDA_COMPILER)
    set(reason "there is no nvcc here")
  elseif(NOT toolkit)
    set(reason "the CUDA toolkit here has no cublas_v2.h")
  else()
    set(reason "")
  endif()
  set(lib "LibTorch in ${prefix} (CUDA ${built_with_cuda})")
  if(reason AND (RWKVX_CUDA STREQUAL "ON" OR (RWKVX_CUDA STREQUAL "AUTO" AND capabilities AND cuda_libraries)))
    message(FATAL_ERROR "${lib}: expected a CUDA toolkit beside it, but ${reason}; run scripts/setup "
                        "--cuda, or build for the CPU with -DRWKVX_CUDA=OFF")
  elseif(reason)
    message(STATUS "${lib}: its CPU half is used, as ${reason}; scripts/setup --cuda gets the rest")
    set(RWKVX_TORCH_HALF TRUE)
  elseif(NOT RWKVX_CUDA AND NOT RWKVX_CUDA STREQUAL "AUTO")
    message(STATUS "${lib}: its CPU half is used, as RWKVX_CUDA is OFF")
    set(RWKVX_TORCH_HALF TRUE)
  endif()
endif()

# ---- found ---------------------------------------------------------------------------------------

if(RWKVX_TORCH_HALF)
  if(EXISTS "${Torch_DIR}/TorchConfigVersion.cmake")
    include("${Torch_DIR}/TorchConfigVersion.cmake")
  endif()
  set(Torch_VERSION "${PACKAGE_VERSION}")
  if(Torch_VERSION VERSION_LESS 2.1)
    message(FATAL_ERROR "LibTorch: expected version 2.1 or later, got \"${Torch_VERSION}\" in ${prefix}; "
                        "run scripts/setup")
  endif()
  rwkvx_torch_cpu_half("${prefix}")
else()
  # LibTorch's package asks for architectures that a newer nvcc no longer knows, unless told which.
  # +PTX lets GPUs that come later compile for themselves.
  if(NOT TORCH_CUDA_ARCH_LIST)
    if(NOT "$ENV{TORCH_CUDA_ARCH_LIST}" STREQUAL "")
      set(TORCH_CUDA_ARCH_LIST "$ENV{TORCH_CUDA_ARCH_LIST}")
    elseif(capabilities)
      list(REMOVE_DUPLICATES capabilities)
      list(SORT capabilities COMPARE NATURAL)
      set(TORCH_CUDA_ARCH_LIST "${capabilities}+PTX")
    else()
      set(TORCH_CUDA_ARCH_LIST "8.0;9.0+PTX")
    endif()
  endif()
  find_package(Torch 2.1 REQUIRED)
endif()

set(RWKVX_WITH_CUDA FALSE)
if(TARGET torch_cuda AND RWKVX_CUDA)  # ON or AUTO
  set(RWKVX_WITH_CUDA TRUE)
elseif(RWKVX_CUDA STREQUAL "ON")
  message(FATAL_ERROR "RWKVX_CUDA=ON: expected a LibTorch with CUDA, got the CPU build in "
                      "${TORCH_INSTALL_PREFIX}; run scripts/setup --cuda")
endif()
if(RWKVX_WITH_CUDA)
  string(REPLACE ";" " " archs "${TORCH_CUDA_ARCH_LIST}")
  set(RWKVX_CUDA_TEXT "CUDA ${CMAKE_CUDA_COMPILER_VERSION}, kernels for ${archs}")
  # One runtime for the kernels and LibTorch, as each copy has its own idea of the current device.
  set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
else()
  set(RWKVX_CUDA_TEXT "without CUDA")
endif()
message(STATUS "LibTorch ${Torch_VERSION}: ${TORCH_INSTALL_PREFIX}, ${RWKVX_CUDA_TEXT}")
