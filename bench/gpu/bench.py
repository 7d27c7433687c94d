#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures how well limiters share a GPU: by completed work against the same work alone, never by NVML."""
import argparse
import dataclasses
import datetime
import fnmatch
import json
import os
import platform
import random
import shutil
import signal
import sys
import time

import evaluate
import limiters as limiter_table
import report
import runner
import scenarios

HERE = os.path.dirname(os.path.abspath(__file__))
FORMAT = 1
EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_MISSED, EXIT_LEFT, EXIT_NO_GPU, EXIT_INTERRUPTED = 0, 1, 2, 3, 75, 77, 130
MOST_HELD_BYTES = 2 << 30  # by the context of the calibration, and a driver's own
START_S = 2.5          # of a group of workers, as a first guess
QUICK = {"seconds": 3.0, "warmup": 1.0, "alone_seconds": 1.5}

EPILOG = """examples
  bench.py --limiters vgpu                       everything, vgpu alone; an hour on one GPU
  bench.py --limiters none,vgpu,hami --library hami=/opt/hami/libvgpu.so --quick
  bench.py --rows 'mix/*' --limiters none,vgpu   the mixes of tenants
  bench.py --budget-seconds 1500                 what matters most, for 25 minutes; run it again for the rest
  bench.py --report-only                         results/rows.jsonl to report.html and summary.md again
  bench.py --list                                rows and limiters

Finished rows are kept in OUT/rows.jsonl; the same command goes on after them. Each row has its runs alone and unlimited
before and after it, and a control that shows that the limiter was in force. How to read the figures: README.md.

exit status
  0  all rows were measured        2  the command can't be understood     75  rows are left (--budget-seconds)
  1  a row failed or its limiter   3  with --check LIMITER: a target      77  there is no GPU here
     was not in force                 was missed                         130  interrupted; finished rows are kept
"""


class Usage(Exception):
    """The command line asks for something that can't be had."""


def parse(arguments):
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_argument_group("what to measure")
    what.add_argument("--limiters", default="none,vgpu", metavar="LIST", help="names from limiters.json or --limiters-file (none,vgpu)")
    what.add_argument("--rows", action="append", default=[], metavar="PATTERN", help="only rows whose name matches, as 'mix/*' or 'limit/*/sync/30'; may be repeated")
    what.add_argument("--quick", action="store_true", help="the most important rows, shorter")
    what.add_argument("--list", action="store_true", help="list rows and limiters, and end")
    how = parser.add_argument_group("how")
    how.add_argument("--seconds", type=float, help="measured time of a run (10)")
    how.add_argument("--warmup", type=float, help="time before it that doesn't count (2)")
    how.add_argument("--alone-seconds", type=float, help="measured time of each run alone (3)")
    how.add_argument("--budget-seconds", type=float, metavar="N", help="end before N seconds are over, with the least important rows left for another time")
    how.add_argument("--redo", action="store_true", help="measure chosen rows that are finished once more; the last result counts")
    how.add_argument("--max-drift", type=float, default=2.0, metavar="PERCENT", help="mark a row whose runs alone differ by more (2)")
    how.add_argument("--memory-mib", type=int, default=4096, metavar="N", help="memory limit of each tenant, the control of each row (4096)")
    how.add_argument("--seed", type=int, default=1, help="of varying kernels (1)")
    where = parser.add_argument_group("where")
    where.add_argument("--programs", metavar="DIR", help="folder of the program workload (this one, else build/release/bin)")
    where.add_argument("--vgpu", metavar="PATH", help="the program vgpu (in --programs, else on PATH)")
    where.add_argument("--library", action="append", default=[], metavar="NAME=PATH", help="the library of a limiter, as hami=/opt/hami/libvgpu.so")
    where.add_argument("--limiters-file", action="append", default=[], metavar="FILE", help="more limiters, or other settings for known ones; see limiters.py")
    where.add_argument("--gpu", type=int, metavar="N", help="index of the GPU, as nvidia-smi has it (CUDA's first)")
    where.add_argument("--simulated", metavar="DIR", help="folder of the simulated GPU's libraries: shows that the benchmark works, not how fast anything is")
    where.add_argument("--out", default="results", metavar="DIR", help="rows.jsonl, report.html and summary.md (results)")
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="the summary on standard output as JSON")
    output.add_argument("--check", metavar="LIMITER", help="exit with 3 if this limiter missed a target")
    output.add_argument("--report-only", action="store_true", help="measure nothing; write the report from the rows that are there")
    options = parser.parse_args(arguments)
    options.started = time.monotonic()
    for name, value in (QUICK if options.quick else {"seconds": 10.0, "warmup": 2.0, "alone_seconds": 3.0}).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
        if getattr(options, name) <= 0 and name != "warmup":
            parser.error(f"--{name.replace('_', '-')} has to be above zero")
    return options


