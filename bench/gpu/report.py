# SPDX-License-Identifier: Apache-2.0
"""Rows to pages: one self-contained HTML file, a Markdown summary, a table for the terminal. No files, no clock."""
import html as markup
import re

import evaluate
import figures as f
import plots
import scenarios

PASS, FAIL = "✓", "✗"


def number(value, digits=3):
    """As many digits as matter; an em dash for what isn't known, which is not the same as zero."""
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    decimals = 0 if abs(value) >= 100 else digits - 2 if abs(value) >= 10 else digits - 1 if abs(value) >= 1 else digits
    words = f"{value:.{max(0, decimals)}f}"
    return words.lstrip("-") if float(words) == 0 else words


# -- the summary: limiters against targets --

def verdicts_of(rows, what):
    return [(row, verdict) for row in rows for verdict in row["verdicts"] if verdict["what"].startswith(what) and verdict["value"] is not None]


def worst_verdict(rows, what, most=True):
    """The row that is farthest on the wrong side, as a cell."""
    found = verdicts_of(rows, what)
    if not found:
        return None
    row, verdict = (max if most else min)(found, key=lambda pair: pair[1]["value"])
    return {"value": verdict["value"], "met": all(v["met"] for _, v in found), "rows": len(found), "missed": sum(not v["met"] for _, v in found), "where": row["row"]}


def of_kind(kind, prefix=""):
    return lambda row: row["kind"] == kind and row["row"].startswith(prefix)


def worst_of(select, what, most=True):
    return lambda rows: worst_verdict([row for row in rows if select(row)], what, most)


def mean_error(rows):
    errors = [abs(row["figures"]["error"]) for row in rows if row["kind"] == "limit"]
    if not errors:
        return None
    value = f.mean(errors)
    return {"value": value, "met": value <= evaluate.TARGETS["limit_error_mean_points"], "rows": len(errors), "missed": 0, "where": "all rows of limit/"}


def paced_excess(rows):
    found = [(row["figures"]["p99_us"] - row["figures"]["bound_us"], row) for row in rows if row["kind"] == "paced" and row["figures"]["p99_us"]]
    if not found:
        return None
    value, row = max(found, key=lambda pair: pair[0])
    return {"value": value / 1e3, "met": value <= 0, "rows": len(found), "missed": sum(excess > 0 for excess, _ in found), "where": row["row"]}


def unjudged_sum(rows):
    """Without a limiter there is nothing to judge, but what it comes to is what the others are compared with."""
    found = [(row["figures"]["sum"], row) for row in rows if row["kind"] == "sum"]
    if not found:
        return None
    value, row = min(found, key=lambda pair: pair[0])
    return {"value": value, "met": None, "rows": len(found), "missed": 0, "where": row["row"]}


def unjudged_mix(name):
    def cell(rows):
        found = [(abs(row["figures"][name]), row) for row in rows if row["kind"] == "mix"]
        if not found:
            return None
        value, row = max(found, key=lambda pair: pair[0])
        return {"value": value, "met": None, "rows": len(found), "missed": 0, "where": row["row"]}
    return cell


def unjudged(cell):
    def without_verdict(rows):
        found = cell(rows)
        return found and {**found, "met": None}
    return without_verdict


