# SPDX-License-Identifier: Apache-2.0
"""What is measured, as a table: each scenario is some tenants, the work of each, and what each is promised.

A scenario's `kind` says how its records become figures (evaluate.py). `rank` is its importance: rows of a lower rank run
first, and `--quick` runs rank 1 alone. Durations of kernels are microseconds. To add a scenario, add a row here.
"""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Work:
    """One kind of work, as workload's flags state it."""
    mode: str = "queued"
    kernel_us: float = 100
    graph: int = 0
    streams: int = 1
    processes: int = 1
    few_blocks: bool = False
    vary: float = 1
    gap_us: float = 30
    period_us: float = 2000
    pause_from: float = -1
    pause: float = 0
    torch_job: str = None     # done by torch_job.py; a "kernel" is a step then
    gpus: int = 1

    @property
    def unit_s(self):
        """Seconds of GPU time in one launch."""
        return self.kernel_us * max(self.graph, 1) * (self.vary if self.vary > 1 else 1) / 1e6

    def flags(self, steps):
        flags = ["--mode", self.mode, "--kernel-us", f"{self.kernel_us:g}", "--steps", str(steps)]
        for flag, value, default in (("--graph", self.graph, 0), ("--streams", self.streams, 1), ("--processes", self.processes, 1), ("--vary", self.vary, 1)):
            if value != default:
                flags += [flag, f"{value:g}"]
        if self.few_blocks:
            flags += ["--blocks", "few"]
        if self.mode == "gaps":
            flags += ["--gap-us", f"{self.gap_us:g}"]
        if self.mode == "paced":
            flags += ["--period-us", f"{self.period_us:g}"]
        if self.pause > 0:
            flags += ["--pause-from", f"{self.pause_from:g}", "--pause", f"{self.pause:g}"]
        return flags


@dataclasses.dataclass(frozen=True)
class Quota:
    """What a tenant is promised; None: nothing is said. The same words as `vgpu run`."""
    compute: int = None
    compute_limit: int = None
    policy: str = None
    priority: str = None


@dataclasses.dataclass(frozen=True)
class Tenant:
    name: str
    work: Work
    quota: Quota = Quota()


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    kind: str
    title: str
    rank: int
    tenants: tuple
    unmanaged: bool = True    # measured without a limiter too
    rounds: int = 1           # how often the row's run is repeated between runs alone
    window_ms: int = 50
    seconds: float = None     # fixed by what is measured; None: as asked
    skip_s: float = None      # start of the run that doesn't count; None: as asked
    change: tuple = None      # (seconds, percent): a live change of the first tenant's quota
    expect: str = ""          # the target in words

    @property
    def slowest_unit_s(self):
        """Wall time of the longest launch at the least that its tenant may have; with several tenants, of all in turn."""
        return max(t.work.unit_s * 100 / (t.quota.compute or 100 / len(self.tenants)) for t in self.tenants)


def fixed(percent):
    return Quota(compute=percent, policy="fixed")


def elastic(percent, priority=None):
    return Quota(compute=percent, policy="elastic", priority=priority)


SIZES = {"20us": 20, "100us": 100, "1ms": 1000, "5ms": 5000, "20ms": 20000, "50ms": 50000}
LIMITS = (10, 30, 50, 80)
MODES = {"queued": {"mode": "queued"}, "sync": {"mode": "sync"}, "graph": {"mode": "queued", "graph": 20}}


def limit_grid():
    """Rows of the same work are neighbours, so that they share the runs alone between them."""
    for size, us in SIZES.items():
        for mode, flags in MODES.items():
            for limit in LIMITS:
                first = limit == 30 and (size in ("100us", "5ms") and mode != "graph" or (size, mode) == ("100us", "graph"))
                rank = 1 if first else 2 if limit == 30 else 3
                yield Scenario(f"limit/{size}/{mode}/{limit}", "limit", f"one tenant at {limit} %, kernels of {size}, {mode}", rank,
                               (Tenant("a", Work(kernel_us=us, **flags), fixed(limit)),), unmanaged=False, expect="error <= 2 points, mean of all <= 1")