def chosen_scenarios(options):
    rows = [row for row in scenarios.table() if (not options.quick or row.rank == 1)]
    if options.rows:
        pool = scenarios.table() if options.quick is False else rows
        rows = [row for row in pool if any(fnmatch.fnmatchcase(row.name, pattern) for pattern in options.rows)]
        if not rows:
            raise Usage(f"no row matches {' or '.join(options.rows)}; bench.py --list shows them")
    return rows


def default_programs(options):
    candidates = [options.programs] if options.programs else [HERE, os.path.join(HERE, "..", "..", "build", "release", "bin")]
    for folder in candidates:
        if os.access(os.path.join(folder, "workload"), os.X_OK):
            return os.path.abspath(folder)
    raise Usage(f"no program workload in {' or '.join(candidates)}: build the target workload, or name its folder with --programs")


def chosen_limiters(options):
    table = limiter_table.read([os.path.join(HERE, "limiters.json"), *options.limiters_file])
    libraries = {}
    for text in options.library:
        name, separator, path = text.partition("=")
        if not separator or name not in table:
            raise Usage(f"--library {text}: NAME=PATH is wanted, with a NAME of {', '.join(table)}")
        libraries[name] = os.path.abspath(path)
    beside = os.path.join(options.programs or HERE, "vgpu")
    vgpu = options.vgpu or (beside if os.access(beside, os.X_OK) else shutil.which("vgpu"))
    chosen = []
    for name in options.limiters.split(","):
        if name not in table:
            raise Usage(f"no limiter is called {name}; there are {', '.join(table)}")
        limiter = limiter_table.Limiter(name, table[name], {"library": libraries.get(name), "vgpu": vgpu})
        missing = limiter.missing()
        if missing:
            raise Usage(f"limiter {name}: {missing}")
        chosen.append(limiter)
    return chosen


