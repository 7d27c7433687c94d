#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Containers beside root's daemon: each is a tenant of its own, and can be whoever it likes inside without being that user outside.
Containers here are a PID and a mount namespace, as much as the daemon goes by; and those of a container runtime (runc), where there
is one (with the simulated GPU only: it would have to be told of the real one's devices). Needs root; skips without.

  containers_test.py [--gpu] PROGRAMS [TEST...]   as several_users_test.py
"""
import base64
import ctypes
import datetime
import hashlib
import hmac
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest

import several_users_test as several
from several_users_test import ALICE, PATIENCE_S, Users, wait_until

SECRET = b"0123456789abcdef0123456789abcdef"
NEW_MOUNTS, NEW_PIDS = 0x20000, 0x20000000

# Joins as the limiter does, tries what it must not be able to do with what it is given, and says what came of it.
INTRUDER = r"""
import array, json, os, socket, stat, sys

def ask(method, path, body=None, token=""):
    one = socket.socket(socket.AF_UNIX)
    one.connect(sys.argv[1])
    text = json.dumps(body) if body is not None else ""
    one.sendall((f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n{token}"
                 f"Content-Length: {len(text)}\r\n\r\n{text}").encode())
    data, files = b"", []
    while True:
        part, extra, _, _ = one.recvmsg(65536, socket.CMSG_SPACE(64))
        for _, _, numbers in extra:
            files += array.array("i", numbers)
        if not part:
            break
        data += part
    head, _, rest = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(rest) if rest.startswith(b"{") or rest.startswith(b"[") else None, files

def names(fd):
    return sorted(os.listdir(f"/proc/self/fd/{fd}"))

def tried(action):
    try:
        action()
        return "done"
    except OSError as error:
        return error.strerror

said = {}
said["read"] = ask("GET", "/api/v2/tenants")[0]
said["made"] = ask("POST", "/api/v2/tenants", {"name": "mine", "memory": "4GiB"})[0]
said["changed"] = ask("PATCH", "/api/v2/tenants/honest", {"compute": "1"})[0]
_, said["joined"], files = ask("POST", "/api/v2/join", {})
if files:
    state, quotas = files
    same = lambda a, b: (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
    said["up"] = [same(os.stat("../" * 8 or ".", dir_fd=fd), os.fstat(fd)) for fd in files]
    said["in_state"], said["in_quotas"] = names(state), names(quotas)
    page = next(name for name in names(quotas) if name.endswith(".quota"))
    said["page"] = tried(lambda: os.open(page, os.O_RDWR, dir_fd=quotas))
    said["page_again"] = tried(lambda: os.open(f"/proc/self/fd/{os.open(page, os.O_RDONLY, dir_fd=quotas)}", os.O_RDWR))
    said["page_gone"] = tried(lambda: os.unlink(page, dir_fd=quotas))
    # Another segment in place of its own, which says that it may have more.
    segment = said["joined"]["tenant"] + ".tenant"
    with open(os.open(segment, os.O_RDONLY, dir_fd=state), "rb") as file:
        forged = file.read().replace((2 << 30).to_bytes(8, "little"), (64 << 30).to_bytes(8, "little"))
    with open(os.open("forged", os.O_RDWR | os.O_CREAT, dir_fd=state), "wb") as file:
        file.write(forged)
    said["own"] = tried(lambda: os.close(os.open(segment, os.O_RDWR, dir_fd=state)))
    said["forged"] = tried(lambda: os.rename("forged", segment, src_dir_fd=state, dst_dir_fd=state))
    os.mkfifo("fifo.tenant", dir_fd=state)
    os.symlink("/etc/shadow", "link.tenant", dir_fd=state)
print(json.dumps(said))
"""

# Is told where it belongs, and isn't there for as long as it lives.
LATECOMER = r"""
import socket, sys, time
while True:
    one = socket.socket(socket.AF_UNIX)
    one.connect(sys.argv[1])
    one.sendall(b"POST /api/v2/join HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
    print(one.recv(12).decode(), flush=True)
    time.sleep(1)
"""


def run_contained(uid, hidden, command):
    """In namespaces of its own, where `hidden` is empty, as that user. Ends as the command does; 77: it can't be done here."""
    libc = ctypes.CDLL(None, use_errno=True)
    private = 1 << 18 | 1 << 14
    if libc.unshare(NEW_MOUNTS | NEW_PIDS) != 0 or libc.mount(None, b"/", None, private, None) != 0 \
            or libc.mount(b"none", hidden.encode(), b"tmpfs", 0, b"mode=755") != 0:
        sys.exit(77)
    child = os.fork()
    if child != 0:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    # The driver of a real GPU looks itself up in /proc. Where that is covered in part, nobody may mount another.
    libc.mount(b"proc", b"/proc", b"proc", 0, None)
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    libc.prctl(1, 9)  # PR_SET_PDEATHSIG: it goes with the process that the test knows
    os.execv(command[0], command)


# What Docker and Kubernetes leave root in a container.
CAPABILITIES = ["CAP_" + name for name in ("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP",
                                           "SETUID", "SYS_CHROOT")]
NOT_SHARED = {"proc", "sys", "dev", "run"}


def run_by_runtime(state, name, uid, hidden, command):
    """As a container of runc's with that name, on the machine's own files but for what is empty."""
    bundle = os.path.join(state, "bundle-" + name)
    os.makedirs(os.path.join(bundle, "rootfs"))
    subprocess.run(["runc", "spec", "--bundle", bundle], check=True)
    path = os.path.join(bundle, "config.json")
    with open(path) as file:
        config = json.load(file)
    shared = [entry.path for entry in os.scandir("/") if entry.is_dir() and entry.name not in NOT_SHARED]
    config["root"] = {"path": "rootfs"}
    config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] != "/sys/fs/cgroup"]
    config["mounts"] += [{"destination": entry, "type": "bind", "source": entry, "options": ["rbind"]} for entry in shared]
    config["mounts"].append({"destination": hidden, "type": "tmpfs", "source": "none", "options": ["mode=755"]})
    config["process"].update(terminal=False, args=command, cwd="/", user={"uid": uid, "gid": uid}, env=[f"{key}={value}" for key, value in os.environ.items()],
                             capabilities={kind: CAPABILITIES for kind in ("bounding", "effective", "permitted")})
    with open(path, "w") as file:
        json.dump(config, file)
    os.execvp("runc", ["runc", "--root", state, "run", "--bundle", bundle, name])


class InContainers(Users):
    RULES = several.RULE_OF_ALICE + """
[[rule]]
name = "of pods"
user = 0
memory = "2GiB"
compute = 10
"""

    def setUp(self):
        super().setUp()
        probe = subprocess.run(self.contained(0, ["/bin/true"]), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if probe.returncode != 0:
            self.skipTest("no containers can be made here: " + probe.stdout.strip())
        with open(self.path("rules.toml"), "w") as file:
            file.write(self.RULES)
        with open(self.path("secret"), "wb") as file:
            file.write(SECRET)
        os.chmod(self.path("secret"), 0o600)
        # With the rights that the system's unit leaves it.
        confined = ["setpriv", "--bounding-set", "-all,+sys_ptrace,+kill,+dac_read_search,+dac_override,+chown,+sys_admin"]
        if shutil.which(confined[0]) and subprocess.run([*confined, "/bin/true"], stderr=subprocess.DEVNULL).returncode == 0:
            self.daemon_prefix = confined
        self.daemon_flags = ["--config", self.path("rules.toml"), "--api-token-key", self.path("secret")]

    def contained(self, uid, command):
        return [sys.executable, __file__, "contained", str(uid), self.path("users"), *command]

    def start(self, started):
        return subprocess.Popen(**started)

    def intruder(self, uid):
        return subprocess.run(self.contained(uid, [sys.executable, "-c", INTRUDER, self.socket]), stdout=subprocess.PIPE, text=True, timeout=PATIENCE_S)

    def inside(self, uid, command, **variables):
        """A program with the limiter and nothing else, in a container."""
        started = self.preloaded(uid, command, XDG_RUNTIME_DIR="/nowhere", **variables)
        preload = {name: started["env"].pop(name) for name in ("LD_PRELOAD", "LD_LIBRARY_PATH") if name in started["env"]}
        with_limiter = ["/usr/bin/env", *[f"{name}={value}" for name, value in preload.items()], *started["args"]]
        started.update(args=self.contained(uid, with_limiter), user=None, group=None, extra_groups=None)
        return started

    def seen_inside_mib(self, uid, **variables):
        done = subprocess.run(**self.inside(uid, self.smi(*several.MEMORY_SEEN), **variables), timeout=PATIENCE_S)
        self.assertEqual(done.returncode, 0, done.stdout)
        return int(done.stdout)

    def start_inside(self, uid, name, **variables):
        self.jobs.append(self.start(self.inside(uid, self.work("meeting", name), **variables)))

    def looks(self):
        """One after another, until the daemon's own clock has gone on by four times what it leaves between two looks at anything."""
        began = datetime.datetime.fromisoformat(self.node()["time"])
        node = None
        while node is None or datetime.datetime.fromisoformat(node["time"]) < began + datetime.timedelta(seconds=1):
            seen = self.node()["sequence"]
            wait_until("a look", lambda: self.node()["sequence"] > seen)
            node = self.node()
            yield node

    def tenants(self):
        return {tenant["name"]: tenant for tenant in self.ask("GET", "/api/v2/tenants")[1]}

    def each_is_a_tenant_of_its_own_and_the_daemon_gone_stays_one(self):
        self.start_daemon()
        self.assertEqual(self.seen_mib(ALICE), 4096)
        smi = " ".join(self.smi(*several.MEMORY_SEEN))
        twice = self.inside(ALICE, ["workload"])
        twice["args"][-1:] = ["/bin/sh", "-c", f"{smi}; {smi}"]
        done = subprocess.run(**twice, timeout=PATIENCE_S)
        self.assertEqual(done.stdout.split(), ["4096", "4096"], "one container")
        self.start_inside(ALICE, "one")
        self.start_inside(ALICE, "two")
        of_alice = lambda: [name for name, tenant in self.tenants().items() if name.startswith("rule-of-alice-ns") and tenant["process_count"] == 1]
        wait_until("a tenant for each", lambda: len(of_alice()) == 2)
        for name in of_alice():
            quota = self.tenants()[name]["gpus"][0]["quota"]
            self.assertEqual((quota["memory_limit_bytes"], quota["share_percent"]), (4 << 30, 30))
        cells = os.path.join(self.path("root"), "vgpu/cells")
        # The one before may have had another number, and goes a little later.
        wait_until("a directory for each", lambda: len([name for name in os.listdir(cells) if name.endswith(f"@{ALICE}")]) == 2)
        # The next daemon finds them where they are; with their last process they are gone, and their directories after them.
        before = of_alice()
        self.daemons[0].kill()
        self.daemons[0].wait()
        self.start_daemon()
        wait_until("the same tenants", lambda: of_alice() == before)
        for job in self.jobs:
            job.kill()
        wait_until("the end of both", lambda: not of_alice())
        wait_until("no directory", lambda: not os.listdir(cells))

    def root_in_a_container_is_nobody_outside_and_finds_no_way_out(self):
        self.start_daemon()
        self.start_job(several.BOB, "honest", "--compute", "50")
        wait_until("an honest tenant", lambda: "honest" in self.tenants())
        self.start_inside(0, "other")
        wait_until("another container", lambda: any(name.startswith("rule-of-pods-ns") for name in self.tenants()))
        done = self.intruder(0)
        self.assertEqual(done.returncode, 0, done.stdout)
        said = json.loads(done.stdout)
        self.assertEqual((said["read"], said["made"], said["changed"]), (401, 401, 401))
        self.assertEqual(said["joined"]["outcome"], "joined")
        own = said["joined"]["tenant"]
        self.assertTrue(own.startswith("rule-of-pods-ns"), own)
        self.assertEqual(said["up"], [True, True], "there is nothing above what it is given")
        self.assertEqual([name for name in said["in_state"] if name.endswith(".tenant")], [own + ".tenant"], "another container's isn't in reach")
        self.assertEqual(len([name for name in said["in_quotas"] if name.endswith(".quota")]), 1)
        self.assertEqual((said["page"], said["page_again"], said["page_gone"]), ("Read-only file system",) * 3)
        self.assertEqual((said["own"], said["forged"]), ("done", "done"))
        for _ in self.looks():
            for name, tenant in self.tenants().items():
                if name.startswith("rule-of-pods"):
                    self.assertEqual(tenant["gpus"][0]["quota"]["memory_limit_bytes"], 2 << 30, name)
        # Whoever gets to write a page gains nothing by it, with the daemon that made it and with the next one.
        self.write_a_page_of_pods()
        self.daemons[0].kill()
        self.daemons[0].wait()
        self.start_daemon()
        for _ in self.looks():
            pass
        self.write_a_page_of_pods()
        self.assertEqual(self.tenants()["honest"]["gpus"][0]["quota"]["share_percent"], 50)

    def write_a_page_of_pods(self):
        other = next(tenant for name, tenant in self.tenants().items() if name.startswith("rule-of-pods") and tenant["process_count"])
        quotas = os.path.join(self.path("root"), "vgpu/cells", other["id"] + ".quotas")
        page = next(os.path.join(quotas, name) for name in os.listdir(quotas) if name.endswith(".quota"))
        with open(page, "r+b") as file:
            before = file.read()
            file.seek(0)
            file.write(before.replace((2 << 30).to_bytes(8, "little"), (64 << 30).to_bytes(8, "little")))
        def is_restored():
            with open(page, "rb") as file:
                return file.read() == before
        wait_until("what the daemon said", is_restored)
        wait_until("the event", lambda: "quota_restored" in self.log())
        self.assertEqual(self.tenants()[other["name"]]["gpus"][0]["quota"]["memory_limit_bytes"], 2 << 30)


class Containers(InContainers):
    def test_each_is_a_tenant_of_its_own_and_the_daemon_gone_stays_one(self):
        self.each_is_a_tenant_of_its_own_and_the_daemon_gone_stays_one()

    def test_root_in_a_container_is_nobody_outside_and_finds_no_way_out(self):
        self.root_in_a_container_is_nobody_outside_and_finds_no_way_out()

    def root_may_have_one_container(self):
        with open(self.path("rules.toml"), "w") as file:
            file.write(self.RULES.replace("compute = 10", "compute = 60"))
        self.start_daemon()

    def end_inside(self, job):
        """Kills what runs in the container, and is back when it is gone."""
        with open(f"/proc/{job.pid}/task/{job.pid}/children") as children:
            for pid in children.read().split():
                os.kill(int(pid), signal.SIGKILL)
        job.wait()

    def there_is_no_room_for_another(self):
        refused = subprocess.run(**self.inside(0, self.smi()), timeout=PATIENCE_S)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("60 % of GPU 0", refused.stdout)

    def test_one_finds_the_room_of_another_that_has_ended(self):
        self.root_may_have_one_container()
        # The second finds the room of one that was killed and of one that was too short to be seen.
        for name in ("first", "second"):
            self.start_inside(0, name)
            wait_until("a container that works", lambda: os.path.exists(self.path(f"meeting/{name}.0.ready")))
            # Its PID namespace stays, else the next might be called by the same number.
            kept = os.open(f"/proc/{self.jobs[-1].pid}/ns/pid_for_children", os.O_RDONLY)
            self.addCleanup(os.close, kept)
            self.there_is_no_room_for_another()
            self.end_inside(self.jobs[-1])
            self.assertEqual(self.seen_inside_mib(0), 2048)

    def test_one_that_is_on_its_way_keeps_its_room(self):
        self.root_may_have_one_container()
        self.jobs.append(subprocess.Popen(self.contained(0, [sys.executable, "-c", LATECOMER, self.socket]), stdout=subprocess.PIPE, text=True))
        self.assertEqual(self.jobs[-1].stdout.readline().strip(), "HTTP/1.1 200")
        self.there_is_no_room_for_another()
        self.end_inside(self.jobs[-1])
        self.assertEqual(self.seen_inside_mib(0), 2048)

    def test_by_leave_of_the_settings_it_is_a_user_but_never_root(self):
        self.daemon_flags += ["--authority-containers", "users"]
        self.start_daemon()
        self.start_job(several.BOB, "honest", "--compute", "50")
        wait_until("an honest tenant", lambda: "honest" in self.tenants())
        said = json.loads(self.intruder(0).stdout)
        self.assertEqual((said["read"], said["changed"]), (200, 403))

    def test_a_pod_is_in_the_tenant_that_was_made_for_it_under_the_name_that_it_was_given(self):
        self.start_daemon()
        pod = {"kubernetes.io": {"namespace": "ml", "pod": {"name": "train-0"}}, "aud": "vgpu", "exp": int(time.time()) + 600, "sub": "pod"}
        part = lambda text: base64.urlsafe_b64encode(text).rstrip(b"=")
        text = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(pod).encode())
        with open(self.path("token"), "wb") as file:
            file.write(text + b"." + part(hmac.new(SECRET, text, hashlib.sha256).digest()))
        inside = {"VGPU_POD_TOKEN": self.path("token"), "POD_NAME": "train-0", "POD_NAMESPACE": "ml", "CONTAINER_NAME": "main"}
        # A user who calls a tenant of theirs like that says nothing about the pod.
        self.start_job(several.BOB, "ml.train-0")
        wait_until("the namesake", lambda: "ml.train-0" in self.tenants())
        self.assertEqual(self.seen_inside_mib(ALICE, **inside), 4096, "by the rule")
        self.jobs[-1].kill()
        wait_until("its end", lambda: "ml.train-0" not in self.tenants())
        self.assertEqual(self.ask("POST", "/api/v2/tenants", {"name": "ml.train-0", "memory": "3GiB", "compute": "20"})[0], 201)
        for _ in range(2):  # the second at once after the first, which moved the tenant
            self.assertEqual(self.seen_inside_mib(ALICE, **inside), 3072)
        self.start_inside(ALICE, "pod", **inside)
        wait_until("the pod's process", lambda: self.tenants().get("ml.train-0", {}).get("process_count") == 1)
        self.assertEqual(self.tenants()["ml.train-0"]["owner_uid"], 0, "who made it may change it")
        # The segment is the pod's to write; what the tenant is called isn't.
        cell = os.path.join(self.path("root"), "vgpu/cells", self.tenants()["ml.train-0"]["id"])
        segment = next(os.path.join(cell, name) for name in os.listdir(cell) if name.endswith(".tenant"))
        with open(segment, "r+b") as file:
            at = file.read(4096).find(b"ml.train-0\0")
            self.assertGreater(at, 0)
            file.seek(at)
            file.write(b"ml.other-0")
        for _ in self.looks():
            pass
        self.assertIn("ml.train-0", self.tenants())
        self.assertNotIn("ml.other-0", self.tenants())


class ContainersOfARuntime(InContainers):
    def setUp(self):
        self.named = 0
        if several.ON_REAL_GPU or not shutil.which("runc"):
            self.skipTest("there is no runc, or it would have to be told of a real GPU")
        super().setUp()

    def contained(self, uid, command):
        self.named += 1
        return [sys.executable, __file__, "by-runtime", self.path("runc"), f"vgpu-test-{os.getpid()}-{self.named}", str(uid), self.path("users"), *command]

    def start(self, started):
        class Started(subprocess.Popen):
            def kill(self):  # of runc alone the container would be left
                state, name = started["args"][3:5]
                if subprocess.run(["runc", "--root", state, "kill", name, "KILL"], stderr=subprocess.DEVNULL).returncode != 0:
                    super().kill()
        return Started(**started)

    def test_each_is_a_tenant_of_its_own_and_the_daemon_gone_stays_one(self):
        self.each_is_a_tenant_of_its_own_and_the_daemon_gone_stays_one()

    def test_root_in_a_container_is_nobody_outside_and_finds_no_way_out(self):
        self.root_in_a_container_is_nobody_outside_and_finds_no_way_out()


if __name__ == "__main__":
    if sys.argv[1:2] == ["contained"]:
        run_contained(int(sys.argv[2]), sys.argv[3], sys.argv[4:])
    if sys.argv[1:2] == ["by-runtime"]:
        run_by_runtime(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5], sys.argv[6:])
    ours = several.begin(sys.argv, __doc__)
    unittest.main(argv=ours, verbosity=2)
