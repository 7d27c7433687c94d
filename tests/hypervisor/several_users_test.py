#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One daemon for several users of a machine: shares among them, quotas that they can't write, a user who is hostile, a process
without the limiter, and a daemon that is killed. Needs root, to be several users; skips without.

  several_users_test.py [--gpu] PROGRAMS [TEST...]   the folder with vgpu, hypervisor and workload in bin, and lib/vgpu beside it

On the simulated GPU; with --gpu on the first GPU of this machine, which nothing else may use meanwhile.
"""
import contextlib
import datetime
import fcntl
import functools
import http.client
import json
import mmap
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAMS = ""
ON_REAL_GPU = False
MEMORY_SEEN = ["--query-gpu=memory.total", "--format=csv,noheader,nounits"]
ALICE, BOB, MALLORY = 20001, 20002, 20003
WINDOW_S = 0.05
PATIENCE_S = 60
LONG_S = 300  # for programs that are told when to stop


def wait_until(what, condition, patience=PATIENCE_S):
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("never came: " + what)
        time.sleep(0.02)


def begin(arguments, about):
    """What the tests were called with; gives what is left for unittest."""
    global PROGRAMS, ON_REAL_GPU
    if "--gpu" in arguments:
        arguments.remove("--gpu")
        ON_REAL_GPU = True
    if len(arguments) < 2:
        sys.exit(about)
    PROGRAMS = os.path.abspath(arguments.pop(1))
    name = os.path.basename(arguments[0])
    if os.geteuid() != 0:
        print(f"{name}: skipped: it takes root to be several users")
        sys.exit(77)
    if ON_REAL_GPU and not shutil.which("nvidia-smi"):
        print(f"{name}: skipped: there is no NVIDIA GPU here")
        sys.exit(77)
    kernel()  # before there is a daemon: it is a process without the limiter
    return arguments


@functools.cache
def kernel():
    """Flags of workload for kernels of a millisecond."""
    steps = 1_000_000
    if ON_REAL_GPU:
        told = subprocess.run([os.path.join(PROGRAMS, "bin/workload"), "--mode", "calibrate"], stdout=subprocess.PIPE, check=True, text=True).stdout
        steps = round(1e6 / json.loads(told)["step_ns"])
    return ["--mode", "queued", "--steps", str(steps), "--kernel-us", "1000"]


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=20)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


@contextlib.contextmanager
def acting_as(uid):
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


class Users(unittest.TestCase):
    daemon_prefix, daemon_flags = [], []

    def run(self, result=None):
        self.result = result
        return super().run(result)

    def setUp(self):
        self.addCleanup(os.umask, os.umask(0o022))  # what is made for users here they may read
        self.folder = tempfile.mkdtemp(prefix="vgpu-users-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        os.chmod(self.folder, 0o755)
        # Programs that every user may run, wherever the build is.
        self.programs = os.path.join(self.folder, "programs")
        shutil.copytree(os.path.join(PROGRAMS, "lib"), os.path.join(self.programs, "lib"))
        os.mkdir(os.path.join(self.programs, "bin"))
        for name in ("vgpu", "workload"):
            shutil.copy(os.path.join(PROGRAMS, "bin", name), os.path.join(self.programs, "bin", name))
        for path, mode, owner in [("run", 0o755, 0), ("root", 0o700, 0), ("gpus", 0o777, 0), ("meeting", 0o777, 0), ("users", 0o755, 0)] + [
                (f"users/{uid}", 0o700, uid) for uid in (ALICE, BOB, MALLORY)]:
            os.mkdir(self.path(path))
            os.chmod(self.path(path), mode)
            os.chown(self.path(path), owner, owner)
        self.socket = self.path("run/hypervisor.sock")
        self.environment = {"PATH": os.environ["PATH"] if ON_REAL_GPU else "/usr/bin:/bin", "VGPU_SOCKET": self.socket}
        if ON_REAL_GPU:
            self.environment |= {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        else:
            self.environment |= {"VGPU_SIMULATED": "1", "VGPU_SIM_DEVICES": "h200:1", "VGPU_SIM_STATE": self.path("gpus")}
        self.daemons, self.jobs = [], []
        self.addCleanup(self.end_all)

    def end_all(self):
        has_failed = any(test is self for test, _ in self.result.failures + self.result.errors)
        for process in self.jobs + self.daemons:
            ended = process.poll()
            if ended is None:
                process.kill()
            process.wait()
            if process.stdout:
                if has_failed and not process.stdout.closed:
                    print(f"{' '.join(process.args)}\n  {'ran' if ended is None else f'had ended ({ended})'}, and said: {process.stdout.read()}", file=sys.stderr)
                process.stdout.close()
        for number in range(len(self.daemons) if has_failed else 0):
            print(f"the log of daemon {number}:\n{self.log(number)}", file=sys.stderr)

    def path(self, name):
        return os.path.join(self.folder, name)

    # --- the daemon

    def start_daemon(self):
        number = len(self.daemons)
        with open(self.path(f"daemon{number}.log"), "wb") as log:
            self.daemons.append(subprocess.Popen(
                [*self.daemon_prefix, os.path.join(PROGRAMS, "bin/hypervisor"), "daemon", "--tenants-directories", self.path("users/*/vgpu"), "--api-socket-access", "all",
                 "--api-listen-addr", "none", *self.daemon_flags],
                env={**self.environment, "XDG_RUNTIME_DIR": self.path("root")}, stdout=log, stderr=log))
        wait_until("a daemon that hosts", lambda: "hosting_taken" in self.log(number) and self.node() is not None)

    def log(self, number=-1):
        with open(self.path(f"daemon{number % len(self.daemons)}.log"), errors="replace") as log:
            return log.read()

    def ask(self, method, target, body=None):
        connection = UnixConnection(self.socket)
        try:
            connection.request(method, target, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def node(self):
        try:
            status, node = self.ask("GET", "/api/v2/node")
            return node if status == 200 else None
        except OSError:
            return None

    def tenant(self, name, uid):
        return next((t for t in self.ask("GET", "/api/v2/tenants")[1] if t["name"] == name and t["owner_uid"] == uid), None)

    # --- users

    def as_user(self, uid, command):
        environment = {**self.environment, "XDG_RUNTIME_DIR": self.path(f"users/{uid}")}
        command = [os.path.join(self.programs, "bin", command[0]), *command[1:]]
        return dict(args=command, env=environment, user=uid, group=uid, extra_groups=[], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT, cwd="/", text=True)

    def vgpu(self, uid, *arguments):
        return subprocess.run(**self.as_user(uid, ["vgpu", *arguments]), timeout=PATIENCE_S)

    def unlimited(self, uid, command, **variables):
        """A program that finds the driver as any does."""
        started = self.as_user(uid, command)
        if not ON_REAL_GPU:
            started["env"]["LD_LIBRARY_PATH"] = os.path.join(self.programs, "lib/vgpu/simulated")
        started["env"].update(variables)
        return started

    def preloaded(self, uid, command, **variables):
        return self.unlimited(uid, command, LD_PRELOAD=os.path.join(self.programs, "lib/vgpu/libcuda_limiter.so"), **variables)

    def smi(self, *arguments):
        """nvidia-smi as a command of these users."""
        return [shutil.which("nvidia-smi") if ON_REAL_GPU else os.path.join(self.programs, "lib/vgpu/simulated/nvidia-smi"), *arguments]

    def work(self, meeting, name, seconds=LONG_S):
        return [os.path.join(self.programs, "bin/workload"), *kernel(), "--seconds", str(seconds), "--rendezvous", self.path(meeting), "--name", name]

    def seen_mib(self, uid, **variables):
        """The memory of the GPU as nvidia-smi shows it to that user."""
        command = self.preloaded(uid, self.smi(*MEMORY_SEEN), **variables)
        done = subprocess.run(**command, timeout=PATIENCE_S)
        self.assertEqual(done.returncode, 0, done.stdout)
        return int(done.stdout)

    def start_job(self, uid, name, *flags):
        self.jobs.append(subprocess.Popen(**self.as_user(
            uid, ["vgpu", "run", "-q", "--name", name, "--memory", "4GiB", *flags, "--", *self.work("meeting", name), "--window-ms", str(1000 * WINDOW_S)])))
        return name

    def go(self, names):
        def ready():
            for job in self.jobs:
                self.assertIsNone(job.poll(), "" if job.poll() is None else job.stdout.read())
            return all(os.path.exists(self.path(f"meeting/{name}.0.ready")) for name in names)
        wait_until("programs that are ready", ready)
        self.began = time.monotonic() + 0.1
        with open(self.path("meeting/go.new"), "w") as file:
            file.write(str(int(self.began * 1e9)))
        os.rename(self.path("meeting/go.new"), self.path("meeting/go"))

    def window(self):
        return int((time.monotonic() - self.began) / WINDOW_S)

    def pass_windows(self, count):
        until = self.window() + count
        wait_until("time", lambda: self.window() >= until)
        return self.window()

    def finish(self, names):
        """Kernels of each, window by window, until now: programs are told to stop."""
        with open(self.path("meeting/stop"), "w"):
            pass
        records = []
        for name in names:
            path = self.path(f"meeting/{name}.0.json")
            wait_until(path, lambda: os.path.exists(path), 120)
            with open(path) as file:
                records.append(json.load(file)["work"])
        return records

    def segment(self, uid, name):
        folder = self.path(f"users/{uid}/vgpu")
        return next(os.path.join(folder, entry) for entry in os.listdir(folder) if entry.startswith(name) and entry.endswith(".tenant"))


def part(records, begin, end):
    sums = [sum(record[begin:end]) for record in records]
    return 100 * sums[0] / max(sum(sums), 1e-9)


class Sharing(Users):
    def test_users_share_a_gpu_by_quotas_that_they_cannot_write_and_without_the_daemon(self):
        self.start_daemon()
        names = [self.start_job(ALICE, "small", "--compute", "30"), self.start_job(BOB, "large", "--compute", "50")]
        self.go(names)
        begun = self.pass_windows(44)

        # Alice writes a share of 100 % wherever she can: her tenant's segment, and her seat's own word.
        segment = self.segment(ALICE, "small")
        with acting_as(ALICE):
            with open(segment, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
                terms = 4096 + 40  # the first GPU's record follows the header
                self.assertEqual(memory[terms], 30)
                memory[terms] = 100
            with open(self.path(f"users/{ALICE}/vgpu/node.seats"), "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
                seat_terms = 4096 + 232
                self.assertEqual(memory[seat_terms], 30)
                memory[seat_terms] = 100
            page = next(os.path.join(self.path("run/quotas"), name) for name in os.listdir(self.path("run/quotas"))
                        if name.endswith(f"-{os.stat(segment).st_ino}.quota"))
            with self.assertRaises(PermissionError):
                open(page, "r+b")
            with open(page, "rb") as file, self.assertRaises(PermissionError):
                open(f"/proc/self/fd/{file.fileno()}", "r+b")
            with self.assertRaises(PermissionError):
                os.unlink(page)
        written = self.pass_windows(4)
        wait_until("the quota put right", lambda: "quota_restored" in self.log())
        self.assertEqual(self.tenant("small", ALICE)["gpus"][0]["quota"]["share_percent"], 30)
        after = self.pass_windows(36)

        # Whose processes Alice can't look into take turns with hers: the daemon says so.
        promised = ("run", "-q", "--require-share", "--compute", "10", "--memory", "1GiB", "--", "/bin/true")
        for verb in ("ls", "doctor"):
            self.assertNotIn("best effort", self.vgpu(ALICE, verb).stdout)
        kept = self.vgpu(ALICE, *promised)
        self.assertEqual(kept.returncode, 0, kept.stdout)
        self.daemons[0].kill()
        killed = self.window()
        alone = self.pass_windows(36)
        refused = self.vgpu(ALICE, *promised)
        self.assertEqual(refused.returncode, 125)
        self.assertIn("of another user is on it (VG1015)", refused.stdout)
        self.start_daemon()
        replaced = self.window()
        last = self.pass_windows(36)
        self.pass_windows(4)  # what was counted then is known now
        records = self.finish(names)
        # 30 and 50 of 100: what is left over goes to both by their shares.
        owed = 100 * 30 / 80
        self.assertAlmostEqual(part(records, begun - 40, begun), owed, delta=6, msg="under the daemon")
        self.assertAlmostEqual(part(records, written, after), owed, delta=6, msg="after she wrote what she wanted")
        self.assertAlmostEqual(part(records, killed + 4, alone), owed, delta=6, msg="without the daemon")
        self.assertAlmostEqual(part(records, replaced + 2, last), owed, delta=6, msg="under the next one")
        rate = sum(sum(record[begun - 40:begun]) for record in records) / 40
        for begin, end, least in ((killed + 4, alone, 0.8), (replaced + 2, last, 0.9)):
            self.assertGreater(sum(sum(record[begin:end]) for record in records) / (end - begin), least * rate)
        # Within a second of its start it hosts for both users.
        times = [datetime.datetime.fromisoformat(line.split()[1].rstrip(":Z")) for line in self.log().splitlines()
                 if any(word in line for word in ("daemon_started", "hosting_taken"))]
        self.assertLess((times[1] - times[0]).total_seconds(), 1)
        self.assertIn("tenant small was here already", self.log())

    def test_a_share_is_changed_while_they_work(self):
        self.start_daemon()
        names = [self.start_job(ALICE, "small", "--compute", "30"), self.start_job(BOB, "large", "--compute", "50")]
        self.go(names)
        begun = self.pass_windows(44)
        changed = self.vgpu(ALICE, "set", "small", "--compute", "45")
        self.assertEqual(changed.returncode, 0, changed.stdout)
        at = self.window()
        last = self.pass_windows(44)
        self.pass_windows(4)
        records = self.finish(names)
        parts = part(records, begun - 40, begun), part(records, at + 2, last - 2)
        print(f"\nparts of 30 beside 50: {parts[0]:.1f} % (owed 37.5); of 45 beside 50, from 0.1 s after the command: {parts[1]:.1f} % (owed 47.4)")
        self.assertAlmostEqual(parts[0], 37.5, delta=4)
        self.assertAlmostEqual(parts[1], 100 * 45 / 95, delta=4)

    def test_tenants_of_two_users_are_theirs(self):
        self.start_daemon()
        for uid in (ALICE, BOB):
            self.jobs.append(subprocess.Popen(**self.as_user(uid, ["vgpu", "run", "-q", "--name", "job", "--memory", "4GiB", "--compute", "40", "--", "/bin/sleep", "60"])))
        wait_until("both tenants", lambda: self.tenant("job", ALICE) and self.tenant("job", BOB))
        theirs = self.tenant("job", BOB)["id"]
        self.assertTrue(theirs.endswith(f"@{BOB}"))
        with acting_as(ALICE):
            for method, target, body in (("PATCH", f"/api/v2/tenants/{theirs}", {"compute": "10"}), ("DELETE", f"/api/v2/tenants/{theirs}?processes=true", None)):
                status, answer = self.ask(method, target, body)
                self.assertEqual(status, 403, answer)
        self.assertEqual(self.vgpu(ALICE, "set", "job", "--compute", "20").returncode, 0)
        self.assertEqual(self.tenant("job", BOB)["gpus"][0]["quota"]["share_percent"], 40)
        raised = self.vgpu(ALICE, "set", "job", "--compute", "60")
        self.assertNotEqual(raised.returncode, 0)
        self.assertIn("allowance of 50 %", raised.stdout)
        # Root may, by the id or where the name is one's alone.
        status, answer = self.ask("PATCH", f"/api/v2/tenants/{theirs}", {"compute": "55"})
        self.assertEqual(status, 200, answer)
        wait_until("the change", lambda: self.tenant("job", BOB)["gpus"][0]["quota"]["share_percent"] == 55)
        listed = json.loads(self.vgpu(BOB, "ls", "--json").stdout)
        self.assertIn("55", json.dumps(listed))


RULE_OF_ALICE = f"""
[[rule]]
name = "of alice"
user = {ALICE}
memory = "4GiB"
compute = 30
"""


class Joining(Users):
    """Programs that have the limiter and say nothing: the daemon says whose they are."""

    def setUp(self):
        super().setUp()
        with open(self.path("rules.toml"), "w") as file:
            file.write(RULE_OF_ALICE)
        self.daemon_flags = ["--config", self.path("rules.toml")]

    def start_working(self, uid, name, **variables):
        self.jobs.append(subprocess.Popen(**self.preloaded(uid, self.work("meeting", name), **variables)))

    def test_whoever_says_nothing_is_in_the_tenant_that_a_rule_says(self):
        self.start_daemon()
        full = self.seen_mib(BOB)
        self.assertGreater(full, 10_000)
        self.assertFalse(os.path.exists(self.path(f"users/{BOB}/vgpu")), "whom no rule means leaves no trace")
        self.assertEqual(self.seen_mib(ALICE), 4096)
        self.start_working(ALICE, "one")
        self.start_working(ALICE, "two")
        wait_until("both in one tenant", lambda: (self.tenant("rule-of-alice", ALICE) or {}).get("process_count") == 2)
        quota = self.tenant("rule-of-alice", ALICE)["gpus"][0]["quota"]
        self.assertEqual((quota["memory_limit_bytes"], quota["share_percent"]), (4 << 30, 30))
        self.assertEqual(self.seen_mib(ALICE, ENABLE_NVML_HOOKS="false"), 4096, "its variables switch nothing off")

        # Without the daemon what it said last holds, for new processes too, and the next one knows it.
        self.daemons[0].kill()
        self.daemons[0].wait()
        self.assertEqual(self.seen_mib(ALICE), 4096)
        self.assertEqual(self.seen_mib(BOB), full)
        self.start_daemon()
        self.assertEqual(self.seen_mib(ALICE), 4096)
        for job in self.jobs:
            job.kill()
        wait_until("the end of a tenant that nobody is in", lambda: self.tenant("rule-of-alice", ALICE) is None)
        self.assertEqual(self.seen_mib(ALICE), 4096, "made anew")

    def test_of_many_at_once_none_runs_free(self):
        self.daemon_flags += ["--api-connections", "8"]
        self.start_daemon()
        self.assertEqual(self.seen_mib(ALICE), 4096)  # makes her directory
        command = self.smi(*MEMORY_SEEN)
        self.jobs += [subprocess.Popen(**self.preloaded(ALICE, command)) for _ in range(60)]
        for job in self.jobs:
            self.assertEqual(job.communicate(timeout=PATIENCE_S)[0].strip(), "4096")

    def test_beside_a_daemon_that_stands_still_a_program_says_so_and_goes_on(self):
        self.start_daemon()
        self.daemons[0].send_signal(signal.SIGSTOP)
        self.addCleanup(self.daemons[0].send_signal, signal.SIGCONT)
        done = subprocess.run(**self.preloaded(ALICE, self.smi(*MEMORY_SEEN)), timeout=PATIENCE_S)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("doesn't answer: nobody knows which tenant", done.stdout)

    def test_who_asked_nobody_gets_what_is_allowed(self):
        self.start_daemon()
        self.start_working(ALICE, "one")
        wait_until("alice's tenant", lambda: self.tenant("rule-of-alice", ALICE))
        self.start_working(BOB, "greedy", VGPU_COMPUTE="90", VGPU_MEMORY_LIMIT="130GiB")
        wait_until("judgement", lambda: "quota_judged" in self.log())
        greedy = next(t for t in self.ask("GET", "/api/v2/tenants")[1] if t["owner_uid"] == BOB)
        self.assertEqual(greedy["gpus"][0]["quota"]["share_percent"], 50, "an equal part for each of two users")
        self.assertLessEqual(greedy["gpus"][0]["quota"]["memory_limit_bytes"], 72 << 30)
        self.assertIn(f"what user {BOB} may have", self.log())
        # What she says herself wins over her rule; what she leaves open doesn't.
        self.start_working(ALICE, "own", VGPU_MEMORY_LIMIT="2GiB")
        own = lambda: next((t for t in self.ask("GET", "/api/v2/tenants")[1] if t["owner_uid"] == ALICE and t["name"] != "rule-of-alice"), None)
        wait_until("what her half leaves", lambda: own() and own()["gpus"][0]["quota"]["share_percent"] == 20)
        self.assertEqual(own()["gpus"][0]["quota"]["memory_limit_bytes"], 2 << 30)


class Unlimited(Users):
    def test_a_process_without_the_limiter_is_found_within_a_second(self):
        self.start_daemon()
        names = [self.start_job(ALICE, "limited", "--compute", "50")]
        self.go(names)
        self.pass_windows(10)
        began = datetime.datetime.now(datetime.timezone.utc)
        os.mkdir(self.path("apart"))
        os.chown(self.path("apart"), BOB, BOB)
        self.jobs.append(subprocess.Popen(**self.unlimited(BOB, self.work("apart", "free"))))
        found = lambda: [line for line in self.log().splitlines() if "unlimited_found" in line and f"pid {self.jobs[-1].pid}," in line]
        wait_until("a process that is ready", lambda: os.path.exists(self.path("apart/free.0.ready")))
        ready = datetime.datetime.fromtimestamp(os.stat(self.path("apart/free.0.ready")).st_mtime, datetime.timezone.utc)
        wait_until("what the daemon says", found)
        at = datetime.datetime.fromisoformat(found()[0].split()[1].rstrip(":").replace("Z", "+00:00"))
        print(f"\nfound {(at - began).total_seconds():.2f} s after its start, {(at - ready).total_seconds():.2f} s after it had its GPU")
        # A second is promised; a small machine that does other things as well stands still for longer.
        self.assertLess((at - ready).total_seconds(), 1 if ON_REAL_GPU else 4)
        offender = self.ask("GET", "/api/v2/processes?unlimited=true")[1]
        self.assertEqual([(one["host_pid"], one["owner_uid"]) for one in offender], [(self.jobs[-1].pid, BOB)])
        self.assertIn("workload", json.dumps(offender))
        self.jobs[-1].kill()
        self.jobs[-1].wait()
        wait_until("its end", lambda: any("unlimited_gone" in line and f"pid {self.jobs[-1].pid}," in line for line in self.log().splitlines()))
        wait_until("nobody without it", lambda: self.ask("GET", "/api/v2/processes?unlimited=true")[1] == [])


class Hostile(Users):
    def test_whatever_a_tenant_does_the_others_and_the_daemon_go_on(self):
        self.start_daemon()
        names = [self.start_job(BOB, "honest", "--compute", "50"), self.start_job(MALLORY, "bad", "--compute", "50")]
        self.go(names)
        begun = self.pass_windows(40)
        folder = self.path(f"users/{MALLORY}/vgpu")
        connections, locks = [], []
        with acting_as(MALLORY):
            # Every lock that can be had of what she and the daemon both use, kept to the end.
            for path in [folder, *(entry.path for entry in os.scandir(folder) if entry.is_file())]:
                locks.append(os.open(path, os.O_RDONLY if path == folder else os.O_RDWR))
                for lock in (fcntl.flock, fcntl.lockf):
                    with contextlib.suppress(OSError):
                        lock(locks[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
            with open(os.path.join(folder, "node.seats"), "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
                for seat in range(1024):  # every word of every seat
                    at = 4096 + 2048 * seat
                    memory[at + 192:at + 1600] = os.urandom(1408)
            os.mkfifo(os.path.join(folder, "fifo.tenant"))
            os.mkdir(os.path.join(folder, "folder.tenant"))
            os.symlink("/etc/shadow", os.path.join(folder, "link.tenant"))
            os.symlink(self.segment(BOB, "honest") if os.path.isdir(self.path(f"users/{BOB}/vgpu")) and os.access(self.path(f"users/{BOB}"), os.X_OK) else "/dev/zero",
                       os.path.join(folder, "zero.tenant"))
            with open(os.path.join(folder, "garbage.tenant"), "wb") as file:
                file.write(os.urandom(1_257_600))
            with open(os.path.join(folder, "short.tenant"), "wb") as file:
                file.write(b"x")
            os.symlink(self.path(f"users/{BOB}"), self.path(f"users/{MALLORY}/other"))
            for _ in range(300):
                one = socket.socket(socket.AF_UNIX)
                one.settimeout(2)
                try:
                    one.connect(self.socket)
                    one.sendall(b"GET /api/v2/node HT")
                except OSError:
                    pass
                connections.append(one)
        self.addCleanup(lambda: [os.close(lock) for lock in locks])
        garbled = self.pass_windows(16)
        self.assertIsNone(self.daemons[0].poll())
        wait_until("an answer beside the flood", lambda: self.node() is not None)
        # A tenant of her own making where the daemon doesn't look.
        os.mkdir(self.path("apart"))
        os.chown(self.path("apart"), MALLORY, MALLORY)
        hidden = self.work("apart", "hidden", seconds=20)
        self.jobs.append(subprocess.Popen(**self.preloaded(MALLORY, hidden, VGPU_STATE_DIR=self.path("apart"), VGPU_COMPUTE="90", VGPU_SOCKET="none")))
        wait_until("a process that hides", lambda: "in no tenant that is known here" in self.log())
        self.assertIn("elsewhere", [p["limiter"] for p in self.ask("GET", "/api/v2/processes?unlimited=true")[1]])
        with acting_as(MALLORY):
            os.truncate(self.segment(MALLORY, "bad"), 0)
            os.truncate(os.path.join(folder, "node.seats"), 0)
        cut = self.pass_windows(30)
        for one in connections:
            one.close()
        self.assertIsNone(self.daemons[0].poll(), self.log()[-2000:])
        wait_until("an answer", lambda: self.node() is not None)
        self.assertIsNotNone(self.tenant("honest", BOB))
        self.assertEqual(self.vgpu(BOB, "set", "honest", "--compute", "45").returncode, 0)
        record = self.finish(names[:1])[0]
        rate = lambda begin, end: sum(record[begin:end]) / (end - begin)
        before = rate(begun - 30, begun)
        self.assertGreater(before, 0)
        self.assertGreater(rate(begun + 2, garbled), 0.7 * before, "beside garbage")
        self.assertGreater(rate(garbled + 4, cut), 0.8 * before, "beside segments that were cut")


class Loss(Users):
    def rates_through_a_loss(self, *flags):
        """Kernels a window under a daemon, from a moment after its death on, and from a moment after the next is there."""
        self.start_daemon()
        names = [self.start_job(ALICE, "job", *flags)]
        self.go(names)
        begun = self.pass_windows(40)
        self.daemons[0].kill()
        killed = self.window()
        lost = self.pass_windows(30)
        self.why = self.vgpu(ALICE, "why", "job").stdout
        self.start_daemon()
        again = self.window()
        last = self.pass_windows(20)
        self.pass_windows(4)  # what was counted then is known now
        record = self.finish(names)[0]
        self.said = self.jobs[0].communicate(timeout=PATIENCE_S)[0]
        return [sum(record[begin:end]) / (end - begin) for begin, end in ((begun - 20, begun), (killed + 8, lost), (again + 6, last))]


class LossByStopping(Loss):
    daemon_flags = ["--on-daemon-loss", "stop"]

    def test_launches_wait_until_a_daemon_is_there(self):
        before, without, after = self.rates_through_a_loss("--compute", "50")
        self.assertGreater(before, 0)
        self.assertLess(without, 0.05 * before)
        self.assertIn("on-daemon-loss = stop", self.why)
        self.assertGreater(after, 0.7 * before)
        self.assertEqual(self.said.count("the hypervisor daemon is gone: launches wait"), 1, self.said)


class LossByOpening(Loss):
    daemon_flags = ["--on-daemon-loss", "open"]

    def test_limits_are_off_until_a_daemon_is_there(self):
        before, without, after = self.rates_through_a_loss("--compute", "20", "--compute-limit", "20")
        self.assertGreater(without, 2.5 * before)
        self.assertLess(after, 1.7 * before)
        self.assertEqual(self.said.count("the hypervisor daemon is gone: there are no compute shares"), 1, self.said)


if __name__ == "__main__":
    ours = begin(sys.argv, __doc__)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    unittest.main(argv=ours, verbosity=2)
