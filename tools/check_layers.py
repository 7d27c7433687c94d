#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds every #include to the arrows between folders (docs/architecture.md), and the folders that end up inside a
user's process to headers of the standard library that need none of it at run time.

check_layers.py [ROOT]; prints one line for each include that isn't allowed, and fails if there is any."""
import pathlib
import re
import sys

# folder: the folders whose public headers ("vgpu/<folder>/...") it may include besides its own.
MAY_USE = {
    "src/api": [],
    "src/base": [],
    "src/core": ["base"],
    "src/platform": ["base"],
    "src/shm": ["base", "core", "platform"],
    "src/host": ["base", "core", "platform", "shm"],
    "src/driver": ["base", "api"],
    "src/settings": ["base"],
    "src/pod": ["base", "platform", "settings"],
    "src/limiter": ["api", "base", "core", "platform", "shm", "host", "driver", "settings", "pod"],
    "src/add_path": [],
    "src/survey": ["api", "base", "core", "platform", "shm", "settings"],
    "src/admission": ["base"],
    "src/client": ["base", "shm", "settings", "survey"],
    "src/tui": ["base", "platform", "shm", "settings", "survey", "client"],
    "src/cli": ["admission", "base", "core", "platform", "shm", "settings", "survey", "client", "tui"],
    "src/hypervisor": ["admission", "api", "base", "core", "platform", "pod", "shm", "host", "settings", "survey", "client", "tui"],
    # Nothing of the limiter: the simulated GPU must not share its mistakes.
    "sim": ["api", "base"],
}
EMBEDDED = ["src/base", "src/core", "src/platform", "src/shm", "src/host", "src/driver", "src/settings", "src/pod", "src/limiter", "src/add_path"]
# Compiled away entirely: types, templates and constants.
HEADER_ONLY = set(
    "algorithm array atomic bit cctype cerrno cinttypes climits compare concepts csignal cstdarg cstddef cstdint cstdio "
    "cstdlib cstring ctime cwchar initializer_list iterator limits new numeric optional span string_view tuple "
    "type_traits utility".split())
NVIDIA = {"cuda.h", "cuda_runtime.h", "cuda_runtime_api.h", "nvml.h", "cudaTypedefs.h"}
SOURCES = {".h", ".cpp", ".def", ".S", ".in"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def folder_of(path):
    return next((folder for folder in MAY_USE if path.startswith(folder + "/")), None)


def faults(root):
    for path in sorted(p for top in ("src", "sim") for p in (root / top).rglob("*") if p.suffix in SOURCES):
        relative = path.relative_to(root).as_posix()
        folder = folder_of(relative)
        if folder is None:
            yield f"{relative}: a folder without a row in tools/check_layers.py"
            continue
        own = folder.rsplit("/", 1)[-1]
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            quoted, name = match[1] == '"', match[2]
            where = f"{relative}:{number}: "
            if name in NVIDIA:
                yield where + f"NVIDIA's {name}; our declarations are in src/api"
            elif name.startswith("vgpu/"):
                used = name.split("/")[1]
                if used != own and used not in MAY_USE[folder]:
                    yield where + f"{folder} may not use {used}"
            elif quoted and name.startswith("../"):
                target = (path.parent / name).resolve()
                if not target.is_relative_to((root / folder).resolve()):
                    yield where + f"{name} is private to another folder"
            elif not quoted and folder in EMBEDDED and "." not in name and "/" not in name and name not in HEADER_ONLY:
                yield where + f"<{name}> needs libstdc++ in the user's process"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    found = list(faults(root))
    print("\n".join(found) if found else "every include follows the arrows")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