# (what, target in words, unit, cell of a limiter, cell of `none`)
MEASURES = [
    ("Compute limit, one tenant: mean error", "≤ 1 point", "points", mean_error, None),
    ("… worst row", "≤ 2 points", "points", worst_of(of_kind("limit"), "error"), None),
    ("… steadiness, worst row", "≤ 0.05", "", worst_of(of_kind("limit"), "variation"), None),
    ("Mixes of tenants: worst off its share", "≤ 1 point ¹", "points", worst_of(of_kind("mix"), "off its share"), unjudged_mix("deviation")),
    ("… in any second", "≤ 3 points ¹", "points", worst_of(of_kind("mix"), "in any second"), unjudged_mix("second_deviation")),
    ("… steadiness, worst row", "≤ 0.1", "", worst_of(of_kind("mix"), "variation"), None),
    ("Two saturating or waiting tenants together, least", "≥ 97 % of one", "%", worst_of(of_kind("sum"), "together", most=False), unjudged_sum),
    ("Two launch-bound tenants together", "≥ 97 % of unmanaged", "%", worst_of(of_kind("sum_unmanaged"), "together", most=False), None),
    ("Paced, high priority: p99 beyond its bound, worst", "≤ 0", "ms", paced_excess, unjudged(paced_excess)),
    ("Launch, no compute limit: added", "≤ 50 ns", "ns", worst_of(of_kind("launch", "launch/no-limit"), "added"), None),
    ("Launch, limited: added", "≤ 150 ns", "ns", worst_of(of_kind("launch", "launch/limited"), "added"), None),
    ("Loss at a limit of 100 %, worst", "≤ 0.5 %", "%", worst_of(of_kind("loss"), "loss"), None),
    ("Live change: effective after, worst", "≤ 100 ms", "ms", worst_of(of_kind("change"), "effective"), None),
    ("After 60 s of idling: ahead of the limit by", "≤ 100 ms", "ms", worst_of(of_kind("burst"), "ahead"), None),
    ("CPU of its threads, idle", "≤ 1 %", "%", worst_of(of_kind("cpu", "cpu/idle"), "CPU"), None),
    ("CPU of its threads, ten tenants", "≤ 3 %", "%", worst_of(of_kind("cpu", "cpu/ten"), "CPU"), None),
]
FOOTNOTE = "¹ with kernels of 50 ms: 1.5 points, and 5 in any second. A tick wants every row of its kind within its target."


def summarise(header, rows):
    """Everything that the pages show. Only rows whose limiter was in force count."""
    order = {scenario.name: i for i, scenario in enumerate(scenarios.table())}
    rows = sorted(rows, key=lambda row: (order.get(row["row"], len(order)), row["row"]))
    names = list(dict.fromkeys(["none"] * any(row["limiter"] == "none" for row in rows) + sorted({row["limiter"] for row in rows}, key=lambda name: (name != "vgpu", name))))
    titles = {row["limiter"]: row["limiter_title"] for row in rows}
    titles.setdefault("none", "no limiter")
    counted = [row for row in rows if row["status"] == "measured" and row["control"]["active"] is not False]
    table = []
    for what, target, unit, cell, cell_of_none in MEASURES:
        cells = {}
        for name in names:
            mine = [row for row in counted if row["limiter"] == name]
            cells[name] = (cell_of_none(mine) if cell_of_none else None) if name == "none" else cell(mine)
        if any(cells.values()):
            table.append({"what": what, "target": target, "unit": unit, "cells": cells})
    return {"header": header, "limiters": [{"name": name, "title": titles.get(name, name), "colour": i} for i, name in enumerate(names)], "table": table,
            "rows": counted, "left_out": [row for row in rows if row not in counted]}


def without_curves(summary):
    """For --json: figures and verdicts, without windows and samples."""
    keep = lambda row: {name: value for name, value in row.items() if name not in ("tenants", "alone")}
    return {**summary, "rows": [keep(row) for row in summary["rows"]], "left_out": [keep(row) for row in summary["left_out"]]}


def cell_words(cell, unit):
    if cell is None:
        return "–"
    mark = {True: " " + PASS, False: " " + FAIL, None: ""}[cell["met"]]
    return f"{number(cell['value'])}{' ' + unit if unit else ''}{mark}"


# -- terminal and Markdown --

def aligned(head, body):
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
    line = lambda row: "  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip()
    return [line(head), line(["-" * width for width in widths]), *map(line, body)]


def summary_cells(summary):
    head = ["", "target", *[limiter["title"] for limiter in summary["limiters"]]]
    return head, [[row["what"], row["target"], *[cell_words(row["cells"][l["name"]], row["unit"]) for l in summary["limiters"]]] for row in summary["table"]]


