#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs and daemons of two versions of the shared formats, both ways: an older or newer minor version works, another major one is said by
whoever meets it, in words, and harms nobody else. The other version is made of this one, by the numbers in the files' headers.

  versions_test.py PROGRAMS   the folder with bin/vgpu, hypervisor, gpu_client and workload, and lib/vgpu beside it
"""
import glob
import http.client
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAMS = pathlib.Path(sys.argv.pop(1)).resolve()
PATIENCE_S = 60
OTHER = "another version of vgpu"


def number(path, major=None, minor=None):
    """Writes these into the header of a segment, of the seats or of a quota page: they begin alike."""
    with open(path, "r+b") as file:
        file.seek(8)
        was = struct.unpack("<II", file.read(8))
        file.seek(8)
        file.write(struct.pack("<II", was[0] if major is None else major, was[1] if minor is None else minor))
    return was


class Versions(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="vgpu-versions-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.state = f"{self.folder}/state"
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": self.folder, "VGPU_SIMULATED": "1", "VGPU_SIM_DEVICES": "h200:1", "VGPU_SIM_STATE": f"{self.folder}/gpus",
                            "VGPU_STATE_DIR": self.state}
        self.daemon, self.runs = None, []
        self.addCleanup(self.end_all)

    def end_all(self):
        for run in self.runs:
            run.stdin.close()
            run.wait(PATIENCE_S)
            run.stdout.close()
        self.kill_daemon()

    def kill_daemon(self):
        if self.daemon:
            self.daemon.kill()
            self.daemon.wait()
            self.daemon = None

    def start_daemon(self):
        with open(f"{self.folder}/log", "ab") as log:
            self.daemon = subprocess.Popen([PROGRAMS / "bin/hypervisor", "daemon", "--api-listen-addr", "none"], env=self.environment, stdin=subprocess.DEVNULL, stderr=log)
        self.wait_until("a daemon", lambda: (self.ask("/api/v2/node") or {"driver": {}})["driver"].get("available"))

    def wait_until(self, what, condition):
        end = time.monotonic() + PATIENCE_S
        while not condition():
            self.assertLess(time.monotonic(), end, f"never came: {what}; {self.ask('/api/v2/node')}")
            time.sleep(0.02)

    def ask(self, target):
        connection = http.client.HTTPConnection("x")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(20)
        try:
            connection.sock.connect(f"{self.state}/hypervisor.sock")
            connection.request("GET", target)
            return json.loads(connection.getresponse().read())
        except OSError:
            return None
        finally:
            connection.close()

    def notes(self):
        return " ".join(self.ask("/api/v2/node")["notes"])

    def processes_of(self, name):
        return sum(tenant["process_count"] for tenant in self.ask("/api/v2/tenants") if tenant["name"] == name)

    def done(self, *command, **variables):
        result = subprocess.run([PROGRAMS / "bin" / command[0], *command[1:]], env={**self.environment, **variables}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S)
        return result.returncode, result.stdout

    def start_tenant(self, name):
        run = subprocess.Popen([PROGRAMS / "bin/vgpu", "run", "-q", "--name", name, "--memory", "2GiB", "--compute", "30", "--", PROGRAMS / "bin/gpu_client", "info", "hold"],
                               env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.runs.append(run)
        self.assertIn("of 2048 MiB", run.stdout.readline())
        return glob.glob(f"{self.state}/{name}-*.tenant")[0]

    def as_member(self, segment):
        return {"LD_PRELOAD": f"{PROGRAMS}/lib/vgpu/libcuda_limiter.so", "LD_LIBRARY_PATH": f"{PROGRAMS}/lib/vgpu/simulated",
                "VGPU_TENANT": os.path.basename(segment).removesuffix(".tenant")}

    def test_a_tenant_of_another_version(self):
        self.start_daemon()
        other = self.start_tenant("other")
        for minor in (0, 99):  # older programs have made it, or newer ones
            was = number(other, minor=minor)
            status, said = self.done("vgpu", "exec", "other", "--", PROGRAMS / "bin/gpu_client", "info")
            self.assertEqual((status, "of 2048 MiB" in said), (0, True), said)
            self.kill_daemon()
            self.start_daemon()
            self.wait_until("the daemon's word on it", lambda: self.processes_of("other") == 1)
            number(other, minor=was[1])
        number(other, major=2)
        self.kill_daemon()
        self.start_daemon()
        self.wait_until("the daemon's word on it", lambda: OTHER in self.notes())
        self.assertIn(OTHER, self.done("vgpu", "ls")[1])
        status, said = self.done("gpu_client", "info", **self.as_member(other))
        self.assertNotEqual(status, 0, "it doesn't run free")
        self.assertIn(OTHER, said)
        # Beside it everybody else goes on, under a daemon of this version.
        self.start_tenant("own")
        self.wait_until("the other tenant", lambda: self.processes_of("own") == 1)

    def test_seats_of_another_version(self):
        seats = f"{self.state}/node.seats"
        self.start_daemon()
        self.start_tenant("first")
        for minor in (0, 99):
            was = number(seats, minor=minor)
            self.kill_daemon()
            self.start_daemon()
            self.wait_until("a daemon that hosts", lambda: self.ask("/api/v2/node")["hosts_arbiter"])
            number(seats, minor=was[1])
        self.kill_daemon()
        number(seats, major=2)
        self.start_daemon()
        self.wait_until("the daemon's word on them", lambda: OTHER in self.notes())
        self.assertFalse(self.ask("/api/v2/node")["hosts_arbiter"])
        status, said = self.done("vgpu", "doctor")
        self.assertEqual(status, 1)
        self.assertIn(OTHER, said)
        # Memory limits don't need them; a program says that its share isn't kept.
        meeting = f"{self.folder}/meeting"
        os.mkdir(meeting)
        pathlib.Path(meeting, "go").write_text(str(time.monotonic_ns()))
        status, said = self.done("vgpu", "run", "-q", "--name", "second", "--memory", "2GiB", "--compute", "20", "--", PROGRAMS / "bin/workload", "--mode", "queued",
                                 "--steps", "10", "--kernel-us", "100", "--seconds", "1", "--rendezvous", meeting, "--name", "second")
        self.assertEqual(status, 0, said)
        self.assertIn("compute shares can't be opened", said)

    def test_a_quota_page_of_another_version(self):
        self.start_daemon()
        segment = self.start_tenant("first")
        self.wait_until("a page", lambda: glob.glob(f"{self.state}/quotas/*.quota"))
        page = glob.glob(f"{self.state}/quotas/*.quota")[0]
        for major, minor in ((1, 99), (2, 0)):  # what can't be read isn't believed: the segment's copy holds
            number(page, major=major, minor=minor)
            status, said = self.done("gpu_client", "info", **self.as_member(segment))
            self.assertEqual((status, "of 2048 MiB" in said), (0, True), said)
        self.kill_daemon()
        self.start_daemon()
        status, said = self.done("vgpu", "set", "first", "--memory", "3GiB")
        self.assertEqual(status, 0, said)
        status, said = self.done("gpu_client", "info", **self.as_member(segment))
        self.assertIn("of 3072 MiB", said, "the next daemon has written it anew")


if __name__ == "__main__":
    unittest.main(verbosity=2)
