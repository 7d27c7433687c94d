# SPDX-License-Identifier: Apache-2.0
"""From the records of one row to its figures, and from its figures to verdicts. Pure: no files, no processes, no clock."""
import figures as f

# What is to be reached (docs: README.md, "Targets").
TARGETS = {
    "limit_error_points": 2.0, "limit_error_mean_points": 1.0, "variation_alone": 0.05, "variation_mix": 0.1, "mix_points": 1.0, "mix_second_points": 3.0,
    "mix_long_points": 1.5, "mix_long_second_points": 5.0, "sum_percent": 97.0, "sum_of_unmanaged_percent": 97.0, "loss_percent": 0.5,
    "launch_no_limit_ns": 50.0, "launch_limited_ns": 150.0, "response_ms": 100.0, "burst_ms": 100.0, "cpu_idle_percent": 1.0, "cpu_ten_percent": 3.0,
}
LONG_KERNEL_US = 50_000     # mixes with these have the wider targets
STEADY_KERNEL_US = 5_000    # steadiness is judged up to here
MANY_TENANTS = 5            # from here on, steadiness is judged over windows of 1 s


def verdict(what, value, target, unit, at_least=False):
    met = None if value is None else bool(value >= target if at_least else value <= target)
    return {"what": what, "value": value, "target": target, "unit": unit, "at_least": at_least, "met": met}


def windows_of(tenant, skip_s, of_s=None):
    """A tenant's windows after `skip_s`, made coarser to `of_s` seconds."""
    windows = tenant["work"][round(skip_s / tenant["window_s"]):]
    return windows if of_s is None else f.coarser(windows, max(1, round(of_s / tenant["window_s"])))


def tenant_rate(tenant, skip_s):
    return f.rate(windows_of(tenant, skip_s), tenant["window_s"])


def latencies_of(tenant, work, skip_s):
    """Of the kernels that were due after `skip_s`, in the order in which they were."""
    return tenant["latency_us"][int(skip_s * 1e6 / work.period_us):]


def alone_figures(tenant, work, skip_s):
    """What a run alone and unlimited says about one kind of work."""
    rate = tenant_rate(tenant, skip_s)
    measured_s = tenant["back_to_back_ns"] / 1e9 / max(work.graph, 1)
    back_to_back_s = f.back_to_back(measured_s, rate) if measured_s else None
    latencies = latencies_of(tenant, work, skip_s)
    return {
        "rate": rate, "back_to_back_s": back_to_back_s, "used": f.gpu_time(rate, back_to_back_s) if back_to_back_s else None,
        "p50_us": f.percentile(latencies, 50), "p99_us": f.percentile(latencies, 99), "launch_ns": tenant["records"][0]["launch_ns"]["p50"],
    }


def between(alone_runs, name):
    return f.mean([run[name] for run in alone_runs if run[name] is not None])


def drift(scenario, alone_by_work):
    """The most, in percent, by which neighbouring runs alone differ in what the row is about."""
    name = "launch_ns" if scenario.kind == "launch" else "rate"
    pairs = [(before[name], after[name]) for runs in alone_by_work.values() for before, after in zip(runs, runs[1:])]
    return max((f.drift(before, after) for before, after in pairs), default=0.0)


def evaluate(scenario, runs, alone_by_work, unmanaged, skip_s):
    """Figures and verdicts of a row. `runs`: outcomes of its rounds, `alone_by_work`: {work: figures of the runs alone, one
    more than rounds}, `unmanaged`: outcomes of the same tenants without a limiter, where the kind wants them."""
    return KINDS[scenario.kind](scenario, runs, alone_by_work, unmanaged, skip_s)