def text_table(summary):
    head, body = summary_cells(summary)
    if not body:
        return "no row counts yet"
    notes = [FOOTNOTE] + [f"left out: {row['row']} · {row['limiter']}: {why_left_out(row)}" for row in summary["left_out"] if row["status"] != "skipped"]
    return "\n".join(aligned(head, body) + notes)


def markdown_table(head, body):
    escape = lambda word: str(word).replace("|", "\\|")
    return ["| " + " | ".join(map(escape, row)) + " |" for row in (head, ["---"] * len(head), *body)]


def where_measured(header):
    parts = [header["gpu"], header.get("driver"), f"CUDA {header['cuda'] // 1000}.{header['cuda'] % 1000 // 10}", f"{header['host']['processors']} processors, Linux {header['host']['kernel']}", header["date"]]
    return " · ".join(part for part in parts if part)


def why_left_out(row):
    return row["why"] if row["status"] != "measured" else row["control"]["how"]


def row_words(row):
    """A row's verdicts in a few words."""
    words = [f"{v['what']} {number(v['value'])}{' ' + v['unit'] if v['unit'] else ''} {'' if v['met'] is None else PASS if v['met'] else FAIL}".strip() for v in row["verdicts"]]
    if not words:
        tenants = row["figures"].get("tenants", ())
        words = [", ".join(f"{t['name']} {number(t['percent'])} %" for t in tenants)] if tenants else ["measured"]
    return "; ".join(words)


def markdown(summary):
    head, body = summary_cells(summary)
    lines = ["# Compute shares and limits", "", where_measured(summary["header"]) + ". Made by `bench/gpu/bench.py`; method in bench/gpu/README.md."]
    if summary["header"]["simulated"]:
        lines += ["", "**Simulated GPU: this shows that the benchmark works, not how fast or exact anything is.**"]
    lines += ["", *markdown_table(head, body), "", FOOTNOTE, "", "## Rows", ""]
    lines += markdown_table(["row", "limiter", "figures", "control", "runs alone differ by"],
                            [[row["row"], row["limiter"], row_words(row), row["control"]["how"], f"{row['drift']:.1f} %"] for row in summary["rows"]])
    if summary["left_out"]:
        lines += ["", "## Left out", "", *markdown_table(["row", "limiter", "why"], [[row["row"], row["limiter"], why_left_out(row)] for row in summary["left_out"]])]
    return "\n".join(lines) + "\n"


# -- HTML --

def html(summary):
    sections = [section_summary(summary), section_heat(summary), section_mixes(summary), section_sums(summary), section_paced(summary), section_changes(summary), section_rows(summary)]
    words = markup.escape(where_measured(summary["header"]))
    banner = '<p class="banner">Simulated GPU: this page shows that the benchmark works, not how fast or exact anything is.</p>' if summary["header"]["simulated"] else ""
    return PAGE.replace("{{style}}", STYLE).replace("{{where}}", words).replace("{{banner}}", banner).replace("{{legend}}", legend(summary)).replace(
        "{{body}}", "\n".join(section for section in sections if section))


def legend(summary):
    return '<p class="legend">' + " ".join(f'<span><i class="key s{limiter["colour"]}"></i>{markup.escape(limiter["title"])}</span>' for limiter in summary["limiters"]) + "</p>"


def section(title, lead, body):
    return f"<section><h2>{markup.escape(title)}</h2><p>{lead}</p>{body}</section>"


