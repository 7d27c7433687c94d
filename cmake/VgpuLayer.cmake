# Targets only: warnings, sanitizers and the layer function. A folder sees only what it links.
set(VGPU_SANITIZE "" CACHE STRING "Sanitizers for every target, as for -fsanitize= (the asan and tsan presets set it)")

# Line tables are what a backtrace needs; full debug information is what the debug preset is for.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1 -DNDEBUG" CACHE STRING "" FORCE)

add_library(vgpu_warnings INTERFACE)
target_compile_options(vgpu_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wswitch-enum -Wnon-virtual-dtor -Wundef -Werror
  $<$<COMPILE_LANGUAGE:CXX>:-Wconversion -Woverloaded-virtual>)

add_library(vgpu_options INTERFACE)
set(VGPU_WITH_TSAN OFF)  # what has one thread isn't tested with it
if(VGPU_SANITIZE MATCHES "thread")
  set(VGPU_WITH_TSAN ON)
endif()
if(VGPU_SANITIZE)
  set(CMAKE_CXX_FLAGS_DEBUG "-g1" CACHE STRING "" FORCE)  # line tables are what a report needs
  target_compile_options(vgpu_options INTERFACE -fsanitize=${VGPU_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(vgpu_options INTERFACE -fsanitize=${VGPU_SANITIZE})
  target_compile_definitions(vgpu_options INTERFACE VGPU_SANITIZED=1)
endif()

# The layers that end up inside a user's process (libcuda_limiter.so): no exceptions, no RTTI, no libstdc++ at run
# time, so header-only parts of the standard library only. The CLI and the tests link the same archives.
add_library(vgpu_embedded INTERFACE)
target_compile_options(vgpu_embedded INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions -fno-rtti -fno-threadsafe-statics>
  -fvisibility=hidden -ftls-model=initial-exec -fno-math-errno)

# A launch passes ten functions of four of these layers, each on pages of its own: the library is optimised as a whole
# where it is linked (a cold launch gets a tenth cheaper, docs/results). Everything else takes the same objects as they are.
set(VGPU_WHOLE_LIBRARY OFF)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo" AND NOT VGPU_SANITIZE)
  set(VGPU_WHOLE_LIBRARY ON)
  target_compile_options(vgpu_embedded INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-flto=auto -ffat-lto-objects>)
  add_link_options($<$<NOT:$<BOOL:$<TARGET_PROPERTY:VGPU_WHOLE_LIBRARY>>>:-fno-lto>)
endif()

# vgpu_layer(NAME [SOURCES ...] [USES layer ...] [EMBEDDED]): library vgpu_NAME from src/NAME, headers in
# src/NAME/include/vgpu/NAME/ as "vgpu/NAME/x.h". Without SOURCES it is header-only.
function(vgpu_layer name)
  cmake_parse_arguments(ARG "EMBEDDED" "" "SOURCES;USES" ${ARGN})
  list(TRANSFORM ARG_USES PREPEND vgpu_)
  if(ARG_SOURCES)
    add_library(vgpu_${name} STATIC ${ARG_SOURCES})
    target_include_directories(vgpu_${name} PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/include)
    target_link_libraries(vgpu_${name} PUBLIC ${ARG_USES} PRIVATE vgpu_warnings vgpu_options)
    if(ARG_EMBEDDED)
      target_link_libraries(vgpu_${name} PRIVATE vgpu_embedded)
    endif()
  else()
    add_library(vgpu_${name} INTERFACE)
    target_include_directories(vgpu_${name} INTERFACE ${CMAKE_CURRENT_SOURCE_DIR}/include)
    target_link_libraries(vgpu_${name} INTERFACE ${ARG_USES})
  endif()
endfunction()
