#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command and stops it for part of every 100 ms, by SIGSTOP and SIGCONT: the crudest limiter that there is. Work
that is queued on the GPU goes on while the process is stopped, so it limits only programs that wait for their work.

  stop_and_go.py [--percent N] -- COMMAND [ARGUMENT...]     ends with the command's status
"""
import argparse
import os
import signal
import subprocess
import sys
import time

CYCLE_S = 0.1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--percent", type=int, default=100, help="of the time in which the command may run (100)")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    child = subprocess.Popen(arguments.command, preexec_fn=os.setpgrp)  # a group of its own, so that all of it stops and this doesn't
    run_s = CYCLE_S * arguments.percent / 100
    while child.poll() is None:
        time.sleep(run_s)
        if arguments.percent < 100 and child.poll() is None:
            os.killpg(child.pid, signal.SIGSTOP)
            time.sleep(CYCLE_S - run_s)
            os.killpg(child.pid, signal.SIGCONT)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


if __name__ == "__main__":
    sys.exit(main())
