# SPDX-License-Identifier: Apache-2.0
"""What the scripts share: programs of the build that are started and ended, requests by socket or TCP, tokens."""
import base64
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

BIN = pathlib.Path(os.environ["VGPU_BIN"])
SOURCE = pathlib.Path(os.environ["VGPU_SOURCE"])
SECRET = b"0123456789abcdef0123456789abcdef"
LONG_S = 60


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def needed(program, package):
    path = shutil.which(program)
    if path is None:
        skip(f"no {program} here (Debian: {package})")
    return path


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=LONG_S)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(LONG_S)
        self.sock.connect(self.path)


def token(**claims):
    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=")
    claims = {"aud": "vgpu", "exp": int(time.time()) + 600, "sub": "test", **claims}
    text = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    return (text + b"." + part(hmac.new(SECRET, text, hashlib.sha256).digest())).decode()


def pod_token(namespace, name):
    return token(**{"kubernetes.io": {"namespace": namespace, "pod": {"name": name}}})


class Folder:
    """A fresh folder, and the environment of programs that keep to it; what was started in it ends with it."""

    def __enter__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="vgpu-http-"))
        self.started = []
        self.environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.path), "VGPU_STATE_DIR": str(self.path / "state"),
                            "VGPU_SIM_STATE": str(self.path / "sim"), "VGPU_SIMULATED": "1", "VGPU_SIM_DEVICES": "a10,h200"}
        return self

    def __exit__(self, *_):
        for process in reversed(self.started):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        shutil.rmtree(self.path, ignore_errors=True)

    def start(self, *words, **options):
        process = subprocess.Popen([str(word) for word in words], env=self.environment, **options)
        self.started.append(process)
        return process

    def work(self, name):
        """The words of a program that keeps the GPU busy for minutes with kernels of a millisecond."""
        meeting = self.path / f"meeting-{name}"
        meeting.mkdir()
        (meeting / "go").write_text(str(time.monotonic_ns()))
        return [BIN / "workload", "--mode", "queued", "--steps", "1000000", "--kernel-us", "1000", "--window-ms", "50", "--seconds", "600",
                "--rendezvous", meeting, "--name", name]

    def tenant(self, name, share):
        self.start(BIN / "vgpu", "run", "-q", "--gpu", "0", "--name", name, "--memory", "4GiB", "--compute", share, "--", *self.work(name),
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def fixture(self, tenants=2):
        """The moment made by hand: (port, socket, routes)."""
        key = self.path / "key"
        key.write_bytes(SECRET)
        key.chmod(0o600)
        path = self.path / "socket"
        process = self.start(BIN / "http_fixture", path, key, tenants, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        port, routes = None, []
        for line in process.stdout:
            words = line.split()
            if words[0] == "port":
                port = int(words[1])
            elif words[0] == "route":
                routes.append((words[1], words[2]))
            else:
                break
        return port, path, routes

    def daemon(self):
        """The real one on the simulated GPU: its port."""
        process = self.start(BIN / "http_daemon", "127.0.0.1:0", stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if "listening on 127.0.0.1:" in line:
                port = int(line.rsplit(":", 1)[1])
                # What else it says must not fill the pipe.
                threading.Thread(target=lambda: process.stderr.read(), daemon=True).start()
                return port
        raise AssertionError("the daemon ended")


def ask(connection, method, path, body=None, headers=None):
    data = json.dumps(body) if body is not None else None
    connection.request(method, path, body=data, headers=headers or {})
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read().decode()


def wait_for(condition, what):
    end = time.monotonic() + LONG_S
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"never: {what}")