def section_summary(summary):
    head = "".join(f"<th scope='col'>{markup.escape(limiter['title'])}</th>" for limiter in summary["limiters"])
    lines = []
    for row in summary["table"]:
        cells = []
        for limiter in summary["limiters"]:
            cell = row["cells"][limiter["name"]]
            css = {True: "good", False: "bad", None: "plain"}[cell["met"]] if cell else "plain"
            hint = f"{cell['where']}; {cell['rows']} rows, {cell['missed']} missed" if cell else ""
            cells.append(f'<td class="{css}" title="{markup.escape(hint)}">{markup.escape(cell_words(cell, row["unit"]))}</td>')
        lines.append(f"<tr><th scope='row'>{markup.escape(row['what'])}</th><td class='target'>{markup.escape(row['target'])}</td>{''.join(cells)}</tr>")
    if not lines:
        return section("No rows yet", "Nothing that counts has been measured.", "")
    table = f"<div class='wide'><table class='summary'><thead><tr><td></td><th scope='col'>target</th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    return section("Limiters against targets", "Judged by completed work against the same work alone and unlimited, measured beside each row.", table + f"<p class='note'>{FOOTNOTE}</p>")


def grid_cells(rows):
    cells = {}
    for row in rows:
        match = re.fullmatch(r"limit/(\w+)/(\w+)/(\d+)", row["row"])
        if match and match[1] in scenarios.SIZES and match[2] in scenarios.MODES:
            tenant = row["figures"]["tenants"][0]
            words = f"{row['title']}: {number(tenant['gpu_time'])} % of the time; alone it uses {number(tenant['used_alone'])} %"
            cells[match[1], (match[2], match[3])] = (row["figures"]["error"], words)
    return cells


def section_heat(summary):
    columns = [(mode, str(limit)) for mode in scenarios.MODES for limit in scenarios.LIMITS]
    figures = []
    for limiter in summary["limiters"]:
        cells = grid_cells([row for row in summary["rows"] if row["limiter"] == limiter["name"] and row["kind"] == "limit"])
        if cells:
            drawing = plots.heat_map(columns, list(scenarios.SIZES), cells, (1, 2, 5, 15), f"errors of {limiter['title']}")
            figures.append(figure(limiter["title"], drawing))
    if not figures:
        return ""
    key = "".join(f'<span><i class="key q{n}"></i>{words}</span>' for n, words in enumerate(("≤ 1 point", "≤ 2", "≤ 5", "≤ 15", "more")))
    return section("Does a limit hold?", "One tenant under a limit (columns, percent) with kernels of one length (rows): GPU time got less what it should have been, in points of wall time. "
                   "Above zero: more than the limit.", f'<p class="legend">{key}</p><div class="grid">{"".join(figures)}</div>')


def figure(caption, drawing):
    width = int(re.search(r' width="(\d+)"', drawing)[1]) + 26  # with its padding and border: a caption wraps, never widens
    return f'<figure style="width:{width}px"><figcaption>{markup.escape(caption)}</figcaption>{drawing}</figure>'


def share_series(row, of_s=0.25):
    """Percent of the rate alone over time, for each tenant: [(name, values)]."""
    out = []
    for tenant, raw in zip(row["figures"]["tenants"], row["tenants"]):
        coarse = f.coarser(raw["windows"], max(1, round(of_s / raw["window_s"])))
        out.append((f"{tenant['name']}, owed {tenant['owed']} %", f.shares(coarse, of_s, tenant["alone_rate"])))
    return out


def share_figure(row, top, width, of_s=0.25):
    tenants = row["figures"]["tenants"]
    marks = [(i, tenant["owed"], f"{tenant['name']}: {tenant['owed']} %") for i, tenant in enumerate(tenants)]
    if len({tenant["owed"] for tenant in tenants}) == 1:  # one line says it for all
        marks = [(0, tenants[0]["owed"], f"each: {tenants[0]['owed']} %")]
    got = ", ".join(number(tenant["percent"]) for tenant in tenants[:5]) + (" …" if len(tenants) > 5 else "")
    return figure(f"{row['limiter_title']}: {got} %", plots.share_over_time(share_series(row, of_s), of_s, marks, row["title"], top, width=width))