def shared_figures(scenario, outcome, alone_by_work, skip_s):
    """For each tenant: what it got, in percent of the rate alone and in GPU time."""
    out = []
    for tenant in scenario.tenants:
        run, alone = outcome["tenants"][tenant.name], alone_by_work[tenant.work]
        rate, alone_rate, back_to_back_s = tenant_rate(run, skip_s), between(alone, "rate"), between(alone, "back_to_back_s")
        fine = windows_of(run, skip_s)
        out.append({
            "name": tenant.name, "owed": tenant.quota.compute, "rate": rate, "alone_rate": alone_rate, "back_to_back_s": back_to_back_s,
            "percent": f.percent_of_alone(rate, alone_rate),
            "gpu_time": f.gpu_time(rate, back_to_back_s) if back_to_back_s else None, "used_alone": between(alone, "used"),
            "seconds": [round(value, 3) for value in f.shares(windows_of(run, skip_s, 1.0), 1.0, alone_rate)],
            "variation": f.variation(windows_of(run, skip_s, 0.25)), "variation_1s": f.variation(windows_of(run, skip_s, 1.0)),
            "longest_wait_ms": 1e3 * f.longest_wait(fine, run["window_s"]),
        })
    return out


def judge_limit(scenario, runs, alone_by_work, unmanaged, skip_s):
    tenant = shared_figures(scenario, runs[-1], alone_by_work, skip_s)[0]
    error = f.limit_error(tenant["gpu_time"], scenario.tenants[0].quota.compute, tenant["used_alone"])
    verdicts = [verdict("error", abs(error), TARGETS["limit_error_points"], "points")]
    if scenario.tenants[0].work.kernel_us <= STEADY_KERNEL_US:
        verdicts.append(verdict("variation, 250 ms", tenant["variation"], TARGETS["variation_alone"], ""))
    return {"tenants": [tenant], "error": error}, verdicts


def judge_mix(scenario, runs, alone_by_work, unmanaged, skip_s):
    tenants = shared_figures(scenario, runs[-1], alone_by_work, skip_s)
    kernels = [tenant.work.kernel_us for tenant in scenario.tenants]
    long_kernels = max(kernels) >= LONG_KERNEL_US
    for tenant in tenants:
        tenant["deviation"] = tenant["percent"] - tenant["owed"]
        tenant["second_deviation"] = f.worst_deviation(tenant["seconds"], tenant["owed"])
    worst = max((tenant["deviation"] for tenant in tenants), key=abs)
    worst_second = max((tenant["second_deviation"] for tenant in tenants), key=abs)
    verdicts = [verdict("off its share", abs(worst), TARGETS["mix_long_points" if long_kernels else "mix_points"], "points"),
                verdict("in any second", abs(worst_second), TARGETS["mix_long_second_points" if long_kernels else "mix_second_points"], "points")]
    if max(kernels) <= STEADY_KERNEL_US:
        many = len(tenants) >= MANY_TENANTS
        steadiness = [tenant["variation_1s" if many else "variation"] for tenant in tenants]
        verdicts.append(verdict(f"variation, {'1 s' if many else '250 ms'}", None if None in steadiness else max(steadiness), TARGETS["variation_mix"], ""))
    total = f.sum_of_rates([tenant["percent"] for tenant in tenants])
    fair = f.jain([tenant["percent"] / tenant["owed"] for tenant in tenants])
    return {"tenants": tenants, "deviation": worst, "second_deviation": worst_second, "sum": total, "jain": fair}, verdicts


def judge_sum(scenario, runs, alone_by_work, unmanaged, skip_s):
    tenants = shared_figures(scenario, runs[-1], alone_by_work, skip_s)
    total = f.sum_of_rates([tenant["percent"] for tenant in tenants])
    return {"tenants": tenants, "sum": total}, [verdict("together", total, TARGETS["sum_percent"], "% of one alone", at_least=True)]


def judge_sum_unmanaged(scenario, runs, alone_by_work, unmanaged, skip_s):
    figures, _ = judge_sum(scenario, runs, alone_by_work, unmanaged, skip_s)
    sums = [f.sum_of_rates([tenant["percent"] for tenant in shared_figures(scenario, outcome, alone_by_work, skip_s)]) for outcome in unmanaged]
    if not sums:  # the row is the unmanaged one
        return figures, []
    figures["unmanaged_sum"] = f.mean(sums)
    figures["of_unmanaged"] = 100 * figures["sum"] / figures["unmanaged_sum"]
    return figures, [verdict("together", figures["of_unmanaged"], TARGETS["sum_of_unmanaged_percent"], "% of unmanaged", at_least=True)]


