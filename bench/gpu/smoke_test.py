# SPDX-License-Identifier: Apache-2.0
"""The whole chain on the simulated GPU: workers, limiters, rows, pages. What is asserted is structure and generous ratios
within one run, never times: the simulated GPU shows that the benchmark works, and nothing about any limiter.

smoke_test.py PROGRAMS SIMULATED     folders of the programs and of the simulated GPU's libraries"""
import json
import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS, SIMULATED = (os.path.abspath(path) for path in sys.argv[1:3]) if __name__ == "__main__" else ("", "")
SHORT = ["--seconds", "0.8", "--warmup", "0.2", "--alone-seconds", "0.5", "--max-drift", "100"]


class Chain(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = folder.name

    def bench(self, *arguments):
        command = [sys.executable, os.path.join(HERE, "bench.py"), "--programs", PROGRAMS, "--simulated", SIMULATED, "--out", self.out, *SHORT, *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    def rows(self):
        with open(os.path.join(self.out, "rows.jsonl")) as file:
            header, *rows = map(json.loads, file)
        return header, {(row["row"], row["limiter"]): row for row in rows}

    def measure(self, limiters, *patterns):
        done = self.bench("--limiters", limiters, *[word for pattern in patterns for word in ("--rows", pattern)])
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return self.rows()[1]

    def test_a_limiter_without_memory_limits_shows_itself_by_the_work(self):
        row = self.measure("none,stop-and-go", "limit/5ms/sync/30")["limit/5ms/sync/30", "stop-and-go"]
        tenant = row["figures"]["tenants"][0]
        self.assertIs(row["control"]["active"], True)
        self.assertGreater(tenant["used_alone"], 50)
        self.assertTrue(0.05 < tenant["gpu_time"] / tenant["used_alone"] < 0.8, tenant)

    def test_two_unmanaged_tenants_share_the_gpu_between_them(self):
        rows = self.measure("none,vgpu", "mix/30-70/5ms/sync")
        unmanaged = rows["mix/30-70/5ms/sync", "none"]["figures"]
        self.assertTrue(40 < unmanaged["sum"] < 115, unmanaged)
        parts = [tenant["percent"] for tenant in unmanaged["tenants"]]
        self.assertTrue(0.4 < parts[0] / parts[1] < 2.5, parts)
        self.assertIn("cuMemGetInfo shows 4096 MiB; 5120 MiB are refused", rows["mix/30-70/5ms/sync", "vgpu"]["control"]["how"])
        self.assertIn("libcuda_limiter.so", rows["mix/30-70/5ms/sync", "vgpu"]["control"]["how"])

    def test_processes_graphs_streams_and_paced_work(self):
        rows = self.measure("vgpu", "limit/processes/queued/30", "limit/1ms/graph/50", "limit/streams/queued/30", "paced/beside-1ms")
        self.assertEqual(len(rows["limit/processes/queued/30", "vgpu"]["tenants"][0]["records"]), 4)
        self.assertEqual(rows["limit/1ms/graph/50", "vgpu"]["tenants"][0]["records"][0]["batch_kernels"], 20)
        for row in rows.values():
            self.assertTrue(row["complete"], row["row"])
            for tenant in row["tenants"]:
                self.assertGreater(sum(tenant["windows"]), 0)
        paced = rows["paced/beside-1ms", "vgpu"]["figures"]
        self.assertLessEqual(paced["alone_p50_us"], paced["alone_p99_us"])
        self.assertLessEqual(paced["p50_us"], paced["p99_us"])

    def test_finished_rows_are_kept_and_pages_written(self):
        self.measure("none", "sum/sync/1ms")
        before = self.rows()
        again = self.bench("--limiters", "none", "--rows", "sum/sync/1ms", "--json")
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertIn("every row is there already", again.stderr)
        self.assertEqual(self.rows(), before)
        self.assertTrue(before[0]["simulated"])
        self.assertTrue(0.6 < before[0]["step_ns"] < 1.7)  # the simulated GPU's step is a nanosecond by definition
        self.assertEqual(json.loads(again.stdout)["rows"][0]["row"], "sum/sync/1ms")
        with open(os.path.join(self.out, "report.html")) as file:
            page = file.read()
        self.assertIn("Simulated GPU: this page shows", page)
        self.assertIn("<svg", page)
        with open(os.path.join(self.out, "summary.md")) as file:
            self.assertIn("| sum/sync/1ms | none |", file.read())

    def test_a_worker_that_cannot_start_is_a_failed_row_with_its_reason(self):
        table = os.path.join(self.out, "broken.json")
        with open(table, "w") as file:
            json.dump({"broken": {"command": ["sh", "-c", "echo no such thing here >&2; exit 3", "sh"]}}, file)
        done = self.bench("--limiters", "broken", "--limiters-file", table, "--rows", "sum/sync/1ms")
        self.assertEqual(done.returncode, 1, done.stderr)
        row = self.rows()[1]["sum/sync/1ms", "broken"]
        self.assertEqual(row["status"], "failed")
        self.assertIn("ended with 3 before it could get ready: no such thing here", row["why"])

    def test_a_budget_leaves_the_rest_for_another_time(self):
        done = self.bench("--limiters", "none", "--rows", "sum/sync/1ms", "--budget-seconds", "0.5")
        self.assertEqual(done.returncode, 75, done.stderr)
        self.assertIn("rows left for the same command: 1", done.stderr)

    def test_without_a_gpu_it_says_so(self):
        command = [sys.executable, os.path.join(HERE, "bench.py"), "--programs", PROGRAMS, "--out", self.out, "--limiters", "none"]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
        self.assertEqual(done.returncode, 77, done.stderr)
        self.assertIn("skipped: no NVIDIA GPU", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
