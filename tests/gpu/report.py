#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures the memory half of vgpu on a real GPU and writes tables and raw data.

  report.py --limiter libcuda_limiter.so --programs DIR --out DIR [--sections families,race,cost,start,frameworks,visible,smi]

Each row carries its own control: the same program without a limit, which has to pass what the limit would have stopped.
What is held is what the driver says (NVML, read by this process, which is not limited): the larger of the figures of the
program's processes and the growth of the whole GPU, which therefore has to be idle otherwise.
"""
import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import threading
import time

from gpu_monitor import Gpu, Watch

MIB = 1 << 20
# An empty context on an H200, and what the GPU's used memory grows by beside it.
CONTEXT_MIB = 528
HERE = os.path.dirname(os.path.abspath(__file__))
# family: (piece in MiB, the family's growth step in MiB)
FAMILIES = {
    "alloc": (64, 64), "alloc-small": (16, 2), "pitch": (64, 66), "managed": (64, 64), "array1d": (64, 2), "array2d": (64, 64), "array3d": (64, 64),
    "mipmapped": (64, 90), "async": (64, 64), "async-ptsz": (64, 64), "pool": (64, 64), "pool-ptsz": (64, 64), "vmm": (64, 64),
    "vmm-mapped": (64, 64), "graph": (64, 64), "graph-ptsz": (64, 64), "graph-captured": (64, 64), "ipc": (512, 512), "context": (520, 520),
    "module": (64, 64), "library": (64, 64), "stack": (64, 66), "local": (64, 66), "multicast": (64, 64),
    "pool-kept": (40, 64), "pool-fragmented": (24, 32), "pool-busy": (64, 64),
}
# Pools that use their memory again at the limit: family: what of it may be free when the last request is refused (MiB)
REUSE = {"pool-kept": 512, "pool-fragmented": 64, "pool-busy": 64}


class Report:
    def __init__(self, arguments):
        self.arguments = arguments
        self.gpu = Gpu()
        self.raw = {"gpu": self.gpu.name(), "driver": self.gpu.driver(), "date": datetime.date.today().isoformat(), "command": " ".join(sys.argv[:1] + ["..."])}
        self.text = []
        self.failures = []

    def program(self, name):
        return os.path.join(self.arguments.programs, name)

    def environment(self, limit_mib=None, preload=True, **extra):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("VGPU_", "TENSOR_FUSION_"))}
        if preload:
            environment["LD_PRELOAD"] = os.path.abspath(self.arguments.limiter)
        if limit_mib is not None:
            environment["VGPU_MEMORY_LIMIT"] = f"{limit_mib}MiB"
        environment.update(extra)
        return environment

    def table(self, title, header, rows, note=""):
        cells = [header] + [[str(c) for c in row] for row in rows]
        widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
        line = lambda row: "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |"
        block = [f"## {title}", ""] + ([note, ""] if note else []) + [line(cells[0]), "|" + "|".join("-" * (w + 2) for w in widths) + "|"] + [line(r) for r in cells[1:]] + [""]
        self.text += block
        print("\n".join(block), flush=True)

    def expect(self, holds, what):
        if not holds:
            self.failures.append(what)
            print("FELL SHORT: " + what, flush=True)

    # -- sections --

    def run_family(self, family, piece, most, environment):
        with Watch(self.gpu) as watch:
            watch.wait_until_idle()
            watch.base = self.gpu.used()
            watch.peak_growth = watch.peak_processes = 0
            run = subprocess.Popen([self.program("family_probe"), family, str(piece), str(most), "--pause"], env=environment,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            # A run that hangs is a result, not a reason to hang with it.
            guard = threading.Timer(self.arguments.seconds, run.kill)
            guard.start()
            stages = {}
            for line in run.stdout:
                stage = json.loads(line)
                own = self.gpu.processes().get(run.pid, 0)
                stage["held_mib"] = max(own, 0 if family == "ipc" else watch.growth()) / MIB
                if family == "ipc":  # the exporters are outside: theirs is what the importer holds beyond its own
                    stage["held_mib"] += stage["asked_mib"]
                stages[stage["stage"]] = stage
                run.stdin.write("\n")
                run.stdin.flush()
            run.stdin.close()
            error = run.stderr.read()
            code = run.wait()
            guard.cancel()
        peak = max(watch.peak_growth, watch.peak_processes) / MIB
        if family == "ipc":
            peak = max([s["held_mib"] for s in stages.values()] or [0])
        return {"exit": code, "stages": stages, "peak_mib": round(peak), "stderr": error[-300:]}

    def families(self):
        limit = self.arguments.limit_mib
        rows, reuse, raw = [], [], {}
        chosen = self.arguments.families.split(",") if self.arguments.families else FAMILIES
        for family in chosen:
            piece, step = FAMILIES[family]
            begin = time.monotonic()
            control = self.run_family(family, piece, limit * 3 // 2, self.environment(preload=False))
            if control["exit"] == 77:
                continue
            limited = self.run_family(family, piece, limit * 3 // 2, self.environment(limit))
            raw[family] = {"control": control, "limited": limited}
            print(f"  {family}: {time.monotonic() - begin:.1f} s", flush=True)
            stages = limited["stages"]
            full, again = stages.get("full", {}), stages.get("again", {})
            after = stages.get("freed", {}).get("held_mib", -1)
            held = round(full.get("held_mib", 0))
            ok = limited["peak_mib"] <= limit
            rows.append([family, control["peak_mib"], limited["peak_mib"], held, limit - step - 2, full.get("code", "died"), round(after),
                         f'{full.get("pieces", "-")} / {again.get("pieces", "-")}', "yes" if ok else "**no**"])
            self.expect(control["peak_mib"] > limit, f"{family}: the control run reached only {control['peak_mib']} MiB")
            self.expect(ok, f"{family}: {limited['peak_mib']} MiB held under a limit of {limit}")
            self.expect(held >= limit - step - 2, f"{family}: refused at {held} MiB, {limit - step - 2} or more was due")
            self.expect(full.get("code") == 2, f"{family}: the refusal's code is {full.get('code', limited['stderr'])}")
            if family in REUSE:
                early = [max(0, round(stage.get("held_mib", 0)) - CONTEXT_MIB - stage.get("asked_mib", 0)) for stage in (full, again)]
                reuse.append([family, limited["peak_mib"], held, full.get("asked_mib", "-"), early[0], again.get("asked_mib", "-"), early[1]])
                self.expect(max(early) <= REUSE[family], f"{family}: refused with {max(early)} MiB of the pool free, {REUSE[family]} may be")
            else:
                self.expect(again.get("pieces") == full.get("pieces"), f"{family}: {full.get('pieces')} pieces first, {again.get('pieces')} after freeing all")
        self.raw["families"] = raw
        self.table(f"Memory limit of {limit} MiB, every family of paths (MiB)",
                   ["family", "most ever held, no limit", "most ever held, limited", "held at first refusal", "at least due", "code", "after freeing all", "pieces 1st / 2nd fill", "within"], rows)
        if reuse:
            self.table(f"Pools that use their memory again at a limit of {limit} MiB (MiB)",
                       ["family", "most ever held", "held at the last refusal", "in use then", "free in the pool then", "in use, 2nd time", "free, 2nd time"], reuse)

    def race(self):
        rows, raw = [], []
        cases = [("8 threads of one process", 1, 8, 4096, 2, "plain"), ("8 processes of one tenant", 8, 1, 16384, 2, "plain"), ("8 processes of 4 threads", 8, 4, 16384, 2, "plain"),
                 ("1 thread, pool that keeps all, up to 40 MiB", 1, 1, 8192, 40, "pool"), ("2 threads, the same", 1, 2, 8192, 40, "pool"), ("8 threads, the same", 1, 8, 8192, 40, "pool"),
                 ("8 threads, pool that keeps all, up to 300 MiB", 1, 8, 8192, 300, "pool"), ("8 threads, pool that gives back, up to 40 MiB", 1, 8, 8192, 40, "giving")]
        for name, processes, threads, limit, piece, kind in cases:
            tenant = f"race-{os.getpid()}-{len(rows)}"
            with Watch(self.gpu) as watch:
                watch.wait_until_idle()
                watch.base = self.gpu.used()
                watch.peak_growth = watch.peak_processes = 0
                runs = [subprocess.Popen([self.program("race_probe"), str(threads), str(piece), "4", kind], env=self.environment(limit, VGPU_TENANT=tenant),
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
                lines = [run.stdout.readline().split() for run in runs]
                final = watch.growth() / MIB
                for run in runs:
                    run.stdin.close()
                    run.wait()
            denied = sum(int(line[1]) for line in lines if line)
            errors = sum(int(line[2]) for line in lines if line)
            peak = round(max(watch.peak_growth, watch.peak_processes) / MIB)
            rows.append([name, limit, peak, round(final), f"{100 * final / limit:.2f} %", denied, errors])
            raw.append({"case": name, "limit": limit, "peak": peak, "final": final, "lines": lines})
            self.expect(peak <= limit, f"race of {name}: {peak} MiB held under {limit}")
            self.expect(kind != "plain" or final >= 0.995 * limit, f"race of {name}: only {100 * final / limit:.2f} % used at the end")
            self.expect(errors == 0, f"race of {name}: {errors} errors other than out of memory")
        self.raw["race"] = raw
        self.table("Racing to the limit in pieces of 2 MiB, or from a pool (MiB)", ["who", "limit", "most ever held", "held at the end", "used", "refusals", "other errors"], rows)

    def cost(self):
        modes = {"none": self.environment(preload=False), "loaded, no limit": self.environment(), "limit 100 GiB": self.environment(102400),
                 "compute limit 90 %": {**self.environment(), "VGPU_COMPUTE": "90", "VGPU_POLICY": "fixed"}}
        samples = {mode: {} for mode in modes}
        for _ in range(self.arguments.rounds):
            for mode, environment in modes.items():
                out = subprocess.run([self.program("cost_probe"), "7"], env=environment, capture_output=True, text=True).stdout
                for line in out.splitlines():
                    name, value = line.split()
                    samples[mode].setdefault(name, []).append(float(value))
        self.raw["cost_ns"] = samples
        scale = {"cuMemAllocAsync_200x2MiB_then_free": 400}
        rows = []
        for name in samples["none"]:
            if name.startswith("launch_"):  # compared inside one process, below
                continue
            per = scale.get(name, 1)
            base = statistics.median(samples["none"][name]) / per
            # Differences within one round: a host's speed drifts from one second to the next.
            loaded, limited = (base + statistics.median(b - a for a, b in zip(samples["none"][name], samples[m].get(name, []))) / per for m in list(modes)[1:3])
            spread = (max(samples["none"][name]) - min(samples["none"][name])) / per
            rows.append([name, f"{base:.0f}", f"{loaded - base:+.0f}", f"{limited - base:+.0f}", f"{spread:.0f}"])
        self.table("Cost on the host (ns a call; added: median of the differences within a round)", ["call", "alone", "added, loaded without limit", "added, with limit", "spread of the runs alone"], rows)
        rows = []
        for mode, values in samples.items():
            own, added, mean = (values.get(name, []) for name in ("launch_by_the_drivers_own", "launch_added", "launch_added_mean"))
            if added:
                rows.append([mode, f"{statistics.median(own):.0f}", f"{statistics.median(added):.0f}", f"{min(added):.0f} to {max(added):.0f}", f"{statistics.median(mean):.0f}"])
        self.table("A launch, by the limiter's entry and by the driver's own in turns inside one process (ns; median of the runs)",
                   ["process", "by the driver's own", "added, median", "of the runs", "added, mean with samples"], rows)

    def start(self):
        rows, raw = [], {}

        def sequential(environment, count=150):
            times = []
            for _ in range(count):
                begin = time.perf_counter()
                subprocess.run(["ls", "/"], env=environment, stdout=subprocess.DEVNULL)
                times.append((time.perf_counter() - begin) * 1e3)
            return statistics.median(times)

        # No more than `wave` at once: a GPU and its host have to hold that many contexts without the limiter too.
        def together(what, count, wave, environment):
            before = os.times()
            begin = time.perf_counter()
            bad = 0
            for first in range(0, count, wave):
                runs = [subprocess.Popen([self.program("start_probe"), what], env=environment, stderr=subprocess.DEVNULL)
                        for _ in range(min(wave, count - first))]
                bad += sum(run.wait() != 0 for run in runs)
            wall = time.perf_counter() - begin
            after = os.times()
            cpu = (after.children_user + after.children_system - before.children_user - before.children_system) / count * 1e3
            return wall, cpu, bad

        modes = {"none": self.environment(preload=False), "limit": self.environment(140000 if self.gpu.used() < 4096 * MIB else 60000)}
        ls = {mode: [] for mode in modes}
        for _ in range(3):
            for mode, environment in modes.items():
                ls[mode].append(sequential(environment))
        raw["ls_ms"] = ls
        print("  ls: " + ", ".join(f"{m} {statistics.median(ls[m]):.2f} ms" for m in modes), flush=True)
        rows.append(["`ls`, one after another", *(f"{statistics.median(ls[m]):.2f} ms" for m in modes), f"{statistics.median(ls['limit']) - statistics.median(ls['none']):+.2f} ms"])
        for what, count, wave in (("init", 300, 300), ("context", 200, self.arguments.contexts_at_once)):
            result = {}
            for mode, environment in modes.items():
                tenant = {"VGPU_TENANT": f"start-{os.getpid()}-{what}"} if mode == "limit" else {}
                result[mode] = together(what, count, wave, {**environment, **tenant})
                print(f"  {count} {what}, {mode}: {result[mode][0]:.1f} s in all, {result[mode][1]:.1f} ms CPU each, {result[mode][2]} failed", flush=True)
            raw[what] = result
            name = f"{count} at once up to cuInit" if what == "init" else f"{count} with a context, {wave} at once"
            rows.append([name + ", CPU each", *(f"{result[m][1]:.1f} ms" for m in modes), f"{result['limit'][1] - result['none'][1]:+.1f} ms"])
            rows.append([name + ", wall for all", *(f"{result[m][0]:.2f} s" for m in modes), f"{result['limit'][0] - result['none'][0]:+.2f} s"])
            self.expect(result["limit"][2] <= result["none"][2], f"{name}: {result['limit'][2]} failed under the limiter, {result['none'][2]} without")
        self.raw["start"] = raw
        self.table("Start of programs", ["what", "without", "with the limiter and a limit", "added"], rows)

    def frameworks(self):
        rows, raw = [], {}
        chosen = self.arguments.frameworks.split(",")

        def run(kind, environment):
            with Watch(self.gpu) as watch:
                watch.wait_until_idle()
                watch.base = self.gpu.used()
                watch.peak_growth = watch.peak_processes = 0
                try:
                    result = subprocess.run([sys.executable, os.path.join(HERE, "frameworks.py"), kind], env=environment, capture_output=True, text=True,
                                            timeout=self.arguments.seconds)
                except subprocess.TimeoutExpired:  # a result too; the table goes on
                    return -1, 0, {"broke": f"not done after {self.arguments.seconds:.0f} s"}, ""
            peak = round(max(watch.peak_growth, watch.peak_processes) / MIB)
            try:
                said = json.loads(result.stdout.strip().splitlines()[-1])
            except (IndexError, ValueError):
                said = {"broke": (result.stderr.strip().splitlines() or ["?"])[-1][:200]}
            return result.returncode, peak, said, result.stderr[-1500:]

        self.raw["frameworks"] = raw  # filled row by row, so that a run that is cut off keeps what it has
        for kind in chosen:
            self.write()
            begin = time.monotonic()
            alone = run(kind, self.environment(preload=False))
            if alone[0] != 0:
                rows.append([kind, "-", "not runnable here without the limiter: " + str(alone[2])[:60], "", "", "", "", ""])
                raw[kind] = {"alone": alone}
                continue
            fits = run(kind, self.environment(int(alone[1] * 1.06)))
            under = run(kind, self.environment(int(alone[1] * 0.9)))
            raw[kind] = {"alone": alone, "fits": fits, "under": under}
            print(f"  {kind}: {time.monotonic() - begin:.1f} s", flush=True)
            same = fits[2].get("value") == alone[2].get("value")
            rows.append([kind, alone[1], int(alone[1] * 1.06), fits[1], "finished, same value" if fits[0] == 0 and fits[2].get("out_of_memory") is None and same else "**" + str(fits[2])[:70] + "**",
                         int(alone[1] * 0.9), under[1], (str(under[2].get("out_of_memory"))[:48] + ", then finished") if under[0] == 0 else "**" + str(under[2])[:70] + "**"])
            self.expect(fits[0] == 0 and fits[2].get("out_of_memory") is None, f"{kind} under a limit that fits: {fits[2]}")
            self.expect(under[0] == 0 and under[2].get("out_of_memory"), f"{kind} at 10 % under its peak: {under[2]}")
            self.expect(fits[1] <= int(alone[1] * 1.06) and under[1] <= int(alone[1] * 0.9), f"{kind} held more than its limit: {fits[1]}, {under[1]}")
        self.table("Frameworks (MiB)", ["job", "peak alone", "limit that fits", "held", "outcome", "10 % under", "held", "outcome"], rows)

    def visible(self):
        """PyTorch's view of the GPUs under every form of CUDA_VISIBLE_DEVICES, with and without the limiter, all at once."""
        limit = self.arguments.limit_mib
        uuid = self.gpu.uuid()
        forms = [("not set", None, None), ("0", "0", None), ("the UUID", uuid, None), ("the UUID's beginning", uuid[:12], None), ("empty", "", None), ("-1", "-1", None),
                 ("0,0", "0,0", None), ("0,-1,0", "0,-1,0", None), ("7,0", "7,0", None), ("0,7", "0,7", None), ("a word", "none", None), ("a UUID that isn't here", "GPU-0", None),
                 ("a MIG name", "MIG-" + uuid, None), ("set to 0 inside Python", "", "0"), ("set empty inside Python", None, "")]

        def begin(value, inside, environment):
            environment = {k: v for k, v in environment.items() if k != "CUDA_VISIBLE_DEVICES"}
            if value is not None:
                environment["CUDA_VISIBLE_DEVICES"] = value
            command = [sys.executable, os.path.join(HERE, "visible_gpus.py")] + ([] if inside is None else ["--set", inside])
            return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

        def end(run):
            out, error = run.communicate()
            try:
                return json.loads(out.strip().splitlines()[-1])
            except (IndexError, ValueError):
                return {"broke": (error.strip().splitlines() or [f"status {run.returncode}"])[-1][:120], "status": run.returncode}

        alone = [begin(value, inside, self.environment(preload=False)) for _, value, inside in forms]
        alone = [end(run) for run in alone]
        if any(said.get("status") == 77 for said in alone):
            print("  PyTorch isn't installed", flush=True)
            return
        limited = [begin(value, inside, self.environment(limit, VGPU_TENANT=f"visible-{os.getpid()}-{i}")) for i, (_, value, inside) in enumerate(forms)]
        limited = [end(run) for run in limited]
        self.raw["visible"] = [{"form": form[0], "alone": a, "limited": b} for form, a, b in zip(forms, alone, limited)]
        rows = []
        for (form, _, _), a, b in zip(forms, alone, limited):
            rows.append([form, *(f'{said.get("device_count", said.get("broke"))}, {"yes" if said.get("is_available") else "no"}' for said in (a, b)), a.get("total_mib", "-"),
                         b.get("total_mib", "-"), b.get("property_mib", "-"), b.get("free_mib", "-"), a.get("utilization", "-"), b.get("utilization", "-")])
            same = all(a.get(key) == b.get(key) for key in ("device_count", "is_available", "name"))
            self.expect(same, f"CUDA_VISIBLE_DEVICES {form}: {a} without the limiter, {b} with it")
            self.expect(not b.get("is_available") or (b["total_mib"] == b["property_mib"] == limit and b["free_mib"] < limit), f"CUDA_VISIBLE_DEVICES {form}: memory {b}")
        self.table(f"PyTorch under CUDA_VISIBLE_DEVICES, alone and with a memory limit of {limit} MiB",
                   ["CUDA_VISIBLE_DEVICES", "count, available alone", "limited", "total alone (MiB)", "limited", "in its properties", "free", "utilization alone", "limited"], rows)

    def smi(self):
        environment = self.environment(4096)
        commands = [["nvidia-smi"], ["nvidia-smi", "-L"], ["nvidia-smi", "--query-gpu=name,memory.total,memory.used,memory.free,utilization.gpu", "--format=csv"],
                    ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv"], ["nvidia-smi", "pmon", "-c", "1"]]
        raw = {}
        self.text += ["## nvidia-smi inside a tenant with a limit of 4 GiB", ""]
        for command in commands:
            out = subprocess.run(command, env=environment, capture_output=True, text=True)
            text = out.stdout.replace(self.gpu.uuid(), "GPU-...")
            raw[" ".join(command)] = {"code": out.returncode, "stdout": text, "stderr": out.stderr}
            self.text += ["```text", "$ " + " ".join(command), text.rstrip(), "```", ""]
            print("$ " + " ".join(command) + "\n" + text + out.stderr, flush=True)
        busy = subprocess.Popen([self.program("family_probe"), "alloc", "64", "1024", "--pause"], env={**environment, "VGPU_TENANT": f"smi-{os.getpid()}"},
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        busy.stdout.readline()
        out = subprocess.run(["nvidia-smi"], env={**environment, "VGPU_TENANT": f"smi-{os.getpid()}"}, capture_output=True, text=True)
        print(out.stdout, flush=True)
        self.text += ["While a process of the same tenant holds 1 GiB and a context:", "", "```text", out.stdout.rstrip(), "```", ""]
        raw["busy"] = out.stdout
        busy.communicate("\n\n\n\n")
        self.raw["smi"] = raw

    def write(self):
        os.makedirs(self.arguments.out, exist_ok=True)
        with open(os.path.join(self.arguments.out, "memory.json"), "w") as file:
            json.dump(self.raw, file, indent=1)
        head = [f"# Memory limits on {self.raw['gpu']}", "", f"Driver {self.raw['driver']}, {self.raw['date']}; GPU otherwise idle. Made by `tests/gpu/report.py`; raw data beside this file.", ""]
        if self.failures:
            head += ["**What fell short:**", ""] + ["* " + f for f in self.failures] + [""]
        with open(os.path.join(self.arguments.out, "memory.md"), "w") as file:
            file.write("\n".join(head + self.text))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limiter", required=True)
    parser.add_argument("--programs", required=True, help="folder with family_probe, race_probe, cost_probe, start_probe")
    parser.add_argument("--out", required=True)
    parser.add_argument("--sections", default="families,race,cost,start,frameworks,visible,smi")
    parser.add_argument("--families", default="", help="only these, comma separated")
    parser.add_argument("--frameworks", default="torch,torch-expandable,torch-async,torch-graphs,jax,cupy,cupy-async,numba")
    parser.add_argument("--limit-mib", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=60, help="the most one run of family_probe may take")
    parser.add_argument("--contexts-at-once", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()
    try:
        report = Report(arguments)
    except OSError as missing:
        print(f"skipped: no NVIDIA GPU here ({missing})")
        return 77
    for section in arguments.sections.split(","):
        begin = time.monotonic()
        try:
            getattr(report, section)()
        except Exception as error:  # one broken section must not lose the others' figures
            report.expect(False, f"section {section} broke: {error!r}")
        print(f"[{section}: {time.monotonic() - begin:.0f} s]", flush=True)
        report.write()
    for failure in report.failures:
        print("fell short: " + failure)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
