#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the conformance program on the simulated GPU and compares its answers with a real GPU's.

Keys that begin with "~" are sizes or times of one machine: they may differ by a tenth. Keys in DIFFERENT are
questions to which the simulated GPU deliberately answers otherwise; each has its reason here and in
docs/simulated-gpu.md. Everything else has to be the same to the letter.
"""
import argparse
import os
import shutil
import subprocess
import sys

DIFFERENT = {
    # key prefix: reason
    "lookup.shared_address.": "which exports share one address is an accident of the real driver's build",
    "~cost.": "host times of one machine",
}


def parse(text):
    answers = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key and not key.startswith("#"):
            answers.setdefault(key, []).append(value)
    return answers


def close(expected, got):
    try:
        a, b = float(expected), float(got)
    except ValueError:
        return expected == got
    return abs(a - b) <= max(4.0, 0.1 * abs(a))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True)
    parser.add_argument("--libraries", required=True, help="folder with the simulated libcuda.so.1")
    parser.add_argument("--state", required=True, help="folder for the simulated GPU's state")
    parser.add_argument("--answers", required=True)
    parser.add_argument("--scope", choices=["sections", "full"], default="sections")
    arguments = parser.parse_args()

    shutil.rmtree(arguments.state, ignore_errors=True)
    os.makedirs(arguments.state, mode=0o700)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("CUDA_", "VGPU_", "TENSOR_FUSION_"))}
    environment.update(LD_LIBRARY_PATH=arguments.libraries, VGPU_SIM_STATE=arguments.state, VGPU_SIM_DEVICES="h200:1")
    command = [arguments.program] + (["--section", "full"] if arguments.scope == "full" else [])
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    got = parse(run.stdout)
    expected = {key: values for key, values in parse(open(arguments.answers).read()).items()
                if key.lstrip("~").startswith("full.") == (arguments.scope == "full")}
    wrong = []
    compared = 0
    for key, values in expected.items():
        if any(key.startswith(prefix) for prefix in DIFFERENT):
            continue
        compared += 1
        mine = got.get(key)
        if mine is None:
            wrong.append(f"{key}: a real GPU says {', '.join(values)}; the simulated one was not asked or died before")
        elif (mine != values) and not (key.startswith("~") and len(mine) == len(values) and all(map(close, values, mine))):
            wrong.append(f"{key}: a real GPU says {', '.join(values)}; the simulated one {', '.join(mine)}")
    for key in sorted(set(got) - set(expected)):
        if not any(key.startswith(prefix) for prefix in DIFFERENT):
            wrong.append(f"{key}: the simulated GPU says {', '.join(got[key])}; a real one said nothing")
    for line in wrong:
        print(line)
    if run.stderr:
        print(run.stderr, file=sys.stderr)
    print(f"{compared} answers compared, {len(wrong)} differ")
    return 1 if wrong or compared == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
