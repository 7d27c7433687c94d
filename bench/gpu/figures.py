# SPDX-License-Identifier: Apache-2.0
"""The benchmark's arithmetic: from completed work per window to the figures that are reported. Pure functions of numbers.

Words as in the README: a *rate* is completed work per second, in kernels of the nominal duration. *Back-to-back time* is
what one such kernel takes alone when launches follow each other without a pause, in seconds. *Alone* means alone on the
GPU and unlimited. *Points* are percent of wall time, or of the rate alone. Windows are lists of work, one entry a window.
"""
import math
import statistics


def mean(values):
    return sum(values) / len(values) if values else None


def coarser(windows, factor):
    """Windows of `factor` windows each; what doesn't fill one at the end is left out."""
    return [sum(windows[i:i + factor]) for i in range(0, len(windows) - factor + 1, factor)]


def rate(windows, window_s):
    """Work per second over all of the windows."""
    return sum(windows) / (len(windows) * window_s) if windows else None


def gpu_time(work_rate, back_to_back_s):
    """GPU time in points of wall time: completed kernels times their back-to-back time alone."""
    return 100 * work_rate * back_to_back_s


def back_to_back(measured_s, alone_rate):
    """Back-to-back time in seconds. Kernels of several streams overlap at their edges, so that a run alone may complete
    more than one stream's back-to-back time would allow; the GPU is never busy for more than all of the time."""
    return min(measured_s, 1 / alone_rate) if alone_rate else measured_s


def limit_error(got, limit, used_alone):
    """GPU time got - min(limit, GPU time used alone), in points of wall time; above zero: more than the limit."""
    return got - min(limit, used_alone)


def percent_of_alone(work_rate, alone_rate):
    """Completed work over the same work's rate alone and unlimited, in percent."""
    return 100 * work_rate / alone_rate


def shares(windows, window_s, alone_rate):
    """Percent of the rate alone, for each window."""
    return [percent_of_alone(work / window_s, alone_rate) for work in windows]


def worst_deviation(values, owed):
    """The value farthest from what is owed, less what is owed; 0 of none."""
    return max((value - owed for value in values), key=abs, default=0.0)


def variation(windows):
    """Coefficient of variation: standard deviation of the windows over their mean. None of fewer than two windows, or where
    nothing was completed."""
    average = mean(windows)
    return statistics.pstdev(windows) / average if average and len(windows) > 1 else None


def sum_of_rates(percents):
    """What tenants completed together, in percent of one alone: the sum of each one's percent of its own rate alone."""
    return sum(percents)


def percentile(values, percent):
    """By nearest rank: the least value that so many percent of the values don't exceed. None of none."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def loss(limited_rates, alone_rates):
    """Percent of the rate alone that is lost in runs that lie between runs alone (one more of these than of those)."""
    if len(alone_rates) != len(limited_rates) + 1:
        raise ValueError("each limited run needs a run alone before it and one after it")
    around = [(before + after) / 2 for before, after in zip(alone_rates, alone_rates[1:])]
    return 100 * (1 - statistics.median(limited / alone for limited, alone in zip(limited_rates, around)))


def added(limited, alone):
    """What a limiter adds: the median of the differences between its runs and the mean of their neighbours alone."""
    if len(alone) != len(limited) + 1:
        raise ValueError("each limited run needs a run alone before it and one after it")
    around = [(before + after) / 2 for before, after in zip(alone, alone[1:])]
    return statistics.median(value - base for value, base in zip(limited, around))


def drift(before, after):
    """By how many percent two runs of the same thing differ."""
    return 100 * abs(before - after) / max(before, after) if before or after else 0.0


def longest_wait(windows, window_s):
    """The longest time in seconds without any completed work."""
    longest = here = 0
    for work in windows:
        here = 0 if work > 0 else here + 1
        longest = max(longest, here)
    return longest * window_s


def burst(windows, window_s, back_to_back_s, limit):
    """The most GPU time, in seconds, by which the windows up to any instant pass `limit` percent of the time up to it."""
    most = ahead = 0.0
    for work in windows:
        ahead += work * back_to_back_s - limit / 100 * window_s
        most = max(most, ahead)
    return most


def response(windows, window_s, change_s, settle_s=1.0):
    """How long after `change_s` a change of the rate took effect, in seconds: completed work over time is one straight
    line before and another one after, and this is where they meet. Independent of turns and of how long a kernel is. The
    line before is fitted to what lies before the change, the line after to what lies `settle_s` behind it. None if the
    rates are the same, or there is too little to fit."""
    first = int(change_s / window_s)
    settled = math.ceil((change_s + settle_s) / window_s)
    if first < 2 or len(windows) - settled < 2:
        return None
    done = [0.0]
    for work in windows:
        done.append(done[-1] + work)
    rate_before, at_zero = line([i * window_s for i in range(first + 1)], done[:first + 1])
    rate_after, at_zero_after = line([i * window_s for i in range(settled, len(done))], done[settled:])
    if abs(rate_after - rate_before) < 0.05 * max(rate_after, rate_before, 1e-12):
        return None
    return (at_zero - at_zero_after) / (rate_after - rate_before) - change_s


def line(xs, ys):
    """Slope and value at zero of the least-squares line."""
    middle_x, middle_y = mean(xs), mean(ys)
    slope = sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys)) / sum((x - middle_x) ** 2 for x in xs)
    return slope, middle_y - slope * middle_x


def paced_bound(alone_p99_us, longest_kernel_us, slice_us=2050, allowance_us=300):
    """The p99 that is due to a paced tenant beside others: alone + min(longest kernel in flight, 2.05 ms) + 0.3 ms."""
    return alone_p99_us + min(longest_kernel_us, slice_us) + allowance_us


def jain(values):
    """Jain's index of fairness: 1 when all are equal, 1/n when one has everything."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else None