def by_row(summary, kinds):
    """Rows of the kinds, grouped by name, in the order of the table."""
    groups = {}
    for row in summary["rows"]:
        if row["kind"] in kinds:
            groups.setdefault(row["row"], []).append(row)
    place = {limiter["name"]: limiter["colour"] for limiter in summary["limiters"]}
    return [sorted(group, key=lambda row: place[row["limiter"]]) for group in groups.values()]


def section_mixes(summary):
    blocks = []
    for group in by_row(summary, {"mix"}):
        values = [value for row in group for _, windows in share_series(row) for value in windows]
        top = 1.12 * max([*values, *(tenant["owed"] for tenant in group[0]["figures"]["tenants"])])
        figures = [share_figure(row, top, 322 if len(group) <= 3 else 232) for row in group]  # three or four beside each other
        blocks.append(f"<h3>{markup.escape(group[0]['title'])}</h3><div class='grid'>{''.join(figures)}</div>")
    return section("Who gets what, over time", "Completed work of each tenant in windows of 250 ms, in percent of its rate alone; dashed: what it is owed.", "".join(blocks)) if blocks else ""


def section_sums(summary):
    colours = {limiter["name"]: limiter["colour"] for limiter in summary["limiters"]}
    place = {scenario.name: i for i, scenario in enumerate(scenarios.sums())}
    groups = lambda kinds: sorted(by_row(summary, kinds), key=lambda group: (group[0]["row"].split("/")[1], place.get(group[0]["row"], 0)))
    bars = lambda kinds, name: [(group[0]["row"].removeprefix("sum/"), [(row["limiter_title"], colours[row["limiter"]], row["figures"][name]) for row in group if name in row["figures"]])
                                for group in groups(kinds)]
    saturating = [bar for bar in bars({"sum"}, "sum") if bar[1]]
    bound = [bar for bar in bars({"sum_unmanaged"}, "of_unmanaged") if bar[1]]
    drawings = ""
    if saturating:
        drawings += figure("Together, in percent of one tenant alone", plots.bars(saturating, evaluate.TARGETS["sum_percent"], "%", "sums of rates"))
    if bound:
        drawings += figure("Launch-bound: together, in percent of the same two unmanaged", plots.bars(bound, evaluate.TARGETS["sum_of_unmanaged_percent"], "%", "sums, of unmanaged"))
    return section("What does sharing cost?", "Two tenants with the same work; the sum of what each completes.", drawings) if drawings else ""


def section_paced(summary):
    colours = {limiter["name"]: limiter["colour"] for limiter in summary["limiters"]}
    figures = []
    for group in by_row(summary, {"paced"}):
        series = [(row["limiter_title"], colours[row["limiter"]], [value / 1e3 for value in row["figures"]["cdf_us"]]) for row in group if row["figures"]["p99_us"]]
        if series:
            limits = [(group[-1]["figures"]["bound_us"] / 1e3, "bound of p99"), (group[-1]["figures"]["alone_p99_us"] / 1e3, "p99 alone")]
            figures.append(figure(group[0]["title"], plots.cdf(series, evaluate.CDF_PERCENTS, limits, group[0]["title"])))
    return section("How long does a paced tenant wait?", "Percent of kernels (upwards) that were done so long after they were due; the lines across: p99 alone, and the bound of p99.",
                   f"<div class='grid'>{''.join(figures)}</div>") if figures else ""


def over_time(row, of_s):
    """GPU time of a row's first tenant over time, in percent."""
    raw = row["tenants"][0]
    runs = row["alone"][0]["runs"]
    back_to_back_s = f.mean([run["back_to_back_s"] for run in runs if run["back_to_back_s"]])
    coarse = f.coarser(raw["windows"], max(1, round(of_s / raw["window_s"])))
    return [f.gpu_time(work / of_s, back_to_back_s) for work in coarse]


