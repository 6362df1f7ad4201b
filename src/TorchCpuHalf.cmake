# The CPU half of a LibTorch that was built with CUDA: libtorch_cpu and libc10 as targets under the
# names of LibTorch's own CMake package, which accepts such a build only beside a CUDA toolkit. Needs
# no toolkit and no GPU, only the two small libraries that libtorch_cpu asks for (libcudart, libcupti).
#
# rwkvx_torch_cpu_half(PREFIX): PREFIX holds include/ and lib/. Sets what TorchConfig.cmake sets.
macro(rwkvx_torch_cpu_half prefix)
  get_filename_component(TORCH_INSTALL_PREFIX "${prefix}" ABSOLUTE)
  foreach(_name c10 torch_cpu)
    if(NOT EXISTS "${TORCH_INSTALL_PREFIX}/lib/lib${_name}.so")
      message(FATAL_ERROR "LibTorch: expected ${TORCH_INSTALL_PREFIX}/lib/lib${_name}.so, got no such "
                          "file; run scripts/setup")
    endif()
    if(NOT TARGET ${_name})
      add_library(${_name} SHARED IMPORTED GLOBAL)
      set_target_properties(${_name} PROPERTIES
                            IMPORTED_LOCATION "${TORCH_INSTALL_PREFIX}/lib/lib${_name}.so")
    endif()
  endforeach()
  # Packages of CUDA 13 share one directory, those of CUDA 12 have one each. libtorch_cpu finds them by a
  # path of its own when it runs; the linker has to be told.
  file(GLOB _libraries "${TORCH_INSTALL_PREFIX}/lib/libcudart*.so*"
       "${TORCH_INSTALL_PREFIX}/lib/libcupti*.so*"
       "${TORCH_INSTALL_PREFIX}/../nvidia/*/lib/libcudart.so.*"
       "${TORCH_INSTALL_PREFIX}/../nvidia/*/lib/libcupti.so.*")
  set(_links "")
  foreach(_library ${_libraries})
    get_filename_component(_folder "${_library}" DIRECTORY)
    get_filename_component(_folder "${_folder}" ABSOLUTE)
    list(APPEND _links "LINKER:-rpath-link,${_folder}")
  endforeach()
  list(REMOVE_DUPLICATES _links)
  set(TORCH_INCLUDE_DIRS "${TORCH_INSTALL_PREFIX}/include"
                         "${TORCH_INSTALL_PREFIX}/include/torch/csrc/api/include")
  set_target_properties(torch_cpu PROPERTIES INTERFACE_LINK_LIBRARIES c10)
  if(NOT TARGET torch)
    add_library(torch INTERFACE IMPORTED GLOBAL)
    set_target_properties(torch PROPERTIES
                          INTERFACE_INCLUDE_DIRECTORIES "${TORCH_INCLUDE_DIRS}"
                          INTERFACE_COMPILE_DEFINITIONS "USE_DISTRIBUTED;USE_C10D_GLOO;USE_RPC;USE_TENSORPIPE"
                          INTERFACE_LINK_LIBRARIES "torch_cpu;c10"
                          INTERFACE_LINK_OPTIONS "${_links}")
  endif()
  set(TORCH_LIBRARIES torch)
  set(TORCH_FOUND TRUE)
  set(Torch_FOUND TRUE)
endmacro()
