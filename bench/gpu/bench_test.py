# SPDX-License-Identifier: Apache-2.0
"""Tables, evaluation, limiters, resuming and reports, on workers that are made up: a GPU of known behaviour stands in for
the machine. No GPU, no processes: python3 -m unittest bench_test"""
import contextlib
import html.parser
import io
import json
import os
import random
import tempfile
import unittest

import bench
import evaluate
import limiters
import report
import scenarios
import torch_job

MEMORY_MIB = 4096
GPU_BYTES = 140 << 30


class MadeUpMachine:
    """Answers as runner.Machine does. Alone, tenants are busy all of the time; `shares` says what part of it each limiter
    lets tenants have, by limiter and then by quota."""
    gpu = {"gpu": "made up", "uuid": "GPU-0", "cuda": 13000, "total_bytes": GPU_BYTES, "step_ns": 1.0}

    def __init__(self, shares, in_force=True):
        self.shares, self.in_force, self.log = shares, in_force, []
        self.random = random.Random(1)

    def lacks(self, work):
        return None

    def run(self, tenants, limiter, seconds, window_ms=50, tail_s=0, alone=False, change=None, seed=1):
        self.log.append("alone" if alone or tenants[0].name == "alone" else limiter.name)
        outcome = {"tenants": {}}
        if change:
            outcome["change_s"] = change[0] + 0.001
        for tenant in tenants:
            share = 100 if tenant.name == "alone" else self.shares[limiter.name](tenant, len(tenants))
            count = round(seconds * 1000 / window_ms)
            per_window = window_ms * 1e3 / tenant.work.kernel_us * share / 100
            work = [per_window * self.random.uniform(0.999, 1.001) for _ in range(count)]
            if change:
                at = round(change[0] * 1000 / window_ms)
                work[at:] = [value * change[1]["compute"] / tenant.quota.compute for value in work[at:]]
            outcome["tenants"][tenant.name] = self.tenant(tenant, limiter, work, window_ms, share)
        return outcome

    def tenant(self, tenant, limiter, work, window_ms, share):
        limited = limiter.limits and limiter.proof == "memory" and self.in_force
        record = {"total_bytes": MEMORY_MIB << 20 if limited else GPU_BYTES, "probe_code": 2 if limited else 0, "preloaded": ["/x/lib.so"] if limiter.limits else [],
                  "launch_ns": {"p50": 3100 if limiter.limits else 3000, "p99": 5000}}
        return {"work": work, "kernels": [round(value) for value in work], "window_s": window_ms / 1000, "complete": True,
                "latency_us": [220.0 + 10 * (i % 100) * (1 if share == 100 else 20) for i in range(1000)] if tenant.work.mode == "paced" else [],
                "back_to_back_ns": tenant.work.kernel_us * 1e3 * max(tenant.work.graph, 1), "other_threads_cpu": 0.5 if limiter.limits else 0.1, "records": [record]}


def owed(tenant, count):
    return tenant.quota.compute or 100


def evenly(tenant, count):
    return 90 / count


def options(*arguments):
    chosen = bench.parse(["--seconds", "2", "--warmup", "0.5", "--alone-seconds", "1", *arguments])
    chosen.memory_mib = MEMORY_MIB
    return chosen


def limiter(name, **fields):
    return limiters.Limiter(name, fields, {})