def section_changes(summary):
    figures = []
    for group in by_row(summary, {"change", "burst"}):
        for row in group:
            values = over_time(row, 0.1)
            asked = [row["figures"][name] for name in ("limit", "asked_before", "asked_after") if name in row["figures"]]
            upright = [(row["figures"]["change_s"], "changed")] if row["kind"] == "change" else []
            drawing = plots.share_over_time([("GPU time", values)], 0.1, [(0, percent, f"{percent} %") for percent in asked], row["title"], 1.12 * max(values + asked), upright)
            figures.append(figure(f"{row['limiter_title']}: {row['title']}: {row_words(row)}", drawing))
    return section("Changes and pauses", "GPU time in windows of 100 ms, in percent; dashed: the limit.", f"<div class='grid'>{''.join(figures)}</div>") if figures else ""


def section_rows(summary):
    lines = []
    for row in summary["rows"]:
        shaky = ' class="bad"' if row["drift"] > row["max_drift"] else ""
        lines.append(f"<tr><td>{markup.escape(row['row'])}</td><td>{markup.escape(row['limiter_title'])}</td><td>{markup.escape(row_words(row))}</td>"
                     f"<td>{markup.escape(row['control']['how'])}</td><td{shaky}>{row['drift']:.1f} %</td></tr>")
    for row in summary["left_out"]:
        lines.append(f"<tr class='out'><td>{markup.escape(row['row'])}</td><td>{markup.escape(row['limiter_title'])}</td><td>left out</td><td>{markup.escape(why_left_out(row))}</td><td>–</td></tr>")
    head = "".join(f"<th scope='col'>{word}</th>" for word in ("row", "limiter", "figures", "control: how it shows that the limiter was in force", "runs alone differ by"))
    return f"<section><details><summary><h2>All {len(lines)} rows</h2></summary><div class='wide'><table class='rows'><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div></details></section>"


