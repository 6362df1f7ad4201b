# `cmake --install`: the program (alone with --component inference), its library with LibTorch, the libraries of the rooms with their headers, and a package that
# another CMake project finds:
#   find_package(rwkvx REQUIRED)
#   target_link_libraries(mine PRIVATE rwkvx::model)   # one room and what it uses
#   target_link_libraries(mine PRIVATE rwkvx::rwkvx)   # all rooms
include(CMakePackageConfigHelpers)

get_property(rooms GLOBAL PROPERTY RWKVX_ROOMS)
list(TRANSFORM rooms PREPEND rwkvx_)
add_library(rwkvx_all INTERFACE)
set_target_properties(rwkvx_all PROPERTIES EXPORT_NAME rwkvx)
target_link_libraries(rwkvx_all INTERFACE ${rooms})

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/rwkvx)
# CMAKE_INSTALL_RPATH_USE_LINK_PATH leaves out directories inside the project, such as .venv.
install(TARGETS rwkvx COMPONENT inference)
if(RWKVX_TORCH)
  set_target_properties(rwkvx_torch PROPERTIES INSTALL_RPATH "${TORCH_INSTALL_PREFIX}/lib")
  install(TARGETS rwkvx_torch LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
install(TARGETS ${rooms} rwkvx_all EXPORT rwkvxTargets)
install(EXPORT rwkvxTargets NAMESPACE rwkvx:: DESTINATION ${package_dir})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/rwkvx DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/configs DESTINATION ${CMAKE_INSTALL_DATADIR}/rwkvx)

# The libraries fit the LibTorch they were built with, so that one is looked for first.
set(RWKVX_TORCH_HINTS "")
foreach(name Torch_DIR CUDA_TOOLKIT_ROOT_DIR CUDAToolkit_ROOT CMAKE_CUDA_COMPILER TORCH_CUDA_ARCH_LIST)
  if(${name})
    string(APPEND RWKVX_TORCH_HINTS "  set(${name} \"${${name}}\")\n")
  endif()
endforeach()
if(RWKVX_TORCH)
  install(FILES ${CMAKE_CURRENT_LIST_DIR}/TorchCpuHalf.cmake DESTINATION ${package_dir})
endif()
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/rwkvxConfig.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/rwkvxConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/rwkvxConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/rwkvxConfig.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/rwkvxConfigVersion.cmake DESTINATION ${package_dir})
