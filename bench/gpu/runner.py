# SPDX-License-Identifier: Apache-2.0
"""Runs groups of workers side by side under a limiter, from one common start, and collects their records."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

# Settings of limiters that the caller's environment may hold; a run without a limiter must not have them.
FOREIGN = ("VGPU_", "TENSOR_FUSION_", "TF_", "CUDA_DEVICE_MEMORY_", "CUDA_DEVICE_SM_", "CUDA_MEM_", "CUDA_CORE_", "CUDA_SM_", "MANAGER_", "GPU_CORE_UTILIZATION_POLICY", "LD_PRELOAD")
KEPT = ("VGPU_SIM_", "VGPU_STATE_DIR", "VGPU_LIBRARY")
READY_S = 180
TORCH_JOB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "torch_job.py")
START_AFTER_S = 0.3


class RunFailed(Exception):
    """Workers didn't do what was asked, with the reason in words."""


class NoGpu(Exception):
    """There is nothing to measure on, with the reason in words."""


class Machine:
    """One GPU and the programs to load it with. Calibrates once, at the start."""

    def __init__(self, programs, gpu=None, simulated=None, memory_mib=4096, scratch=None):
        self.workload = os.path.join(programs, "workload")
        self.memory_mib = memory_mib
        self.scratch = tempfile.mkdtemp(prefix="vgpu-bench-", dir=scratch)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN) or name.startswith(KEPT)}
        if gpu is not None:
            self.environment.update(CUDA_DEVICE_ORDER="PCI_BUS_ID", CUDA_VISIBLE_DEVICES=str(gpu))
        if simulated:
            inherited = self.environment.get("LD_LIBRARY_PATH")
            self.environment.update(LD_LIBRARY_PATH=simulated + (":" + inherited if inherited else ""), VGPU_SIMULATED="1")
            self.environment.setdefault("VGPU_SIM_DEVICES", "h200:1")
            self.environment.setdefault("VGPU_SIM_STATE", os.path.join(self.scratch, "sim"))
            self.environment.setdefault("VGPU_STATE_DIR", os.path.join(self.scratch, "state"))
            os.makedirs(self.environment["VGPU_STATE_DIR"], exist_ok=True)
        self.torch = None      # what torch_job.py says can run here, once asked
        self.sessions = set()  # of processes that may still run
        self.runs = 0

    def close(self):
        for session in list(self.sessions):
            self._end(session)
        shutil.rmtree(self.scratch, ignore_errors=True)

    def calibrate(self):
        """What the GPU is and how long a step of the kernel takes on it."""
        try:
            done = subprocess.run([self.workload, "--mode", "calibrate"], env=self.environment, capture_output=True, text=True, timeout=READY_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RunFailed(f"{self.workload}: {error}") from error
        if done.returncode != 0:
            raise (NoGpu if done.returncode == 77 or "no usable GPU" in done.stderr else RunFailed)(done.stderr.strip() or f"calibration ended with {done.returncode}")
        self.gpu = json.loads(done.stdout.strip().splitlines()[-1])
        return self.gpu

    def steps(self, work):
        return max(1, round(work.kernel_us * 1e3 / self.gpu["step_few_ns" if work.few_blocks else "step_ns"]))

    def lacks(self, work):
        """Why this kind of work can't be done here; None: it can."""
        if work.torch_job is None:
            return None
        if self.torch is None:
            done = subprocess.run([sys.executable, TORCH_JOB, "--check"], env=self.environment, capture_output=True, text=True)
            self.torch = json.loads(done.stdout) if done.returncode == 0 else {"torch": None, "gpus": 0}
        if self.torch["torch"] is None:
            return "PyTorch isn't installed"
        return None if self.torch["gpus"] >= work.gpus else f"it wants {work.gpus} GPUs"

    def command(self, tenant, folder, seconds, window_ms, tail_s, alone, seed):
        common = ["--name", tenant.name, "--rendezvous", folder, "--seconds", f"{seconds:g}", "--window-ms", f"{window_ms:g}", "--tail", f"{tail_s:g}", "--seed", str(seed),
                  "--probe-mib", str(self.memory_mib + 1024)]
        if tenant.work.torch_job is not None:
            return [sys.executable, TORCH_JOB, "--job", tenant.work.torch_job, *common]
        command = [self.workload, *tenant.work.flags(self.steps(tenant.work)), *common]
        return command + (["--back-to-back"] if alone and tenant.work.mode not in ("idle", "cost") else [])

    def run(self, tenants, limiter, seconds, window_ms=50, tail_s=20, alone=False, change=None, seed=1):
        """Runs the tenants side by side and returns {tenant: {"work": windows, "records": [one a process], ...}}.
        `change`: (seconds, quota): so long after the start, the first tenant's quota is changed."""
        self.runs += 1
        folder = os.path.join(self.scratch, f"run-{self.runs}")
        os.makedirs(folder)
        started = []
        try:
            for tenant in tenants:
                started.append((tenant, self._start(tenant, limiter, folder, self.command(tenant, folder, seconds, window_ms, tail_s, alone, seed))))
            return self._meet(started, limiter, folder, seconds, tail_s, change)
        finally:
            for _, process in started:
                self._end(process.pid, process)
            shutil.rmtree(folder, ignore_errors=True)

    def tenant_name(self, tenant):
        return f"bench-{os.getpid()}-{self.runs}-{tenant.name}"

    def _start(self, tenant, limiter, folder, command):
        state = os.path.join(folder, tenant.name + ".state")
        os.makedirs(state)
        quota = vars(tenant.quota)
        wrapped = limiter.wrap(command, quota, name=self.tenant_name(tenant), memory_mib=self.memory_mib,
                               gpu=self.gpu["uuid"] if tenant.work.gpus == 1 else "all", state=state)
        with open(os.path.join(folder, tenant.name + ".log"), "w") as log:
            try:
                process = subprocess.Popen(wrapped, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
            except OSError as error:
                raise RunFailed(f"{wrapped[0]}: {error.strerror}") from error
        self.sessions.add(process.pid)
        return process

    def _meet(self, started, limiter, folder, seconds, tail_s, change):
        names = {tenant.name: [f"{tenant.name}.{i}" for i in range(tenant.work.processes)] for tenant, _ in started}
        files = lambda suffix: [os.path.join(folder, name + suffix) for of_tenant in names.values() for name in of_tenant]
        self._wait_for(files(".ready"), started, folder, time.monotonic() + READY_S, "get ready")
        start_ns = time.monotonic_ns() + int(START_AFTER_S * 1e9)
        write_whole(os.path.join(folder, "go"), f"{start_ns}\n")
        outcome = {}
        if change:
            outcome["change_s"] = self._change(started[0][0], limiter, start_ns, *change)
        deadline = start_ns / 1e9 + seconds + tail_s + 30
        self._wait_for(files(".json"), started, folder, deadline, "finish")
        write_whole(os.path.join(folder, "stop"), "")
        outcome["tenants"] = {name: collect([read_json(os.path.join(folder, one + ".json")) for one in of_tenant]) for name, of_tenant in names.items()}
        for _, process in started:
            try:
                process.wait(timeout=tail_s + 30)
            except subprocess.TimeoutExpired as error:
                raise RunFailed("a worker didn't end after it had written its record") from error
        return outcome

    def _change(self, tenant, limiter, start_ns, after_s, quota):
        command = limiter.change(quota, name=self.tenant_name(tenant), gpu=self.gpu["uuid"])
        time.sleep(max(0, start_ns / 1e9 + after_s - time.monotonic()))
        at = time.monotonic()
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise RunFailed(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
        return at - start_ns / 1e9

    def _wait_for(self, paths, started, folder, deadline, what):
        while not all(os.path.exists(path) for path in paths):
            for tenant, process in started:
                if process.poll() is not None and not self._has_finished(tenant, folder):
                    raise RunFailed(f"tenant {tenant.name} ended with {process.returncode} before it could {what}: {log_tail(folder, tenant.name)}")
            if time.monotonic() > deadline:
                late = ", ".join(os.path.basename(path) for path in paths if not os.path.exists(path))
                raise RunFailed(f"not in time to {what}: {late}")
            time.sleep(0.005)

    @staticmethod
    def _has_finished(tenant, folder):
        return all(os.path.exists(os.path.join(folder, f"{tenant.name}.{i}.json")) for i in range(tenant.work.processes))

    def _end(self, session, process=None):
        """Whatever still runs of what was started, in whatever process groups it has made for itself."""
        for pid in session_members(session):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if process is not None:
            process.wait()
        self.sessions.discard(session)


def session_members(session):
    members = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            members.append(int(name))
    return members


def collect(records):
    """What a tenant's processes did, added up."""
    together = lambda name: [sum(values) for values in zip(*(record[name] for record in records))]
    return {
        "work": together("work"), "kernels": together("kernels"), "window_s": records[0]["window_ns"] / 1e9,
        "complete": all(record["complete"] for record in records),
        "latency_us": [value for record in records for value in record["latency_us"]],
        "back_to_back_ns": records[0]["back_to_back_ns"],
        "other_threads_cpu": sum(100 * (record["cpu_ns"] - record["thread_cpu_ns"]) / record["wall_ns"] for record in records),
        "records": [{name: value for name, value in record.items() if name not in ("work", "kernels", "latency_us")} for record in records],
    }


def read_json(path):
    with open(path) as file:
        return json.load(file)


def write_whole(path, text):
    with open(path + ".tmp", "w") as file:
        file.write(text)
    os.rename(path + ".tmp", path)


def log_tail(folder, name, characters=300):
    with open(os.path.join(folder, name + ".log"), errors="replace") as file:
        text = file.read().strip()
    return text[-characters:].replace("\n", " | ") or "it said nothing"