class Rows:
    """The finished rows of a folder: one JSON object a line, the first of which says where they were measured."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "rows.jsonl")
        self.header, self.rows = None, {}
        if os.path.exists(self.path):
            self._read()

    def _read(self):
        with open(self.path) as file:
            for number, line in enumerate(file, 1):
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # the last line of a run that was killed while it wrote
                if number == 1:
                    self.header = record
                else:
                    self.rows[record["row"], record["limiter"]] = record

    def begin(self, header):
        if self.header is None:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            self.header = header
            self._append(header, "w")
        for name in ("format", "gpu", "cuda"):
            if self.header.get(name) != header[name]:
                raise Usage(f"{self.path} holds rows of another machine ({name}: {self.header.get(name)}, here {header[name]}); choose another --out")

    def done(self, scenario, limiter):
        row = self.rows.get((scenario.name, limiter.name))
        return row is not None and row["status"] in ("measured", "skipped")

    def add(self, row):
        self.rows[row["row"], row["limiter"]] = row
        self._append(row, "a")

    def _append(self, record, mode):
        with open(self.path, mode) as file:
            file.write(json.dumps(record) + "\n")


class Progress:
    """One line on a terminal, rewritten; one line a row elsewhere. On standard error."""

    def __init__(self, total, expected_s):
        self.total, self.count = total, 0
        self.live = sys.stderr.isatty()
        sys.stderr.write(f"{total} rows to measure, about {span(expected_s)}\n" if total else "every row is there already\n")

    def show(self, text, left_s):
        if self.live:
            sys.stderr.write(f"\r\x1b[K[{self.count + 1}/{self.total}] {text}  {span(left_s)} left")
            sys.stderr.flush()

    def finish(self, row):
        self.count += 1
        figure = headline(row)
        sys.stderr.write(("\r\x1b[K" if self.live else "") + f"[{self.count}/{self.total}] {row['row']} · {row['limiter']}: {figure}\n")
        sys.stderr.flush()


def span(seconds):
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def headline(row):
    """One row in a few words."""
    if row["status"] != "measured":
        return f"{row['status']}: {row['why']}"
    figures, marks = row["figures"], " (NOT IN FORCE)" if row["control"]["active"] is False else ""
    if row["drift"] > row["max_drift"]:
        marks += f" (runs alone differ by {row['drift']:.1f} %)"
    shown = "; ".join(f"{v['what']} {report.number(v['value'])} {v['unit']}{'' if v['met'] else ' ✗'}".replace("  ", " ") for v in row["verdicts"])
    if not shown:
        shown = ", ".join(f"{t['name']} {t['percent']:.1f} %" for t in figures.get("tenants", ()))
    return (shown or "measured") + marks


class Bench:
    def __init__(self, options, machine, rows):
        self.options, self.machine, self.rows = options, machine, rows
        self.none = limiter_table.Limiter("none", {}, {})
        self.run_overhead_s = START_S

    # -- how long things take --

    def skip_s(self, scenario):
        return self.options.warmup if scenario.skip_s is None else scenario.skip_s

    def run_seconds(self, scenario):
        """Long launches at a small share get the time for three of them, as far as a minute goes."""
        measured = scenario.seconds or max(self.options.seconds, min(60, 3 * scenario.slowest_unit_s))
        return self.skip_s(scenario) + measured

    def tail_s(self, scenario):
        return 10 + 3 * scenario.slowest_unit_s

    def works(self, scenario):
        if scenario.kind in evaluate.WANT_NO_ALONE:
            return []
        return list(dict.fromkeys(tenant.work for tenant in scenario.tenants))

    def alone_seconds(self, scenario, work):
        if scenario.kind == "launch":
            return self.run_seconds(scenario)
        return 0.5 + max(self.options.alone_seconds, 3 * work.unit_s)

    def estimate_s(self, scenario, limiter, first):
        around = sum(self.alone_seconds(scenario, work) + self.run_overhead_s for work in self.works(scenario))
        if scenario.kind in evaluate.WANT_UNMANAGED and limiter.limits:
            around += self.run_seconds(scenario) + self.run_overhead_s
        one = self.run_seconds(scenario) + self.run_overhead_s + around
        return scenario.rounds * one + (around if first else 0)

    # -- runs --

    def timed(self, tenants, limiter, seconds, **more):
        begin = time.monotonic()
        outcome = self.machine.run(tenants, limiter, seconds, seed=self.options.seed, **more)
        self.run_overhead_s = 0.7 * self.run_overhead_s + 0.3 * max(0.2, time.monotonic() - begin - seconds)
        return outcome

    def alone(self, scenario, work):
        """Figures of one kind of work alone and unlimited."""
        steady = dataclasses.replace(work, pause=0)
        seconds = self.alone_seconds(scenario, work)
        skip_s = self.skip_s(scenario) if scenario.kind == "launch" else 0.5
        run = lambda one: self.timed([scenarios.Tenant("alone", one)], self.none, seconds, tail_s=10 + 3 * work.unit_s, alone=True)["tenants"]["alone"]
        tenant = run(steady)
        if work.processes > 1:  # several processes can't each measure it at the same time
            tenant["back_to_back_ns"] = run(dataclasses.replace(steady, processes=1))["back_to_back_ns"]
        return evaluate.alone_figures(tenant, work, skip_s)

    def surroundings(self, scenario, limiter):
        """What is measured before and after each run of a row: each work alone, and the tenants unmanaged where the kind wants it."""
        unmanaged = None
        if scenario.kind in evaluate.WANT_UNMANAGED and limiter.limits:
            unmanaged = self.group(scenario, self.none)
        return {work: self.alone(scenario, work) for work in self.works(scenario)}, unmanaged

    def has_same_surroundings(self, earlier, later):
        """Whether what was measured after the one row can be what is measured before the other."""
        if earlier is later:
            return True
        return earlier.kind == later.kind and earlier.kind not in evaluate.WANT_UNMANAGED and self.works(earlier) == self.works(later)

    def group(self, scenario, limiter):
        change = None
        if scenario.change:
            change = (scenario.change[0], {**vars(scenario.tenants[0].quota), "compute": scenario.change[1]})
        return self.timed(scenario.tenants, limiter, self.run_seconds(scenario), window_ms=scenario.window_ms, tail_s=self.tail_s(scenario), change=change)

    def row(self, scenario, limiter, before):
        """One finished row, and what was measured after its last run, for the next row to begin with."""
        around, runs = [before], []
        for _ in range(scenario.rounds):
            runs.append(self.group(scenario, limiter))
            around.append(self.surroundings(scenario, limiter))
        skip_s = self.skip_s(scenario)
        alone_by_work = {work: [alone[work] for alone, _ in around] for work in self.works(scenario)}
        unmanaged = [outcome for _, outcome in around if outcome is not None]
        figures, verdicts = evaluate.evaluate(scenario, runs, alone_by_work, unmanaged, skip_s)
        active, how = evaluate.control(limiter, scenario, runs[-1], self.options.memory_mib, self.machine.gpu["total_bytes"], figures)
        row = {
            **self.named(scenario, limiter), "status": "measured", "figures": figures, "verdicts": verdicts if limiter.limits else [], "control": {"active": active, "how": how},
            "drift": evaluate.drift(scenario, alone_by_work), "max_drift": self.options.max_drift, "complete": all(t["complete"] for run in runs for t in run["tenants"].values()),
            "seconds": self.run_seconds(scenario) - skip_s, "skip_s": skip_s, "at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "alone": [{"work": dataclasses.asdict(work), "runs": alone} for work, alone in alone_by_work.items()],
            "tenants": [self.raw(tenant, runs[-1]["tenants"][tenant.name]) for tenant in scenario.tenants],
        }
        return row, around[-1]

    @staticmethod
    def named(scenario, limiter):
        return {"row": scenario.name, "kind": scenario.kind, "title": scenario.title, "rank": scenario.rank, "expect": scenario.expect, "limiter": limiter.name,
                "limiter_title": limiter.title}

    @staticmethod
    def raw(tenant, run):
        return {"name": tenant.name, "work": dataclasses.asdict(tenant.work), "quota": vars(tenant.quota), "window_s": run["window_s"],
                "windows": [round(value, 4) for value in run["work"]], "kernels": run["kernels"], "records": run["records"]}

    # -- the whole of it --

    def measure(self, chosen, available):
        """Measures what isn't there yet, by importance and limiters in turn. Returns how many rows are left over."""
        order = random.Random(self.options.seed)
        todo = []
        for row in chosen:
            mine = [limiter for limiter in available if (limiter.limits or row.unmanaged) and (self.options.redo or not self.rows.done(row, limiter))]
            order.shuffle(mine)  # so that no limiter always comes first
            todo += [(row, limiter) for limiter in mine]
        progress = Progress(len(todo), self.left_s(todo))
        before, left_over = None, 0
        for i, (row, limiter) in enumerate(todo):
            if i > 0 and not self.has_same_surroundings(todo[i - 1][0], row):
                before = None
            lacks = next((why for why in map(self.machine.lacks, self.works(row)) if why), None)
            if lacks:
                progress.finish(self.keep({**self.named(row, limiter), "status": "skipped", "why": lacks}))
            elif row.change and not limiter.can_change:
                progress.finish(self.keep({**self.named(row, limiter), "status": "skipped", "why": "it can't change a quota while a program runs"}))
            elif self.options.budget_seconds and time.monotonic() - self.options.started + self.estimate_s(row, limiter, before is None) > self.options.budget_seconds:
                left_over += 1
            else:
                progress.show(f"{row.name} · {limiter.name}", self.left_s(todo[i:]))
                result, before = self.attempt(row, limiter, before)
                progress.finish(self.keep(result))
        return left_over

    def left_s(self, todo):
        return sum(self.estimate_s(row, limiter, i == 0 or not self.has_same_surroundings(todo[i - 1][0], row)) for i, (row, limiter) in enumerate(todo))

    def keep(self, row):
        self.rows.add(row)
        return row

    def attempt(self, scenario, limiter, before):
        """The row, or why there is none; and what was measured after it, None if nothing was."""
        try:
            wants_unmanaged = scenario.kind in evaluate.WANT_UNMANAGED and limiter.limits
            if before is None or (wants_unmanaged and before[1] is None):
                before = self.surroundings(scenario, limiter)
            return self.row(scenario, limiter, before)
        except (runner.RunFailed, limiter_table.BadLimiter) as error:
            return {**self.named(scenario, limiter), "status": "failed", "why": " | ".join(str(error).splitlines())}, None