class Bench(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.none, self.good, self.poor = limiter("none"), limiter("good", command=["x"], change=["y"]), limiter("poor", command=["x"])

    def measure(self, machine, rows, names, *arguments, available=None):
        chosen_options = options("--out", self.folder, *arguments)
        store = bench.Rows(self.folder)
        store.begin(bench.header(chosen_options, machine))
        with contextlib.redirect_stderr(io.StringIO()) as said:
            left = bench.Bench(chosen_options, machine, store).measure([row for row in scenarios.table() if row.name in names], available or rows)
        return store, left, said.getvalue()

    def machine(self, **more):
        return MadeUpMachine({"none": evenly, "good": owed, "poor": evenly}, **more)


class Evaluation(Bench):
    def figures(self, row, which, machine=None):
        store, _, _ = self.measure(machine or self.machine(), [which], {row})
        return store.rows[row, which.name]

    def test_a_limit_that_holds_meets_its_targets(self):
        row = self.figures("limit/100us/queued/30", self.good)
        self.assertAlmostEqual(row["figures"]["error"], 0, delta=0.1)
        self.assertEqual([verdict["met"] for verdict in row["verdicts"]], [True, True])

    def test_a_limit_that_does_not_hold_is_off_by_what_it_lets_through(self):
        row = self.figures("limit/100us/queued/30", self.poor)
        self.assertAlmostEqual(row["figures"]["error"], 60, delta=0.1)
        self.assertFalse(row["verdicts"][0]["met"])

    def test_graphs_are_counted_in_kernels(self):
        self.assertAlmostEqual(self.figures("limit/1ms/graph/50", self.good)["figures"]["error"], 0, delta=0.1)

    def test_a_graph_that_is_waited_for_uses_less_than_all_of_the_time(self):
        # 300 kernels of 1 ms in a second, by graphs of 20 that take 20 ms back to back.
        run = {"work": [15] * 20, "window_s": 0.05, "latency_us": [], "back_to_back_ns": 20e6, "records": [{"launch_ns": {"p50": 1}}]}
        alone = evaluate.alone_figures(run, scenarios.Work("sync", 1000, graph=20), 0)
        self.assertAlmostEqual(alone["used"], 30)

    def test_long_kernels_are_not_judged_by_steadiness(self):
        self.assertEqual([verdict["what"] for verdict in self.figures("limit/20ms/sync/30", self.good)["verdicts"]], ["error"])

    def test_mixes(self):
        good, poor = (self.figures("mix/30-70/100us/queued", which) for which in (self.good, self.poor))
        self.assertTrue(all(verdict["met"] for verdict in good["verdicts"]))
        self.assertAlmostEqual(poor["figures"]["deviation"], -25, delta=0.1)
        self.assertAlmostEqual(poor["figures"]["sum"], 90, delta=0.1)
        self.assertLess(poor["figures"]["jain"], good["figures"]["jain"])

    def test_mixes_with_long_kernels_have_wider_targets(self):
        targets = lambda row: [verdict["target"] for verdict in self.figures(row, self.good)["verdicts"]][:2]
        self.assertEqual(targets("mix/30-70/100us/queued"), [1.0, 3.0])
        self.assertEqual(targets("mix/30-70/50ms-0.1ms/queued"), [1.5, 5.0])

    def test_sums(self):
        self.assertTrue(self.figures("sum/sync/1ms", self.good)["verdicts"][0]["met"])
        self.assertFalse(self.figures("sum/sync/1ms", self.poor)["verdicts"][0]["met"])

    def test_launch_bound_sums_are_held_against_the_same_unmanaged(self):
        machine = self.machine()
        row = self.figures("sum/launch-bound/10us-30us", self.good, machine)
        self.assertAlmostEqual(row["figures"]["unmanaged_sum"], 90, delta=0.1)
        self.assertAlmostEqual(row["figures"]["of_unmanaged"], 100 * 100 / 90, delta=0.2)
        self.assertEqual(machine.log, ["none", "alone", "good", "none", "alone"])

    def test_paced(self):
        row = self.figures("paced/beside-1ms", self.poor)
        self.assertAlmostEqual(row["figures"]["bound_us"], row["figures"]["alone_p99_us"] + 1000 + 300)
        self.assertEqual(row["verdicts"][0]["met"], row["figures"]["p99_us"] <= row["figures"]["bound_us"])
        self.assertFalse(row["verdicts"][0]["met"])

    def test_latencies_of_the_warm_up_do_not_count(self):
        tenant = {"latency_us": [9000.0] * 250 + [220.0] * 1000}
        self.assertEqual(max(evaluate.latencies_of(tenant, scenarios.Work("paced", 200, period_us=2000), 0.5)), 220)

    def test_loss_launch_and_cpu(self):
        self.assertAlmostEqual(self.figures("loss/1ms/queued", self.good)["figures"]["loss"], 0, delta=0.1)
        self.assertAlmostEqual(self.figures("launch/limited", self.good)["figures"]["added_ns"], 100)
        self.assertFalse(self.figures("launch/no-limit", self.good)["verdicts"][0]["met"])
        self.assertAlmostEqual(self.figures("cpu/idle", self.good)["figures"]["added"], 0.4)

    def test_change_at_once(self):
        row = self.figures("change/20-60", self.good)
        self.assertAlmostEqual(row["figures"]["response_ms"], 0, delta=5)
        self.assertAlmostEqual(row["figures"]["after"], 60, delta=0.1)
        self.assertTrue(row["verdicts"][0]["met"])


class Control(Bench):
    def test_a_limiter_that_was_not_in_force_does_not_count(self):
        store, _, said = self.measure(self.machine(in_force=False), [self.good], {"limit/100us/queued/30"})
        row = store.rows["limit/100us/queued/30", "good"]
        self.assertIs(row["control"]["active"], False)
        self.assertIn("NOT IN FORCE", said)
        summary = report.summarise(store.header, list(store.rows.values()))
        self.assertEqual((summary["rows"], summary["left_out"]), ([], [row]))
        self.assertEqual(bench.status(store, [s for s in scenarios.table() if s.name == row["row"]], [self.good], options(), 0), bench.EXIT_FAILED)

    def test_a_limit_on_a_run_without_limiter_shows(self):
        active, _ = evaluate.control(self.none, None, {"tenants": {"a": {"records": [{"total_bytes": GPU_BYTES, "probe_code": 2}]}}}, MEMORY_MIB, GPU_BYTES, {})
        self.assertFalse(active)

    def test_proof_by_share(self):
        duty = limiter("good", command=["x"], proof="share")
        proof = lambda row, machine: self.measure(machine, [duty], {row})[0].rows[row, "good"]["control"]["active"]
        self.assertIs(proof("limit/100us/queued/30", self.machine()), True)
        self.assertIs(proof("limit/100us/queued/50", MadeUpMachine({"good": lambda tenant, count: 100})), False)
        self.assertIsNone(proof("sum/sync/1ms", self.machine()))


class TorchJob(unittest.TestCase):
    def test_steps_are_credited_to_the_time_in_which_they_were_done(self):
        steps = torch_job.Steps()
        steps.done_ns = [100, 150, 175, 420, 900]
        windows = steps.windows(start_ns=0, window_ns=100, count=4)
        self.assertEqual(windows, [1.0, 2 + 25 / 245, 100 / 245, 100 / 245])
        steps.done_ns = list(range(7, 1000, 7))
        self.assertAlmostEqual(sum(steps.windows(0, 100, 9)), 900 / 7)


class Order(Bench):
    ROWS = {"mix/30-70/100us/queued", "sum/sync/1ms"}

    def test_runs_alone_lie_around_each_run_and_are_shared_by_neighbours(self):
        machine = self.machine()
        self.measure(machine, [self.none, self.good, self.poor], {"sum/sync/1ms"})
        self.assertEqual([name == "alone" for name in machine.log], [True, False] * 3 + [True])
        self.assertEqual(sorted(name for name in machine.log if name != "alone"), ["good", "none", "poor"])

    def test_limits_of_the_same_work_share_the_runs_alone_between_them(self):
        machine = self.machine()
        self.measure(machine, [self.good], {"limit/1ms/sync/10", "limit/1ms/sync/50", "limit/1ms/sync/80", "limit/1ms/queued/10"})
        self.assertEqual(machine.log, ["alone", "good", "alone"] + ["alone"] + ["good", "alone"] * 3)

    def test_rounds_alternate(self):
        machine = self.machine()
        self.measure(machine, [self.good], {"loss/1ms/queued"})
        self.assertEqual(machine.log, ["alone", "good"] * 3 + ["alone"])

    def test_no_limiter_always_comes_first(self):
        machine = self.machine()
        self.measure(machine, [self.good, self.poor], {row.name for row in scenarios.table() if row.kind == "sum"})
        runs = [name for name in machine.log if name != "alone"]
        self.assertEqual(set(runs[::2]), {"good", "poor"})

    def test_finished_rows_are_not_measured_again(self):
        self.measure(self.machine(), [self.good], {"sum/sync/1ms"})
        machine = self.machine()
        store, _, _ = self.measure(machine, [self.good], self.ROWS)
        self.assertEqual(machine.log.count("good"), 1)
        self.assertEqual(len(store.rows), 2)

    def test_a_row_that_is_asked_for_again_replaces_the_first(self):
        self.measure(MadeUpMachine({"good": evenly}), [self.good], {"limit/100us/queued/30"})
        store, _, _ = self.measure(self.machine(), [self.good], {"limit/100us/queued/30"}, "--redo")
        again = bench.Rows(self.folder).rows["limit/100us/queued/30", "good"]
        self.assertEqual(again, store.rows["limit/100us/queued/30", "good"])
        self.assertAlmostEqual(again["figures"]["error"], 0, delta=0.1)

    def test_a_row_that_was_cut_off_is_measured_again(self):
        self.measure(self.machine(), [self.good], self.ROWS)
        path = os.path.join(self.folder, "rows.jsonl")
        with open(path) as file:
            text = file.read()
        with open(path, "w") as file:
            file.write(text[:-200])
        self.assertEqual(len(bench.Rows(self.folder).rows), 1)

    def test_rows_of_another_gpu_are_not_mixed_in(self):
        self.measure(self.machine(), [self.good], {"sum/sync/1ms"})
        other = self.machine()
        other.gpu = {**other.gpu, "gpu": "another"}
        with self.assertRaises(bench.Usage):
            self.measure(other, [self.good], {"sum/sync/1ms"})

    def test_a_budget_leaves_rows_over(self):
        store, left, _ = self.measure(self.machine(), [self.good], self.ROWS, "--budget-seconds", "0.1")
        self.assertEqual((len(store.rows), left), (0, 2))

    def test_exit_status(self):
        chosen = [row for row in scenarios.table() if row.name == "limit/100us/queued/30"]
        for which, check, left, expected in ((self.good, "good", 0, bench.EXIT_OK), (self.poor, "poor", 0, bench.EXIT_MISSED), (self.poor, None, 0, bench.EXIT_OK),
                                             (self.good, "good", 3, bench.EXIT_LEFT)):
            store, _, _ = self.measure(self.machine(), [which], {chosen[0].name})
            wanted = options(*(["--check", check] if check else []))
            self.assertEqual(bench.status(store, chosen, [which], wanted, left), expected)

    def test_a_gpu_that_others_use_is_noticed(self):
        for held, words in ((600 << 20, ""), (9 << 30, "9216 MiB of the GPU are held")):
            with contextlib.redirect_stderr(io.StringIO()) as said:
                bench.warn_of_neighbours({"total_bytes": GPU_BYTES, "free_bytes": GPU_BYTES - held})
            self.assertIn(words, said.getvalue())
            self.assertEqual(bool(said.getvalue()), bool(words))

    def test_work_that_cannot_be_done_here_is_skipped_with_a_word(self):
        machine = self.machine()
        machine.lacks = lambda work: "PyTorch isn't installed" if work.torch_job else None
        rows, _, _ = self.measure(machine, [self.good], {"sum/torch/train-graph", "sum/sync/1ms"})
        self.assertEqual(rows.rows["sum/torch/train-graph", "good"]["status"], "skipped")
        self.assertEqual(rows.rows["sum/torch/train-graph", "good"]["why"], "PyTorch isn't installed")
        self.assertEqual(rows.rows["sum/sync/1ms", "good"]["status"], "measured")

    def test_what_a_limiter_cannot_do_is_skipped_with_a_word(self):
        store, _, said = self.measure(self.machine(), [self.poor], {"change/20-60"})
        self.assertEqual(store.rows["change/20-60", "poor"]["status"], "skipped")
        self.assertIn("can't change", said)

    def test_every_scenario_can_be_measured_and_shown(self):
        names = {row.name for row in scenarios.table()}
        self.assertEqual(len(names), len(scenarios.table()))
        store, _, _ = self.measure(self.machine(), [self.none, self.good, self.poor], names)
        self.assertEqual({row["status"] for row in store.rows.values()}, {"measured", "skipped"})
        summary = report.summarise(store.header, list(store.rows.values()))
        self.assertEqual(len(summary["table"]), len(report.MEASURES))
        page = report.html(summary)
        reader = WellFormed()
        reader.feed(page)
        self.assertEqual(reader.open, [])
        for word in ("http://", "https://", "<script", "<link", "@import", "{{"):
            self.assertNotIn(word, page)
        self.assertGreater(page.count("<svg"), 40)
        self.assertIn("| Compute limit, one tenant: mean error |", report.markdown(summary))
        json.dumps(report.without_curves(summary))


class WellFormed(html.parser.HTMLParser):
    """Fails on a tag that is closed out of turn."""
    VOID = {"meta", "br"}

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if self.open.pop() != tag:
            raise AssertionError(f"</{tag}> closes nothing")


class Limiters(unittest.TestCase):
    TABLE = limiters.read([os.path.join(os.path.dirname(os.path.abspath(__file__)), "limiters.json")])

    def wrap(self, name, quota, **values):
        one = limiters.Limiter(name, self.TABLE[name], {"vgpu": "/bin/vgpu", "library": "/l.so", "python": "python3", "here": "/here", **values})
        return one.wrap(["work"], quota, name="t", memory_mib=4096, gpu="GPU-1", state="/s")

    def test_without_a_limiter_the_command_is_left_alone(self):
        self.assertEqual(self.wrap("none", {"compute": 30}), ["work"])

    def test_options_without_a_value_are_left_out(self):
        start = ["/bin/vgpu", "run", "--quiet", "--name", "t", "--gpu", "GPU-1", "--memory", "4096MiB"]
        self.assertEqual(self.wrap("vgpu", {"compute": 30, "policy": "fixed", "priority": None}), start + ["--compute", "30", "--policy", "fixed", "--", "work"])
        self.assertEqual(self.wrap("vgpu", {"compute": None}), start + ["--", "work"])

    def test_variables_and_preload_reach_the_worker_alone(self):
        words = self.wrap("hami", {"compute": 30})
        self.assertEqual((words[0], words[-1]), ("env", "work"))
        self.assertIn("LD_PRELOAD=/l.so", words)
        self.assertIn("CUDA_DEVICE_SM_LIMIT=30", words)
        self.assertFalse([word for word in self.wrap("hami", {"compute": None}) if "SM_LIMIT" in word])

    def test_a_limiter_like_another_changes_only_what_it_says(self):
        words = self.wrap("vgpu-manager-aimd", {"compute": 30})
        self.assertIn("CUDA_SM_CONTROLLER=aimd", words)
        self.assertIn("CUDA_CORE_LIMIT=30", words)
        self.assertEqual(words[0], "unshare")

    def test_what_is_missing_is_said(self):
        self.assertIn("--library hami=PATH", limiters.Limiter("hami", self.TABLE["hami"], {}).missing())
        self.assertIn("there is no /gone", limiters.Limiter("hami", self.TABLE["hami"], {"library": "/gone"}).missing())

    def test_a_field_that_does_not_exist_is_refused(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write('{"x": {"comand": []}}')
            file.flush()
            with self.assertRaisesRegex(limiters.BadLimiter, "comand"):
                limiters.read([file.name])


class Command(unittest.TestCase):
    def status(self, *arguments):
        with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
            try:
                return bench.main(list(arguments)), said.getvalue()
            except SystemExit as end:
                return end.code, said.getvalue()

    def test_mistakes_are_usage(self):
        with tempfile.TemporaryDirectory() as folder:
            programs = ["--programs", folder]
            os.symlink("/bin/true", os.path.join(folder, "workload"))
            for arguments, words in ((["--programs", "/nowhere"], "program workload"), (["--limiters", "nobody", *programs], "no limiter is called nobody"),
                                     (["--limiters", "hami", *programs], "--library hami=PATH"), (["--rows", "nothing/*", *programs], "no row matches"),
                                     (["--limiters", "none", "--check", "vgpu", *programs], "--check vgpu"), (["--seconds", "0"], "above zero"),
                                     (["--report-only", "--out", "/nowhere"], "there is no"), (["--nonsense"], "unrecognized")):
                code, said = self.status(*arguments)
                self.assertEqual(code, bench.EXIT_USAGE, arguments)
                self.assertIn(words, said)


if __name__ == "__main__":
    unittest.main()