def judge_paced(scenario, runs, alone_by_work, unmanaged, skip_s):
    tenants = shared_figures(scenario, runs[-1], alone_by_work, skip_s)
    chat = scenario.tenants[0]
    latencies = latencies_of(runs[-1]["tenants"][chat.name], chat.work, skip_s)
    alone_p99 = between(alone_by_work[chat.work], "p99_us")
    longest_us = max(tenant.work.kernel_us for tenant in scenario.tenants[1:])
    bound = f.paced_bound(alone_p99, longest_us)
    figures = {
        "tenants": tenants, "p50_us": f.percentile(latencies, 50), "p99_us": f.percentile(latencies, 99), "max_us": max(latencies, default=None), "alone_p99_us": alone_p99,
        "alone_p50_us": between(alone_by_work[chat.work], "p50_us"), "bound_us": bound, "cdf_us": [f.percentile(latencies, p) for p in CDF_PERCENTS] if latencies else [],
    }
    return figures, [verdict("p99", figures["p99_us"], bound, "us")]


CDF_PERCENTS = [0.1, 1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 93, 95, 97, 98, 99, 99.5, 99.9, 100]


def judge_loss(scenario, runs, alone_by_work, unmanaged, skip_s):
    tenants = shared_figures(scenario, runs[-1], alone_by_work, skip_s)
    tenant = scenario.tenants[0]
    lost = f.loss([tenant_rate(run["tenants"][tenant.name], skip_s) for run in runs], [run["rate"] for run in alone_by_work[tenant.work]])
    return {"tenants": tenants, "loss": lost}, [verdict("loss", lost, TARGETS["loss_percent"], "% of the rate alone")]


def judge_launch(scenario, runs, alone_by_work, unmanaged, skip_s):
    tenant = scenario.tenants[0]
    launches = [run["tenants"][tenant.name]["records"][0]["launch_ns"] for run in runs]
    alone = [run["launch_ns"] for run in alone_by_work[tenant.work]]
    added = f.added([launch["p50"] for launch in launches], alone)
    figures = {"added_ns": added, "alone_ns": f.mean(alone), "p50_ns": f.mean([launch["p50"] for launch in launches]), "p99_ns": f.mean([launch["p99"] for launch in launches])}
    target = TARGETS["launch_limited_ns" if tenant.quota.compute else "launch_no_limit_ns"]
    return figures, [verdict("added to a launch, p50", added, target, "ns")]


def judge_change(scenario, runs, alone_by_work, unmanaged, skip_s):
    tenant, run = scenario.tenants[0], runs[-1]["tenants"][scenario.tenants[0].name]
    change_s = runs[-1]["change_s"]
    begin = round(skip_s / run["window_s"])
    took = f.response(run["work"][begin:], run["window_s"], change_s - begin * run["window_s"])
    back_to_back_s = between(alone_by_work[tenant.work], "back_to_back_s")
    halves = {"before": run["work"][begin:int(change_s / run["window_s"])], "after": run["work"][int((change_s + 1) / run["window_s"]):]}
    figures = {"response_ms": None if took is None else 1e3 * took, "change_s": change_s, "asked_before": tenant.quota.compute, "asked_after": scenario.change[1]}
    for name, windows in halves.items():
        figures[name] = f.gpu_time(f.rate(windows, run["window_s"]), back_to_back_s)
    # Early counts like late: the line of a rate that overshoots meets the other one too soon.
    outcome = verdict("effective after", None if took is None else abs(figures["response_ms"]), TARGETS["response_ms"], "ms")
    return figures, [{**outcome, "met": bool(outcome["met"])}]


