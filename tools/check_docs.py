#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the Markdown pages to the tree: relative links lead to files (and to headings that are there), paths of the
repository that a page names in `code` exist, and so do the commands and flags of `vgpu` and the variables that it tells
people to use.

check_docs.py [ROOT]; prints one line for each that doesn't, and fails if there is any."""
import pathlib
import re
import sys

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\s]+)`")
FENCE = re.compile(r"^\s*(```|~~~)")
# What a path of the repository begins with. Others (/dev/shm, lib/vgpu) are places on the user's machine.
TOP = re.compile(r"^(src|sim|tests|docs|scripts|tools|fuzz|bench|cmake|packaging|\.ci)/[\w./*-]+$")
COMMAND = re.compile(r"(?:^|[\s`;|('])vgpu ([a-z]+)((?: (?!-- )[^`#|;]*)?)")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
VARIABLE = re.compile(r"\b(?:VGPU|TF|TENSOR_FUSION)_[A-Z][A-Z_]*[A-Z]\b")
# Options of the build and of tests, not of the product.
BUILD_VARIABLES = {"VGPU_LIBFUZZER", "VGPU_SANITIZE", "VGPU_MODEL_ROUNDS", "VGPU_PLOTS"}
SKIPPED = {"build", ".git", "shared"}


def pages(root):
    for path in sorted(root.rglob("*.md")):
        if not SKIPPED & set(path.relative_to(root).parts):
            yield path


def anchor(heading):
    text = re.sub(r"[`*_]|\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def text_lines(path):
    """Lines outside of fenced blocks, with their numbers."""
    fenced = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            yield number, line


def anchors(path):
    return {anchor(line.lstrip("#")) for _, line in text_lines(path) if line.startswith("#")}


def known_words(root):
    """Verbs, flags and variables of the product; None where a tree has none (tests of this program)."""
    options = root / "src/cli/options.cpp"
    settings = root / "src/settings/include/vgpu/settings/settings.def"
    if not options.exists() or not settings.exists():
        return None
    text = options.read_text()
    verbs = set(re.findall(r'add_verb\(\*app,\s*"([a-z]+)"', text))
    flags = set(re.findall(r'"(?:-\w,)?(--[a-z-]+)"', text)) | {"--version", "--help"}
    variables = set(re.findall(r"^VGPU_SETTING\((\w+)", settings.read_text(), re.M))
    daemon = root / "src/hypervisor/settings/settings.def"
    if daemon.exists():
        variables |= set(re.findall(r'"([A-Z]+(?:_[A-Z]+)+)"', daemon.read_text())) | {"VGPU_HYPERVISOR_CONFIG"}
    return verbs, flags, variables


def word_faults(name, page, words):
    verbs, flags, variables = words
    fence = None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if FENCE.match(line):
            fence = line.strip("`~ \n") or "code" if fence is None else None
        # Transcripts: what a program printed is no command.
        typed = fence != "text" or line.startswith("$ ")
        for verb, arguments in COMMAND.findall(line) if typed else ():
            written_as_command = re.search(rf"(^|`|\$ |; |\| )vgpu {verb}", line.strip())
            if written_as_command and verb not in verbs:
                yield f"{name}:{number}: vgpu has no command {verb}"
            elif verb in verbs:
                for flag in set(FLAG.findall(arguments.split(" -- ")[0])) - flags:
                    yield f"{name}:{number}: vgpu {verb} has no {flag}"
        if name.startswith("tests/"):
            continue  # tests have variables of their own
        for variable in VARIABLE.findall(line):
            stem = re.sub(r"_<?[0-9i]>?$", "", variable)
            if not stem.startswith("VGPU_SIM_") and stem not in variables | BUILD_VARIABLES:
                yield f"{name}:{number}: no variable {variable}"


def faults(root):
    words = known_words(root)
    for page in pages(root):
        name = page.relative_to(root).as_posix()
        if words is not None:
            yield from word_faults(name, page, words)
        for number, line in text_lines(page):
            for target in LINK.findall(line):
                if re.match(r"^[a-z]+:", target):
                    continue
                file, _, fragment = target.partition("#")
                destination = (page.parent / file).resolve() if file else page
                if not destination.exists():
                    yield f"{name}:{number}: no file {target}"
                elif fragment and destination.suffix == ".md" and fragment not in anchors(destination):
                    yield f"{name}:{number}: no heading {target}"
            for path in CODE.findall(line):
                if not TOP.match(path):
                    continue
                found = (list(root.glob(path)) if "*" in path else
                         [p for p in (root / path, page.parent / path) if p.exists()])
                if not found:
                    yield f"{name}:{number}: no path {path}"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    found = list(faults(root))
    print("\n".join(found) if found else "every link and path leads somewhere")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