def header(options, machine):
    return {"format": FORMAT, "gpu": machine.gpu["gpu"], "cuda": machine.gpu["cuda"], "uuid": machine.gpu["uuid"], "step_ns": machine.gpu["step_ns"],
            "host": {"machine": platform.machine(), "kernel": platform.release(), "processors": os.cpu_count()}, "simulated": bool(options.simulated),
            "date": datetime.date.today().isoformat(), "seconds": options.seconds, "warmup": options.warmup, "alone_seconds": options.alone_seconds,
            "driver": driver_version(), "seed": options.seed}


def warn_of_neighbours(gpu):
    held = gpu["total_bytes"] - gpu["free_bytes"]
    if held > MOST_HELD_BYTES:
        sys.stderr.write(f"warning: {held >> 20} MiB of the GPU are held, more than one idle program takes; figures mean something only if nobody else uses it\n")


def driver_version():
    try:
        with open("/proc/driver/nvidia/version") as file:
            return file.readline().strip()
    except OSError:
        return None


def show_list(options):
    for row in scenarios.table():
        print(f"{row.rank}  {row.name:34} {row.title}")
    print()
    for name, fields in limiter_table.read([os.path.join(HERE, "limiters.json"), *options.limiters_file]).items():
        print(f"{name:18} {fields.get('title', name)}: {fields.get('about', '')}")


