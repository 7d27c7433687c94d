# SPDX-License-Identifier: Apache-2.0
# cmake -D FILES=a;b -D OUTPUT=embedded.cpp -P embed.cmake: a C++ file that holds the files' bytes (embedded.h).
set(text "// Made by embed.cmake.\n#include \"embedded.h\"\n\nnamespace vgpu::hypervisor::http {\nnamespace {\n")
set(rows "")
set(number 0)
foreach(file IN LISTS FILES)
  get_filename_component(name ${file} NAME)
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "(..)" "'\\\\x\\1'," bytes "${hex}")
  string(REGEX REPLACE "(('[^']*',)('[^']*',)('[^']*',)('[^']*',)('[^']*',)('[^']*',)('[^']*',)('[^']*',))" "\\1\n" bytes "${bytes}")
  string(APPEND text "constexpr char k${number}[] = {\n${bytes}'\\0'};\n")
  string(APPEND rows "  if (name == \"${name}\") return {k${number}, sizeof k${number} - 1};\n")
  math(EXPR number "${number} + 1")
endforeach()
string(APPEND text "}  // namespace\n\nstd::string_view embedded(std::string_view name) {\n${rows}  return {};\n}\n\n"
                   "}  // namespace vgpu::hypervisor::http\n")
file(WRITE ${OUTPUT} "${text}")
