# VGPU_UNITY compiles up to eight files of a target as one, so that what they include is read and instantiated once: little more than
# half of the time of a build from nothing, more of one after a change. To change files often, configure with -DVGPU_UNITY=OFF;
# scripts/lint does, so that each file stays one that compiles for itself.
option(VGPU_UNITY "Compile several files of a target at once, in the folders that allow it" ON)

# vgpu_unity(): allows it in this folder and those below. Names of a target's anonymous namespaces and aliases must then differ.
# What is loaded into user processes is always built file by file.
macro(vgpu_unity)
  set(CMAKE_UNITY_BUILD ${VGPU_UNITY})
  set(CMAKE_UNITY_BUILD_BATCH_SIZE 8)
endmacro()
