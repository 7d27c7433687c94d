# vgpu_fmt: fmt, for what isn't loaded into user processes. Compiled once where this is the release that fmt.cpp knows: as headers
# alone it cost each file that formats anything 2.7 s. An archive of our own, as the distribution's library would be one more that
# the tool needs at run time.
find_package(fmt REQUIRED)

if(fmt_VERSION MATCHES "^9\\.")
  add_library(vgpu_fmt STATIC ${CMAKE_CURRENT_LIST_DIR}/fmt.cpp)
  get_target_property(includes fmt::fmt-header-only INTERFACE_INCLUDE_DIRECTORIES)
  target_include_directories(vgpu_fmt SYSTEM PUBLIC ${includes})
  target_link_libraries(vgpu_fmt PRIVATE vgpu_options)
else()
  add_library(vgpu_fmt INTERFACE)
  target_link_libraries(vgpu_fmt INTERFACE fmt::fmt-header-only)
endif()
