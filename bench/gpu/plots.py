# SPDX-License-Identifier: Apache-2.0
"""Small SVG plots as text, with no other dependency. Colours are CSS classes of the page (report.py), so that one drawing
serves light, dark and paper: s0..s9 for series, q0..q4 for how far off something is."""
import html
import math

SERIES = 10


def text(x, y, words, css="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{css}">{html.escape(str(words))}</text>'


def ticks(low, high, about=4):
    """Round numbers between two values."""
    if high <= low:
        return [low]
    raw = (high - low) / about
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def decades(low, high):
    """1, 2 and 5 of each decade between two values above zero; decades alone if those are many."""
    span = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(span) <= 3 else (1,)
    return [m * 10.0 ** e for e in span for m in steps if low <= m * 10.0 ** e <= high * 1.0001]


def signed(value):
    words = f"{value:+.1f}"
    return "0.0" if float(words) == 0 else words


def short(value):
    return f"{value:g}" if value < 1e4 else f"{value / 1e3:g}k"


class Axes:
    """A plot's frame: maps values to places and draws grid, ticks and labels."""

    def __init__(self, x_range, y_range, width=340, height=170, x_label="", y_label="", log_x=False):
        self.left, self.top, self.width, self.height = 38, 10, width, height
        self.right, self.bottom = width - 10, height - 32
        self.x_range, self.y_range, self.log_x = x_range, y_range, log_x
        self.x_label, self.y_label = x_label, y_label

    def x(self, value):
        low, high = self.x_range
        if self.log_x:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, self.x_range[0]))
        return self.left + (min(max(value, low), high) - low) / ((high - low) or 1) * (self.right - self.left)

    def y(self, value):
        low, high = self.y_range
        return self.bottom - (min(max(value, low), high) - low) / ((high - low) or 1) * (self.bottom - self.top)

    def frame(self):
        out = []
        for value in ticks(*self.y_range):
            out.append(f'<line class="rule" x1="{self.left}" x2="{self.right}" y1="{self.y(value):.1f}" y2="{self.y(value):.1f}"/>')
            out.append(text(self.left - 5, self.y(value) + 3.5, short(value), "tick", "end"))
        for value in decades(*self.x_range) if self.log_x else ticks(*self.x_range, about=5):
            out.append(f'<line class="axis" x1="{self.x(value):.1f}" x2="{self.x(value):.1f}" y1="{self.bottom}" y2="{self.bottom + 3}"/>')
            out.append(text(self.x(value), self.bottom + 14, short(value), "tick", "middle"))
        out.append(f'<line class="axis" x1="{self.left}" x2="{self.right}" y1="{self.bottom}" y2="{self.bottom}"/>')
        out.append(text((self.left + self.right) / 2, self.height - 4, self.x_label, "label", "middle"))
        return out

    def line(self, points, css, name=""):
        path = " ".join(f"{'M' if i == 0 else 'L'}{self.x(x):.1f} {self.y(y):.1f}" for i, (x, y) in enumerate(points))
        return f'<path class="line {css}" d="{path}"><title>{html.escape(name)}</title></path>'

    def across(self, y, css, name=""):
        return f'<line class="{css}" x1="{self.left}" x2="{self.right}" y1="{self.y(y):.1f}" y2="{self.y(y):.1f}"><title>{html.escape(name)}</title></line>'

    def upright(self, x, css, name=""):
        return f'<line class="{css}" x1="{self.x(x):.1f}" x2="{self.x(x):.1f}" y1="{self.top}" y2="{self.bottom}"><title>{html.escape(name)}</title></line>'


