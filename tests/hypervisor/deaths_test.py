#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 of programs, of the `vgpu run` above them, of both, and of the daemon, again and again under the same tenant's name:
each new tenant is there at once and held to its limit, and in the end nothing is left of any.

  deaths_test.py PROGRAMS   the folder with vgpu, hypervisor and gpu_client; VGPU_ROUNDS: deaths of tenants (12), a tenth of them of daemons
"""
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

PROGRAMS = pathlib.Path(sys.argv[1])
ROUNDS = int(os.environ.get("VGPU_ROUNDS", "12"))
PATIENCE_S = 60
LIMIT_MIB = 2048


class Node:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.state = self.folder / "state"
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": folder, "VGPU_SIMULATED": "1", "VGPU_SIM_DEVICES": "h200:1", "VGPU_SIM_STATE": str(self.folder / "gpus"),
                            "VGPU_STATE_DIR": str(self.state)}
        self.daemon = None

    def start_daemon(self):
        self.daemon = subprocess.Popen([PROGRAMS / "hypervisor", "daemon", "--api-listen-addr", "none"], env=self.environment, stderr=open(self.folder / "log", "ab"),
                                       stdin=subprocess.DEVNULL)
        self.wait_until("a daemon that hosts", lambda: (self.ask("/api/v2/node") or {}).get("hosts_arbiter"))

    def kill_daemon(self):
        self.daemon.kill()
        self.daemon.wait()

    def wait_until(self, what, condition):
        end = time.monotonic() + PATIENCE_S
        while not (value := condition()):
            assert time.monotonic() < end, f"never came: {what}\n{(self.folder / 'log').read_text()[-3000:]}"
            time.sleep(0.01)
        return value

    def ask(self, target):
        connection = http.client.HTTPConnection("x", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(20)
        try:
            connection.sock.connect(str(self.state / "hypervisor.sock"))
            connection.request("GET", target)
            answer = connection.getresponse()
            return json.loads(answer.read()) if answer.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def run(self, *words):
        """A tenant by `vgpu run`, and the pid of its program once that holds its memory."""
        run = subprocess.Popen([PROGRAMS / "vgpu", "run", "-q", "--name", "same", "--memory", f"{LIMIT_MIB}MiB", "--compute", "40", "--", PROGRAMS / "gpu_client", *words],
                               env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return run

    def used_mib(self):
        return self.ask("/api/v2/gpus")[0]["sample"]["used_bytes"] >> 20


def program_of(run):
    try:
        children = pathlib.Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        return int(children[0]) if children else None
    except (OSError, ValueError):
        return None


# A leader that is a zombie may have threads that haven't ended yet; until the last has, the files are open.
def is_dead(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state in "ZX" and len(os.listdir(f"/proc/{pid}/task")) == 1
    except OSError:
        return True


def descriptors(process):
    return len(os.listdir(f"/proc/{process.pid}/fd"))


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def main():
    folder = tempfile.mkdtemp(prefix="vgpu-deaths-")
    node = Node(folder)
    choice = random.Random(1)
    killed_daemons = 0
    runs = []
    try:
        node.start_daemon()
        unused_mib = node.used_mib()
        at_first = descriptors(node.daemon)
        for round_number in range(ROUNDS):
            run = node.run("alloc=1000", "info", "hold")
            runs.append(run)
            words = run.stdout.readline()
            said = [words]
            while words and "MiB free of" not in words:
                words = run.stdout.readline()
                said.append(words)
            assert f"MiB free of {LIMIT_MIB} MiB" in words, f"round {round_number}: {said} {run.poll()}"
            program = node.wait_until("the program", lambda: program_of(run))
            # Under the same name nobody is kept from a GPU by whoever went, nor runs free.
            tenant = node.wait_until("the tenant", lambda: next((t for t in node.ask("/api/v2/tenants") or [] if t["name"] == "same" and t["process_count"] == 1), None))
            gpu = tenant["gpus"][0]
            assert gpu["quota"]["memory_limit_bytes"] == LIMIT_MIB << 20 and gpu["charged_bytes"] >> 20 < LIMIT_MIB, gpu
            victims = choice.choice(("program", "run", "both", "both"))
            daemon_dies = round_number % 10 == 5
            if daemon_dies and choice.random() < 0.5:
                node.kill_daemon()
            if victims != "run":
                kill(program)
            if victims != "program":
                kill(run.pid)
            if victims == "run":
                run.wait()
                assert pathlib.Path(f"/proc/{program}").exists(), "the program goes on without its `vgpu run`"
                kill(program)
            if daemon_dies:
                if node.daemon.poll() is None:
                    node.kill_daemon()
                killed_daemons += 1
                node.start_daemon()
            run.wait(PATIENCE_S)
            run.stdout.close()
            run.stdin.close()
            runs.remove(run)
            node.wait_until("the program's death", lambda: is_dead(program))
        node.wait_until("the end of all tenants", lambda: node.ask("/api/v2/tenants") == [])
        node.wait_until("the memory of the dead", lambda: node.used_mib() == unused_mib)
        node.wait_until("descriptors let go", lambda: descriptors(node.daemon) <= at_first + 8)
        left = [name for name in os.listdir(node.state) if name.endswith(".tenant")]
        assert not left, left
        quotas = os.listdir(node.state / "quotas") if (node.state / "quotas").exists() else []
        assert not quotas, quotas
        # Every seat is free again: another tenant fills its limit, to the last step.
        last = node.run("fill=64", "info")
        text = last.communicate(timeout=PATIENCE_S)[0]
        assert last.returncode == 0, text
        assert "then CUDA_ERROR_OUT_OF_MEMORY" in text, text
        print(f"{ROUNDS} deaths of tenants, {killed_daemons} of daemons: nothing is left; {descriptors(node.daemon)} descriptors, {at_first} at first")
    finally:
        for run in runs:
            program = program_of(run)
            run.kill()
            if program:
                kill(program)
            run.wait()
        if node.daemon and node.daemon.poll() is None:
            node.daemon.kill()
            node.daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
