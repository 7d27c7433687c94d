#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the conformance program twice under the limiter, without and with a compute limit: every launch, graph, fill and copy of
the second run passes the gate, is measured and marked now and then, and no answer of the driver may be another for that."""
import argparse
import difflib
import os
import pathlib
import shutil
import subprocess
import sys


def answers(options, name, more):
    state = options.state / name
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    environment = {"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": str(options.libraries), "LD_PRELOAD": str(options.limiter), "VGPU_SIM_DEVICES": "h200",
                   "VGPU_SIM_STATE": str(state / "gpus"), "VGPU_STATE_DIR": str(state / "tenants"), "VGPU_MEMORY_LIMIT": "140GiB", **more}
    run = subprocess.run([options.program], env=environment, capture_output=True, text=True, timeout=200)
    if run.returncode != 0 or run.stderr:
        sys.exit(f"{name}: status {run.returncode}\n{run.stderr}")
    gated = os.path.exists(state / "tenants" / "node.seats")
    shutil.rmtree(state, ignore_errors=True)
    return run.stdout.splitlines(), gated


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("program", "limiter", "libraries", "state"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    options = parser.parse_args()
    free, _ = answers(options, "free", {})
    gated, has_seats = answers(options, "gated", {"VGPU_COMPUTE_LIMIT": "60"})
    if not has_seats or len(gated) < 1000:
        sys.exit("nothing passed the gate")
    difference = list(difflib.unified_diff(free, gated, "without a compute limit", "with one", n=0, lineterm=""))
    print("\n".join(difference) or f"{len(gated)} answers are the same")
    return 1 if difference else 0


if __name__ == "__main__":
    sys.exit(main())
