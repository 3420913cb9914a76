"""The picture: each level over time, kills as grey lines, and the straight line that is judged."""

import math
from xml.sax.saxutils import escape

from .verdict import MIB

WIDTH, PANEL_HEIGHT, GAP, LEFT, RIGHT, HEAD = 860, 120, 44, 64, 24, 74
INK, FAINT, GRID, LEVEL, FIT = "#1b1f24", "#6b7680", "#e3e7eb", "#1c7ed6", "#d9480f"

PANELS = (
    ("resident_bytes", "memory, MiB", MIB),
    ("disk_bytes", "disk, MiB", MIB),
    ("descriptors", "file descriptors", 1),
    ("sessions", "sessions", 1),
    ("owed", "messages acknowledged and not delivered yet", 1),
    ("p99_ms", "probe, QoS 1 to itself: p99 of the time between samples, ms", 1),
    ("cpu_percent", "CPU of the broker, % of a core", 1),
)


def draw(title, subtitle, samples, kills, verdicts):
    seconds = samples[-1]["second"]
    fits = {verdict["name"]: verdict for verdict in verdicts if "slope_per_s" in verdict}
    height = HEAD + len(PANELS) * (PANEL_HEIGHT + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="system-ui, Helvetica, Arial, sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(24, 30, title, size=18, weight=600),
        _text(24, 50, subtitle, colour=FAINT),
    ]
    for position, (name, heading, unit) in enumerate(PANELS):
        y = HEAD + position * (PANEL_HEIGHT + GAP)
        parts.append(f'<g transform="translate({LEFT} {y})">')
        parts += _panel(name, heading, unit, samples, seconds, kills, fits.get(name))
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(name, heading, unit, samples, seconds, kills, fit):
    span = WIDTH - LEFT - RIGHT
    points = [(sample["second"], sample[name] / unit) for sample in samples if sample[name] is not None]
    parts = [_text(0, 12, heading, weight=600)]
    if not points:
        return parts
    step = _nice(max(value for _, value in points) / 4 or 1)
    top = step * math.ceil(max(value for _, value in points) / step or 1)
    low = PANEL_HEIGHT

    def place(second, value):
        return f"{second / seconds * span:.1f},{low - value / top * (low - 24):.1f}"

    for tick in range(round(top / step) + 1):
        y = low - tick * step / top * (low - 24)
        parts.append(f'<line x1="0" x2="{span}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
        parts.append(_text(-8, y + 4, f"{tick * step:g}", colour=FAINT, anchor="end", size=10))
    for kill in kills:
        x = kill / seconds * span
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="24" y2="{low}" stroke="#c8ced4" stroke-dasharray="2 2"/>')
    minutes = seconds / 60
    every = _nice(minutes / 8)
    for tick in range(int(minutes / every + 1e-9) + 1):
        parts.append(_text(tick * every / minutes * span, low + 14, f"{tick * every:g} min", colour=FAINT, anchor="middle", size=10))
    joined = " ".join(place(*point) for point in points)
    parts.append(f'<polyline points="{joined}" fill="none" stroke="{LEVEL}" stroke-width="1.5"/>')
    if fit:
        ends = [(second, max((fit["slope_per_s"] * second + fit["height_at_0"]) / unit, 0)) for second in (seconds / 2, seconds)]
        joined = " ".join(place(*point) for point in ends)
        parts.append(f'<polyline points="{joined}" fill="none" stroke="{FIT}" stroke-width="2"/>')
        verdict = f"rises by {fit['rise'] / unit:.1f} in the second half; at most {fit['rise_allowed'] / unit:.1f} is flat"
        parts.append(_text(span, 12, verdict, colour=FIT, anchor="end"))
    return parts


def _nice(step):
    """The next of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step - 1e-12)


def _text(x, y, text, colour=INK, anchor="start", size=12, weight=400):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}">'
        f"{escape(text)}</text>"
    )