def judge_burst(scenario, runs, alone_by_work, unmanaged, skip_s):
    tenant, run = scenario.tenants[0], runs[-1]["tenants"][scenario.tenants[0].name]
    resumed = round((tenant.work.pause_from + tenant.work.pause) / run["window_s"])
    windows = run["work"][resumed:resumed + round(5 / run["window_s"])]
    back_to_back_s = between(alone_by_work[tenant.work], "back_to_back_s")
    ahead = f.burst(windows, run["window_s"], back_to_back_s, tenant.quota.compute)
    got = f.gpu_time(f.rate(windows, run["window_s"]), back_to_back_s)
    return {"burst_ms": 1e3 * ahead, "got_first_5s": got, "limit": tenant.quota.compute}, [verdict("ahead of the limit by", 1e3 * ahead, TARGETS["burst_ms"], "ms of GPU time")]


def judge_cpu(scenario, runs, alone_by_work, unmanaged, skip_s):
    of = lambda outcome: sum(tenant["other_threads_cpu"] for tenant in outcome["tenants"].values())
    with_limiter = of(runs[-1])
    if not unmanaged:
        return {"cpu": with_limiter}, []
    without = f.mean([of(outcome) for outcome in unmanaged])
    target = TARGETS["cpu_ten_percent" if len(scenario.tenants) > 1 else "cpu_idle_percent"]
    figures = {"cpu": with_limiter, "cpu_unmanaged": without, "added": with_limiter - without}
    return figures, [verdict("CPU of other threads, added", figures["added"], target, "% of a core")]


KINDS = {"limit": judge_limit, "mix": judge_mix, "sum": judge_sum, "sum_unmanaged": judge_sum_unmanaged, "paced": judge_paced, "loss": judge_loss, "launch": judge_launch,
         "change": judge_change, "burst": judge_burst, "cpu": judge_cpu}
WANT_UNMANAGED = {"sum_unmanaged", "cpu"}   # the same tenants without a limiter, beside each run
WANT_NO_ALONE = {"cpu"}


def control(limiter, scenario, outcome, memory_mib, gpu_bytes, figures):
    """Whether the limiter was in force in this run: (active, how that shows). Without a limiter: whether there was none.
    None for `active`: nothing in this row could show it."""
    records = [record for tenant in outcome["tenants"].values() for record in tenant["records"]]
    limit_bytes = memory_mib << 20
    shown = all(record["total_bytes"] <= 1.02 * limit_bytes for record in records)
    refused = all(record["probe_code"] > 0 for record in records)
    if not limiter.limits:
        free = all(record["total_bytes"] == gpu_bytes and record["probe_code"] == 0 for record in records)
        return free, "the whole GPU is shown, and more than the limit can be allocated" if free else "something limits memory, or the GPU is too full for the control"
    if limiter.proof == "share":
        return share_shows(scenario, figures)
    signs = [text for there, text in ((shown, f"cuMemGetInfo shows {memory_mib} MiB"), (refused, f"{memory_mib + 1024} MiB are refused")) if there]
    preloaded = sorted({library.rsplit("/", 1)[-1] for record in records for library in record["preloaded"]})
    if preloaded:
        signs.append("mapped: " + ", ".join(preloaded))
    if shown or refused:
        return True, "; ".join(signs)
    return False, "no worker saw a memory limit" + ("; " + "; ".join(signs) if signs else ", and no library is preloaded")


def share_shows(scenario, figures):
    """A limiter without memory limits proves itself by the work: a tenant got clearly less than it would have had. Only a
    tenant alone can show that; beside others anybody gets less."""
    tenants = figures.get("tenants", ())
    if scenario.kind != "limit" or scenario.tenants[0].quota.compute > tenants[0]["used_alone"] - 5:
        return None, "it limits no memory, and the work of this row can't show it"
    active = tenants[0]["gpu_time"] < tenants[0]["used_alone"] - 5
    return active, f"{tenants[0]['gpu_time']:.0f} % of the time instead of {tenants[0]['used_alone']:.0f} %"