def write_reports(rows, options):
    summary = report.summarise(rows.header, list(rows.rows.values()))
    runner.write_whole(os.path.join(options.out, "report.html"), report.html(summary))
    runner.write_whole(os.path.join(options.out, "summary.md"), report.markdown(summary))
    if options.json:
        print(json.dumps(report.without_curves(summary), indent=1))
    else:
        print(report.text_table(summary))
        print(f"\n{os.path.join(options.out, 'report.html')}, summary.md and rows.jsonl are written")
    return summary


def status(rows, chosen, available, options, left_over):
    names = {limiter.name for limiter in available}
    mine = [row for (name, limiter), row in rows.rows.items() if limiter in names and name in {scenario.name for scenario in chosen}]
    if any(row["status"] == "failed" or row["status"] == "measured" and row["control"]["active"] is False for row in mine):
        return EXIT_FAILED
    if left_over:
        return EXIT_LEFT
    if options.check and any(verdict["met"] is False for row in mine if row["limiter"] == options.check for verdict in row.get("verdicts", ())):
        return EXIT_MISSED
    return EXIT_OK


def run(options):
    if options.list:
        show_list(options)
        return EXIT_OK
    rows = Rows(options.out)
    if options.report_only:
        if rows.header is None:
            raise Usage(f"there is no {rows.path}")
        write_reports(rows, options)
        return EXIT_OK
    chosen = chosen_scenarios(options)
    options.programs = default_programs(options)
    available = chosen_limiters(options)
    if options.check and options.check not in {limiter.name for limiter in available}:
        raise Usage(f"--check {options.check}: it is not among --limiters")
    machine = runner.Machine(options.programs, options.gpu, options.simulated, options.memory_mib)
    try:
        machine.calibrate()
        warn_of_neighbours(machine.gpu)
        rows.begin(header(options, machine))
        try:
            left_over = Bench(options, machine, rows).measure(chosen, available)
        except KeyboardInterrupt:
            sys.stderr.write("\ninterrupted; the same command goes on after the finished rows\n")
            write_reports(rows, options)
            return EXIT_INTERRUPTED
    finally:
        machine.close()
    write_reports(rows, options)
    if left_over:
        sys.stderr.write(f"rows left for the same command: {left_over}\n")
    return status(rows, chosen, available, options, left_over)


def main(arguments=None):
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = parse(arguments)
    try:
        return run(options)
    except (Usage, limiter_table.BadLimiter) as error:
        sys.stderr.write(f"bench.py: {error}\n")
        return EXIT_USAGE
    except runner.NoGpu as error:
        sys.stderr.write(f"skipped: no NVIDIA GPU to measure on here ({error})\n")
        return EXIT_NO_GPU
    except runner.RunFailed as error:
        sys.stderr.write(f"bench.py: {error}\n")
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
