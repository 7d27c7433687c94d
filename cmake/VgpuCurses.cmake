# vgpu_curses: ncurses with wide characters. Its archive where there is one, so that the tool runs where the library isn't;
# descriptions of terminals are read from where the distribution keeps them.
find_path(VGPU_CURSES_INCLUDE NAMES curses.h REQUIRED)
find_library(VGPU_CURSES NAMES libncursesw.a ncursesw REQUIRED)
find_library(VGPU_TINFO NAMES libtinfo.a tinfo)
mark_as_advanced(VGPU_CURSES_INCLUDE VGPU_CURSES VGPU_TINFO)

add_library(vgpu_curses INTERFACE)
target_include_directories(vgpu_curses SYSTEM INTERFACE ${VGPU_CURSES_INCLUDE})
target_compile_definitions(vgpu_curses INTERFACE NCURSES_WIDECHAR=1)
target_link_libraries(vgpu_curses INTERFACE ${VGPU_CURSES})
if(VGPU_TINFO)  # some distributions keep it inside ncurses
  target_link_libraries(vgpu_curses INTERFACE ${VGPU_TINFO})
endif()
