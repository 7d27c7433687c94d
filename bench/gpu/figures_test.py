# SPDX-License-Identifier: Apache-2.0
"""The arithmetic on runs that are known by construction. No GPU, no processes: python3 -m unittest figures_test"""
import random
import unittest

import figures as f


class Windows(unittest.TestCase):
    def test_coarser_adds_up_and_leaves_out_what_does_not_fill_one(self):
        self.assertEqual(f.coarser([1, 2, 3, 4, 5], 2), [3, 7])
        self.assertEqual(f.coarser([1, 2], 3), [])

    def test_rate_is_work_per_second(self):
        self.assertAlmostEqual(f.rate([5, 5, 10], 0.05), 20 / 0.15)
        self.assertIsNone(f.rate([], 0.05))

    def test_variation_is_standard_deviation_over_mean(self):
        self.assertEqual(f.variation([3, 3, 3]), 0)
        self.assertAlmostEqual(f.variation([0, 2]), 1)
        self.assertIsNone(f.variation([0, 0]))
        self.assertIsNone(f.variation([3]))

    def test_variation_of_full_speed_and_nothing_in_turns(self):
        # On for 3 of 10 windows: sqrt(p (1 - p)) / p.
        self.assertAlmostEqual(f.variation(([1] * 3 + [0] * 7) * 4), (0.21 ** 0.5) / 0.3)

    def test_longest_wait(self):
        self.assertAlmostEqual(f.longest_wait([1, 0, 0, 1, 0], 0.05), 0.1)
        self.assertEqual(f.longest_wait([1, 1], 0.05), 0)


class LimitError(unittest.TestCase):
    def test_gpu_time_is_completed_kernels_times_their_back_to_back_time(self):
        # 3,000 kernels of 100 us in a second: 30 % of it.
        self.assertAlmostEqual(f.gpu_time(3000, 100e-6), 30)

    def test_a_tenant_that_uses_less_than_its_limit_is_not_short_of_it(self):
        # Waits on each kernel and uses 60 % alone: at a limit of 80, 60 is right.
        self.assertEqual(f.limit_error(60, 80, 60), 0)
        self.assertEqual(f.limit_error(50, 80, 60), -10)

    def test_more_than_the_limit_is_above_zero(self):
        self.assertEqual(f.limit_error(82, 30, 100), 52)

    def test_the_gpu_is_busy_for_no_more_than_all_of_the_time(self):
        # Two streams complete 10,500 a second though one kernel takes 100 us.
        self.assertAlmostEqual(f.gpu_time(10500, f.back_to_back(100e-6, 10500)), 100)
        self.assertEqual(f.back_to_back(100e-6, 5000), 100e-6)


class Shares(unittest.TestCase):
    def test_percent_of_the_rate_alone(self):
        self.assertEqual(f.percent_of_alone(23.2, 100), 23.2)

    def test_shares_of_windows(self):
        self.assertEqual(f.shares([5, 10], 0.5, 20), [50, 100])

    def test_worst_deviation_looks_both_ways_and_keeps_the_sign(self):
        self.assertEqual(f.worst_deviation([31, 26, 32], 30), -4)
        self.assertEqual(f.worst_deviation([], 30), 0)

    def test_sum_of_rates(self):
        self.assertAlmostEqual(f.sum_of_rates([43.1, 43.1]), 86.2)

    def test_jain_is_one_when_equal_and_one_nth_when_one_has_all(self):
        self.assertEqual(f.jain([5, 5, 5]), 1)
        self.assertAlmostEqual(f.jain([9, 0, 0]), 1 / 3)
        self.assertIsNone(f.jain([0, 0]))


class Percentiles(unittest.TestCase):
    def test_nearest_rank(self):
        values = list(range(1, 101))
        random.Random(1).shuffle(values)
        self.assertEqual([f.percentile(values, p) for p in (0.1, 50, 99, 99.5, 100)], [1, 50, 99, 100, 100])
        self.assertEqual(f.percentile([7], 99), 7)
        self.assertIsNone(f.percentile([], 50))

    def test_paced_bound(self):
        self.assertEqual(f.paced_bound(252, 1000), 252 + 1000 + 300)
        self.assertEqual(f.paced_bound(252, 10000), 252 + 2050 + 300)


class BesideRunsAlone(unittest.TestCase):
    def test_loss_takes_out_a_steady_drift_of_the_machine(self):
        # The GPU gets slower by 1 % a run; the limiter takes 0.4 %.
        alone = [100, 98, 96]
        limited = [99 * 0.996, 97 * 0.996]
        self.assertAlmostEqual(f.loss(limited, alone), 0.4)

    def test_added_is_the_median_of_differences_with_the_neighbours(self):
        self.assertEqual(f.added([3150, 3250, 9000], [3000, 3100, 3200, 3200]), 100)

    def test_a_missing_run_alone_is_refused(self):
        for figure in (f.loss, f.added):
            with self.assertRaises(ValueError):
                figure([1, 1], [1, 1])

    def test_drift_in_percent(self):
        self.assertAlmostEqual(f.drift(98, 100), 2)
        self.assertEqual(f.drift(0, 0), 0)


class Burst(unittest.TestCase):
    def test_work_at_the_limit_is_never_ahead(self):
        self.assertAlmostEqual(f.burst([30] * 50, 0.01, 100e-6, 30), 0)

    def test_a_burst_of_full_speed_then_the_limit(self):
        # 0.2 s at full speed (ahead by 0.14 s at 30 %), then at the limit.
        self.assertAlmostEqual(f.burst([100] * 20 + [30] * 80, 0.01, 100e-6, 30), 0.14)

    def test_what_is_made_up_for_later_still_was_ahead(self):
        self.assertAlmostEqual(f.burst([100] * 10 + [0] * 90, 0.01, 100e-6, 30), 0.07)


class Response(unittest.TestCase):
    WINDOW = 0.01

    def turns(self, seconds_and_rates, cycle_s=0.05):
        """Windows of a tenant that gets the GPU at full speed for its part of each cycle, as turns do."""
        windows = []
        for seconds, rate in seconds_and_rates:
            for i in range(round(seconds / self.WINDOW)):
                begin = i % round(cycle_s / self.WINDOW) * self.WINDOW
                on = rate / 100 * cycle_s
                windows.append(100 * max(0.0, min(on - begin, self.WINDOW)))
        return windows

    def test_at_once(self):
        self.assertAlmostEqual(f.response(self.turns([(4, 20), (4, 60)]), self.WINDOW, 4), 0, delta=0.02)

    def test_late(self):
        self.assertAlmostEqual(f.response(self.turns([(4.25, 20), (3.75, 60)]), self.WINDOW, 4), 0.25, delta=0.02)

    def test_downwards(self):
        self.assertAlmostEqual(f.response(self.turns([(4.1, 60), (3.9, 20)]), self.WINDOW, 4), 0.1, delta=0.02)

    def test_the_change_need_not_fall_on_a_window(self):
        windows = [20 * self.WINDOW] * 400 + [0.4 * self.WINDOW * 20 + 0.6 * self.WINDOW * 60] + [60 * self.WINDOW] * 399
        self.assertAlmostEqual(f.response(windows, self.WINDOW, 4.004), 0, delta=1e-3)

    def test_no_change_is_no_response(self):
        self.assertIsNone(f.response(self.turns([(8, 20)]), self.WINDOW, 4))

    def test_too_little_to_fit(self):
        self.assertIsNone(f.response([1] * 10, self.WINDOW, 0.09))
        self.assertIsNone(f.response([1] * 10, self.WINDOW, 0.01))


if __name__ == "__main__":
    unittest.main()
