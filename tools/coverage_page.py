#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/coverage.md from the tables in src/api: which entries of the driver and of NVML are replaced, which pass, and
why. Families, reasons and their words are read from the tables too, so nothing here can disagree with them.

coverage_page.py [ROOT]            prints the page
coverage_page.py --check [ROOT]    says whether the committed page is that; fails if not"""
import pathlib
import re
import sys
import textwrap

TABLES = "src/api/include/vgpu/api/"
HOOK = re.compile(r"^VGPU_HOOK\(\s*(\w+),\s*(\w+),\s*(\d+)", re.M)
CALL = re.compile(r"^VGPU_CALL\(\s*(\w+),\s*(\w+)", re.M)
UNTYPED = re.compile(r"^VGPU_UNTYPED\(\s*(\w+),\s*\w+,\s*(\w+)", re.M)
NVML_HOOK = re.compile(r"^VGPU_NVML_HOOK\(\s*(\w+),\s*(\w+)", re.M)
NVML_PASS = re.compile(r"^VGPU_NVML_PASSTHROUGH\(\s*(\w+),\s*(\w+)", re.M)
FORM = re.compile(r"((?:_v\d+)?(?:_pt[sd][sz])?)$")
# "//   word   text", a line of the list at a table's head, and "// family: text", above a family's rows.
LISTED = re.compile(r"^//   (\w+) +(\S.*)$", re.M)
ABOVE = re.compile(r"^// (\w+): (.*(?:\n// .*)*)", re.M)

INTRODUCTION = """# Coverage

Written by `tools/coverage_page.py` from the tables in `src/api`; a test holds this page to them, and another fails when a
driver exports a name that no table has.

Driver 580.159.04 (CUDA 13.0) exports {driver} names. {driver_hooked} of them are replaced, in every form that the driver has of
them: versions (`_v2`), per-thread streams (`_ptsz`), legacy 32-bit ones. The other {driver_passed} aren't touched: a program calls
the driver directly. NVML exports {nvml} names, of which {nvml_hooked} are replaced. A name that a newer driver adds passes too.

## How memory is charged

| what | charged | how much | given back |
|---|---|---|---|
| plain and pitched memory | before the call | whole 2 MiB; up to 1 MiB shares blocks of 2 MiB | at the free |
| managed memory | before the call | in full, because any touch may bring it to the GPU | at the free |
| arrays, mipmapped arrays | before the call | what the driver says that it needs | at the destroy |
| pools (default and explicit) | before the call | what the pool can grow by at worst, settled by what it has reserved | when the pool shrinks |
| physical memory (VMM), multicast | before the call | in full, on the GPU of its location; host memory not | with the last handle, mapping and binding |
| graph memory, added or captured | before upload and launch | what the nodes can need at worst, settled by what is reserved | at the trim |
| contexts (primary, created, green) | before the call | an estimate, then by measurement | at the last release |
| modules and libraries | before load, look-up or launch | an estimate from the image, then by measurement | at the unload |
| local memory of kernels | before a function's first launch | per thread, times the threads that the GPU can hold | with the context |
| streams | before the call | one page of 2 MiB, then by measurement | with the context |
| stack, heap and printf limits | before the limit is set | per thread, times the threads; heap and buffer in full | when lowered, or with the context |
| memory shared inside the tenant | once | stays charged until the last holder lets go or dies | with the last holder |
| memory imported from outside | at the import | in full | at the close |