def limit_extras():
    for name, title, work in (("streams", "two streams in one process", Work(streams=2)), ("processes", "four processes of one tenant", Work(processes=4)),
                              ("varying", "kernels of 25 to 400 us", Work(vary=4)), ("few-blocks", "kernels of 8 blocks", Work(few_blocks=True)),
                              ("5us", "kernels of 5 us", Work(kernel_us=5))):
        yield Scenario(f"limit/{name}/queued/30", "limit", f"one tenant at 30 %, {title}", 2, (Tenant("a", work, fixed(30)),), unmanaged=False,
                       expect="error <= 2 points, mean of all <= 1")


def mixes():
    def mix(name, title, rank, *parts):
        tenants = tuple(Tenant(letter, work, elastic(percent)) for letter, (percent, work) in zip("abcdefghij", parts))
        return Scenario(f"mix/{name}", "mix", title, rank, tenants, expect="each within 1 point over the run, 3 in any second (50 ms kernels: 1.5 and 5)")
    sync, queued = Work(mode="sync"), Work()
    yield mix("30-70/100us/queued", "two tenants at 30 and 70, 100 us queued", 1, (30, queued), (70, queued))
    yield mix("30-70/100us/sync", "two tenants at 30 and 70, 100 us synchronised", 1, (30, sync), (70, sync))
    yield mix("30-70/50ms-0.1ms/queued", "50 ms kernels at 30 beside 0.1 ms kernels at 70", 1, (30, Work(kernel_us=50000)), (70, queued))
    yield mix("20-30-50/100us/queued", "three tenants at 20, 30 and 50, 100 us queued", 1, (20, queued), (30, queued), (50, queued))
    yield mix("ten-10/1ms/queued", "ten tenants at 10, 1 ms queued", 1, *[(10, Work(kernel_us=1000))] * 10)
    yield mix("30-70/20us/queued", "two tenants at 30 and 70, 20 us queued", 2, (30, Work(kernel_us=20)), (70, Work(kernel_us=20)))
    yield mix("30-70/5ms/sync", "two tenants at 30 and 70, 5 ms synchronised", 2, (30, Work("sync", 5000)), (70, Work("sync", 5000)))
    yield mix("30-70/0.1ms-50ms/sync", "0.1 ms kernels at 30 beside 50 ms kernels at 70, synchronised", 2, (30, sync), (70, Work("sync", 50000)))
    yield mix("30-70/graph-sync", "graphs of 20 x 100 us at 30 beside 1 ms synchronised at 70", 2, (30, Work(graph=20)), (70, Work("sync", 1000)))
    yield mix("20-30-50/mixed", "three at 20, 30 and 50: 20 us synchronised, varying, 5 ms", 2, (20, Work("sync", 20)), (30, Work(vary=4)), (50, Work(kernel_us=5000)))
    yield mix("streams-30-70", "a tenant of two streams at 30 beside one at 70", 2, (30, Work(streams=2)), (70, queued))
    yield mix("processes-30-70", "a tenant of four processes at 30 beside one at 70", 2, (30, Work(processes=4)), (70, queued))
    yield mix("ten-10/100us/sync", "ten tenants at 10, 100 us synchronised", 2, *[(10, sync)] * 10)


def sums():
    def pair(name, title, rank, work, kind="sum", expect="together >= 97 % of one alone"):
        return Scenario(f"sum/{name}", kind, f"two tenants at 50, {title}", rank, (Tenant("a", work, elastic(50)), Tenant("b", work, elastic(50))), expect=expect)
    for size, us in {"5us": 5, "20us": 20, "100us": 100, "1ms": 1000, "5ms": 5000, "20ms": 20000}.items():
        for mode in ("sync", "queued"):
            yield pair(f"{mode}/{size}", f"{size} {'synchronised' if mode == 'sync' else 'queued'}", 1 if us in (20, 1000) else 2, Work(mode, us))
    bound = "together >= 97 % of the same unmanaged"
    yield pair("launch-bound/10us-30us", "10 us queued with gaps of 30 us", 1, Work("gaps", 10, gap_us=30), "sum_unmanaged", bound)
    yield pair("launch-bound/20us-20us", "20 us queued with gaps of 20 us", 2, Work("gaps", 20, gap_us=20))
    yield pair("launch-bound/50us-10us", "50 us queued with gaps of 10 us", 2, Work("gaps", 50, gap_us=10))


