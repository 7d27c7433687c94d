#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the Markdown pages to the tree: relative links lead to files (and to headings that are there), and paths of the
repository that a page names in `code` exist.

check_docs.py [ROOT]; prints one line for each that doesn't, and fails if there is any."""
import pathlib
import re
import sys

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\s]+)`")
FENCE = re.compile(r"^\s*(```|~~~)")
# What a path of the repository begins with. Others (/dev/shm, lib/vgpu) are places on the user's machine.
TOP = re.compile(r"^(src|sim|tests|docs|scripts|tools|fuzz|bench|cmake|packaging|\.ci)/[\w./*-]+$")
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


def faults(root):
    for page in pages(root):
        name = page.relative_to(root).as_posix()
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