What doesn't fit is refused by the call that would take it, before the driver is asked, with CUDA_ERROR_OUT_OF_MEMORY. Host memory
is never charged.
"""


def read(root, name):
    return (root / TABLES / name).read_text()


def head(text):
    """The comment that a table begins with."""
    return "\n".join(re.findall(r"^//.*$", text.split("\n\n", 1)[0], re.M))


def sentence(text):
    text = " ".join(line.lstrip("/ ") for line in text.splitlines())
    return text[0].upper() + text[1:] + "."


def grouped(rows):
    """(name, word, ...) rows by their word, in the order of the table."""
    groups = {}
    for row in rows:
        groups.setdefault(row[1], []).append(row)
    return groups


def entries(names):
    """Forms of one entry together: `cuMemAlloc` `_v2`."""
    forms = {}
    for name in names:
        form = FORM.search(name)[1]
        forms.setdefault(name[:len(name) - len(form)], []).append(form)
    words = []
    for base, endings in forms.items():
        first, *rest = sorted(endings, key=lambda ending: (len(ending) > 0, ending))
        words.append(f"`{base}{first}`" + "".join(f" `{ending}`" for ending in rest))
    return "\n".join(textwrap.wrap(" · ".join(words), 130, break_long_words=False, break_on_hyphens=False))


def version(number):
    return f"{int(number) // 1000}.{int(number) % 1000 // 10}"


def hooked_table(rows):
    lines = ["| entry | further forms | since CUDA |", "|---|---|---|"]
    bases = {}
    for name, _, since in rows:
        bases.setdefault(FORM.sub("", name), []).append((name, since))
    for base, forms in bases.items():
        first = forms[0]
        further = " ".join(f"`{name[len(base):]}` ({version(since)})" for name, since in forms[1:])
        lines.append(f"| `{first[0]}` | {further} | {version(first[1])} |")
    return "\n".join(lines)


def passed_sections(rows, words):
    parts = []
    for reason, members in sorted(grouped(rows).items()):
        parts.append(f"**{reason.replace('_', ' ')}** ({len(members)}): {words[reason]}.\n\n"
                     f"{entries([row[0] for row in members])}\n")
    return "\n".join(parts)


def page(root):
    hooks, calls, untyped = (read(root, f"driver_{name}.def") for name in ("hooks", "calls", "untyped"))
    nvml_hooks, nvml_passed = read(root, "nvml_hooks.def"), read(root, "nvml_passthrough.def")
    hooked = HOOK.findall(hooks)
    passed = CALL.findall(calls) + UNTYPED.findall(untyped)
    families = dict(ABOVE.findall(hooks.split("\n\n", 1)[1]))
    reasons = dict(LISTED.findall(head(untyped))) | dict(LISTED.findall(head(calls)))
    nvml_rows, nvml_pass_rows = NVML_HOOK.findall(nvml_hooks), NVML_PASS.findall(nvml_passed)
    nvml_families, nvml_reasons = dict(LISTED.findall(head(nvml_hooks))), dict(LISTED.findall(head(nvml_passed)))

    out = [INTRODUCTION.format(driver=len(hooked) + len(passed), driver_hooked=len(hooked), driver_passed=len(passed),
                               nvml=len(nvml_rows) + len(nvml_pass_rows), nvml_hooked=len(nvml_rows))]
    out.append("## The driver: replaced\n\n`dlsym`, `dlvsym` and `dlopen` are replaced as well, because they lead to the rest.\n")
    for family, rows in grouped(hooked).items():
        out.append(f"### {family}\n\n{sentence(families[family])}\n\n{hooked_table(rows)}\n")
    out.append("## NVML: replaced\n")
    for family, rows in grouped(nvml_rows).items():
        out.append(f"### {family} (NVML)\n\n{sentence(nvml_families[family])}\n\n{entries([row[0] for row in rows])}\n")
    out.append(f"## The driver: not touched\n\n{passed_sections(passed, reasons)}")
    out.append(f"## NVML: not touched\n\n{passed_sections(nvml_pass_rows, nvml_reasons)}")
    return "\n".join(out)


def main():
    arguments = sys.argv[1:]
    check = arguments[:1] == ["--check"]
    rest = arguments[1:] if check else arguments
    root = pathlib.Path(rest[0] if rest else pathlib.Path(__file__).parent.parent).resolve()
    wanted = page(root)
    if not check:
        sys.stdout.write(wanted)
        return 0
    committed = root / "docs/coverage.md"
    if committed.is_file() and committed.read_text() == wanted:
        return 0
    print(f"{committed} is not what the tables say; write it anew:\n  tools/coverage_page.py > docs/coverage.md")
    return 1


if __name__ == "__main__":
    sys.exit(main())