STYLE = """
:root { color-scheme: light dark; --back: #fff; --ink: #1c2126; --soft: #5a6570; --rule: #dfe4e8; --panel: #f6f8fa; --good: #0b6b4f; --good-back: #e3f4ec; --bad: #a3321f; --bad-back: #fbe9e4;
  --s0: #7a8490; --s1: #0072b2; --s2: #d55e00; --s3: #009e73; --s4: #b5578f; --s5: #8a6d00; --s6: #3f9bd1; --s7: #6a51a3; --s8: #4d4d4d; --s9: #c23b3b;
  --q0: #cfe8e0; --q1: #e8efc8; --q2: #fde0a6; --q3: #f4a26b; --q4: #c9482c; --q4-ink: #fff; --q-ink: #1c2126; }
@media (prefers-color-scheme: dark) { :root { --back: #14181c; --ink: #e6eaee; --soft: #98a4af; --rule: #2c343b; --panel: #1b2127; --good: #6fd6ae; --good-back: #15342a; --bad: #ff9c86; --bad-back: #3d1f19;
  --s0: #98a4af; --s1: #56b4e9; --s2: #ff9148; --s3: #3ecf9f; --s4: #e08cc0; --s5: #e0c23c; --s6: #8fd0f5; --s7: #a995e0; --s8: #c8c8c8; --s9: #ff8080;
  --q0: #1e4a3e; --q1: #46502a; --q2: #6b5220; --q3: #94511f; --q4: #c9482c; --q-ink: #f2f4f6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 28px 20px 60px; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -.01em; } h2 { font-size: 20px; margin: 0 0 4px; } h3 { font-size: 15px; margin: 22px 0 6px; }
section { margin-top: 40px; } p { margin: 0 0 12px; max-width: 75ch; } .where { max-width: none; } .where, .note, figcaption { color: var(--soft); font-size: 13px; }
.banner { background: var(--bad-back); color: var(--bad); padding: 8px 12px; border-radius: 6px; font-weight: 600; max-width: none; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; max-width: none; } .legend span { white-space: nowrap; }
.key { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 6px; vertical-align: -1px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 12px; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top; } thead th { border-bottom: 2px solid var(--rule); font-size: 13px; }
.summary tbody th { font-weight: 500; } .summary td { white-space: nowrap; } .target { color: var(--soft); } .rows { font-size: 13px; } .out td { color: var(--soft); }
td.good { background: var(--good-back); color: var(--good); font-weight: 600; } td.bad { background: var(--bad-back); color: var(--bad); font-weight: 600; }
.grid { display: flex; flex-wrap: wrap; gap: 14px; } figure { margin: 0; padding: 10px 12px 6px; border: 1px solid var(--rule); border-radius: 8px; background: var(--panel); max-width: 100%; overflow-x: auto; }
section > figure { margin-top: 14px; } figcaption { margin-bottom: 4px; font-weight: 600; color: var(--ink); }
svg { display: block; max-width: 100%; height: auto; font: 11px system-ui, sans-serif; } svg text { fill: var(--ink); } svg .tick, svg .label { fill: var(--soft); font-size: 10px; }
svg .rule { stroke: var(--rule); } svg .axis { stroke: var(--soft); } svg .line { fill: none; stroke: var(--c); stroke-width: 1.6; stroke-linejoin: round; }
svg .owed { stroke: var(--c); stroke-dasharray: 4 3; opacity: .75; } svg .owner { fill: var(--c); font-size: 10px; font-weight: 600; paint-order: stroke; stroke: var(--panel); stroke-width: 3px; } svg .value { paint-order: stroke; stroke: var(--panel); stroke-width: 3px; } svg .mark { stroke: var(--ink); stroke-dasharray: 2 3; opacity: .8; } svg .bar { fill: var(--c); } i.key { background: var(--c); }
.s0 { --c: var(--s0); } .s1 { --c: var(--s1); } .s2 { --c: var(--s2); } .s3 { --c: var(--s3); } .s4 { --c: var(--s4); } .s5 { --c: var(--s5); } .s6 { --c: var(--s6); } .s7 { --c: var(--s7); } .s8 { --c: var(--s8); } .s9 { --c: var(--s9); }
.q0 { --c: var(--q0); } .q1 { --c: var(--q1); } .q2 { --c: var(--q2); } .q3 { --c: var(--q3); } .q4 { --c: var(--q4); } .cell rect { fill: var(--c); } .cell text { fill: var(--q-ink); } .cell.q4 text { fill: var(--q4-ink, #fff); }
.none { fill: none; stroke: var(--rule); stroke-dasharray: 2 2; } details > summary { cursor: pointer; } details h2 { display: inline; }
@media print { :root { color-scheme: light; --back: #fff; --ink: #000; --soft: #444; --rule: #bbb; --panel: #fff; --good: #0b6b4f; --good-back: #e3f4ec; --bad: #a3321f; --bad-back: #fbe9e4;
  --s0: #7a8490; --s1: #0072b2; --s2: #d55e00; --s3: #009e73; --s4: #b5578f; --s5: #8a6d00; --s6: #3f9bd1; --s7: #6a51a3; --s8: #4d4d4d; --s9: #c23b3b;
  --q0: #cfe8e0; --q1: #e8efc8; --q2: #fde0a6; --q3: #f4a26b; --q4: #c9482c; --q4-ink: #fff; --q-ink: #000; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; } figure, tr, h3 { break-inside: avoid; } h2, h3 { break-after: avoid; } body { font-size: 10pt; padding: 0; }
  .wide { overflow: visible; } table { width: 100%; } .summary, .rows { font-size: 8pt; } .summary td, .summary th, .rows td { padding: 3px 5px; white-space: normal; } section { margin-top: 22px; } }
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>GPU limiters: shares and limits by completed work</title>
<style>{{style}}</style></head>
<body><header><h1>GPU limiters: shares and limits by completed work</h1><p class="where">{{where}}</p>{{banner}}{{legend}}</header>
{{body}}
</body></html>
"""