def svg(width, height, parts, label):
    return (f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{html.escape(label)}">' + "".join(parts) + "</svg>")


def share_over_time(series, window_s, marks, label, top, upright=(), width=322):
    """`series`: [(name, values)], one value a window; `marks`: [(series number, height, name)] drawn dashed; `upright`:
    [(x, name)]; `top`: the end of the upward axis, which plots that are to be compared share."""
    seconds = max(len(values) for _, values in series) * window_s
    axes = Axes((0, seconds), (0, top), x_label="seconds", width=width)
    parts = axes.frame()
    for x, name in upright:
        parts.append(axes.upright(x, "mark", name))
        parts.append(text(axes.x(x) + 4, axes.top + 8, name, "tick"))
    for number, (name, values) in enumerate(series):
        parts.append(axes.line([((i + 0.5) * window_s, value) for i, value in enumerate(values)], tenant_colour(number), name))
    for number, height, name in marks:
        parts.append(axes.across(height, f"owed {tenant_colour(number)}", name))
        parts.append(text(axes.right, axes.y(height) - 4, name, f"owner {tenant_colour(number)}", "end"))
    return svg(axes.width, axes.height, parts, label)


def tenant_colour(number):
    """Tenants have the colours behind the first, which is the one of runs without a limiter."""
    return f"s{number % (SERIES - 1) + 1}"


def cdf(series, percents, bound, label):
    """`series`: [(name, colour number, values at `percents`)]; `bound`: [(x, name)]."""
    everything = [value for _, _, values in series for value in values if value] + [x for x, _ in bound]
    axes = Axes((min(everything) * 0.9, max(everything) * 1.1), (0, 100), width=480, height=230, x_label="latency, ms (logarithmic)", log_x=True)
    parts = axes.frame()
    for x, name in bound:
        parts.append(axes.upright(x, "mark", name))
    for name, colour, values in series:
        parts.append(axes.line(list(zip(values, percents)), f"s{colour % SERIES}", name))
    return svg(axes.width, axes.height, parts, label)


def bars(groups, target, unit, label):
    """`groups`: [(name, [(limiter, colour number, value)])]; a line at `target`."""
    bar, gap, left, right = 15, 12, 190, 60
    most = max([value for _, values in groups for _, _, value in values] + [target]) * 1.05
    width = 660
    scale = (width - left - right) / most
    parts, y = [], 8
    for name, values in groups:
        middle = y + bar * len(values) / 2 + 4
        parts.append(text(left - 10, middle, name, "name", "end"))
        for limiter, colour, value in values:
            parts.append(f'<rect class="bar s{colour % SERIES}" x="{left}" y="{y}" width="{max(value * scale, 1):.1f}" height="{bar - 3}" rx="2">'
                         f'<title>{html.escape(f"{name}, {limiter}: {value:.1f} {unit}")}</title></rect>')
            parts.append(text(left + value * scale + 5, y + bar - 5, f"{value:.1f}", "value"))
            y += bar
        y += gap
    x = left + target * scale
    parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{y - gap + 4}"><title>target {target:g} {html.escape(unit)}</title></line>')
    parts.append(text(x, y + 6, f"target {target:g} {unit}", "tick", "middle"))
    return svg(width, y + 12, parts, label)


def heat_map(columns, rows, cells, classes, label):
    """`columns`: [(group, name)]; `rows`: names; `cells`: {(row, column): (value, words)}; `classes`: bounds of q0..q4."""
    side_x, side_y, left, top = 36, 25, 52, 40
    parts = []
    groups = {}
    for i, (group, name) in enumerate(columns):
        groups.setdefault(group, []).append(i)
        parts.append(text(left + (i + 0.5) * side_x, top - 6, name, "tick", "middle"))
    for group, places in groups.items():
        parts.append(text(left + (places[0] + len(places) / 2) * side_x, top - 22, group, "name", "middle"))
    for j, row in enumerate(rows):
        parts.append(text(left - 8, top + (j + 0.5) * side_y + 4, row, "name", "end"))
        for i, column in enumerate(columns):
            x, y = left + i * side_x + (1 if i % 4 else 3), top + j * side_y + 1
            width = side_x - (2 if i % 4 else 4)
            if (row, column) not in cells:
                parts.append(f'<rect class="none" x="{x}" y="{y}" width="{width}" height="{side_y - 2}" rx="3"/>')
                continue
            value, words = cells[row, column]
            level = next((n for n, bound in enumerate(classes) if abs(value) <= bound), len(classes))
            parts.append(f'<g class="cell q{level}"><rect x="{x}" y="{y}" width="{width}" height="{side_y - 2}" rx="3"/>'
                         f'<text x="{x + width / 2}" y="{y + 16}" text-anchor="middle">{signed(value)}</text><title>{html.escape(words)}</title></g>')
    return svg(left + len(columns) * side_x + 6, top + len(rows) * side_y + 6, parts, label)