def paced():
    chat = Tenant("paced", Work("paced", 200, period_us=2000), elastic(30, "high"))
    for size, us, rank in (("1ms", 1000, 1), ("100us", 100, 2), ("10ms", 10000, 1), ("50ms", 50000, 2)):
        yield Scenario(f"paced/beside-{size}", "paced", f"200 us every 2 ms, high priority, beside saturating {size} kernels", rank,
                       (chat, Tenant("batch", Work(kernel_us=us), elastic(70))), expect="p99 <= alone + min(longest kernel, 2.05 ms) + 0.3 ms")


def frameworks():
    """PyTorch's own work. A step's duration is a guess that only says how long to measure."""
    job = lambda name, us=5000, gpus=1: Work(kernel_us=us, torch_job=name, gpus=gpus)
    pair = lambda name, title, work, kind="sum", expect="together >= 97 % of one alone": Scenario(
        f"sum/torch/{name}", kind, f"two tenants at 50, {title}", 2, (Tenant("a", work, elastic(50)), Tenant("b", work, elastic(50))), expect=expect)
    yield pair("train", "PyTorch training, launch-bound", job("train"), "sum_unmanaged", "together >= 97 % of the same unmanaged")
    yield pair("train-graph", "PyTorch training as CUDA graphs", job("train-graph"))
    yield pair("infer", "PyTorch inference, each result waited for", job("infer"), "sum_unmanaged", "together >= 97 % of the same unmanaged")
    yield pair("parallel", "PyTorch training over two GPUs each (NCCL)", job("parallel", 20000, 2))
    yield Scenario("mix/torch/30-70", "mix", "PyTorch training as CUDA graphs, 30 and 70", 2, (Tenant("a", job("train-graph"), elastic(30)), Tenant("b", job("train-graph"), elastic(70))),
                   expect="each within 1 point over the run, 3 in any second")


def single_figures():
    queued = Work()
    for name, title, rank, work in (("1ms/queued", "1 ms queued", 1, Work(kernel_us=1000)), ("20us/queued", "20 us queued", 2, Work(kernel_us=20)),
                                    ("100us/sync", "100 us synchronised", 1, Work("sync")), ("100us/graph", "graphs of 20 x 100 us", 2, Work(graph=20))):
        yield Scenario(f"loss/{name}", "loss", f"one tenant at 100 %, {title}", rank, (Tenant("a", work, fixed(100)),), rounds=3, expect="<= 0.5 % of the rate alone")
    yield Scenario("launch/no-limit", "launch", "host cost of a launch, no compute limit", 1, (Tenant("a", Work("cost", 10)),), rounds=5, seconds=1.5, skip_s=0.5, expect="<= 50 ns added")
    yield Scenario("launch/limited", "launch", "host cost of a launch under a limit of 90 %", 1, (Tenant("a", Work("cost", 10), fixed(90)),), rounds=5, seconds=1.5, skip_s=0.5,
                   expect="<= 150 ns added")
    yield Scenario("change/20-60", "change", "one tenant, changed from 20 to 60 % while it runs", 1, (Tenant("a", queued, fixed(20)),), unmanaged=False, window_ms=10,
                   seconds=8, change=(4, 60), expect="effective <= 100 ms")
    yield Scenario("change/60-20", "change", "one tenant, changed from 60 to 20 % while it runs", 2, (Tenant("a", Work("sync"), fixed(60)),), unmanaged=False, window_ms=10,
                   seconds=8, change=(4, 20), expect="effective <= 100 ms")
    yield Scenario("burst/idle-60s", "burst", "one tenant at 30 %, after 60 s of idling", 2, (Tenant("a", Work(pause_from=3, pause=60), fixed(30)),), unmanaged=False,
                   seconds=68, skip_s=0, window_ms=10, expect="first 5 s within the limit plus 100 ms of GPU time")
    yield Scenario("cpu/idle", "cpu", "CPU of the limiter's own threads, one idle tenant at 50", 2, (Tenant("a", Work("idle"), elastic(50)),), expect="<= 1 % of a core")
    yield Scenario("cpu/ten", "cpu", "CPU of the limiter's own threads, ten tenants at 10", 2,
                   tuple(Tenant(letter, Work("sync", 1000), elastic(10)) for letter in "abcdefghij"), expect="<= 3 % of a core")


def table():
    """Every scenario, in order of importance."""
    return sorted([*mixes(), *limit_grid(), *limit_extras(), *sums(), *paced(), *frameworks(), *single_figures()], key=lambda scenario: scenario.rank)
