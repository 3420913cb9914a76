"""Bars as SVG: a panel for each row of the report, in each a bar for every broker, with its smallest and largest round.

A panel starts at zero, or has a logarithmic scale (and says so) where the largest bar would hide the smallest.
"""

import math
from dataclasses import dataclass
from xml.sax.saxutils import escape

from .numbers import number

COLUMNS = 3
PANEL_WIDTH, PANEL_GAP = 400, 28
HEAD, FOOT = 46, 20
BAR, BAR_GAP = 15, 7
LABELS, VALUES = 96, 62
MARGIN, TITLE = 24, 44
LOGARITHMIC_FROM = 20.0

OURS_COLOUR, OTHER_COLOUR = "#d9480f", "#8297ab"
INK, FAINT, GRID = "#1b1f24", "#6b7680", "#e3e7eb"


@dataclass
class Scale:
    """Where a value is on a panel, from 0 to 1."""

    low: float
    high: float
    logarithmic: bool

    def place(self, value):
        if not self.logarithmic:
            return value / self.high
        return max(math.log(max(value, self.low) / self.low), 0.0) / math.log(self.high / self.low)

    def ticks(self):
        """Values at which the scale is marked."""
        if self.logarithmic:
            return [10.0**power for power in range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)]
        step = _nice(self.high / 4)
        return [step * tick for tick in range(int(self.high / step + 1e-9) + 1)]


def bars(title, rows, names, ours):
    """A picture of `rows` of the report; the brokers of `ours` are drawn in another colour."""
    columns = min(COLUMNS, len(rows))
    panel_height = HEAD + len(names) * (BAR + BAR_GAP) + FOOT
    width = 2 * MARGIN + columns * PANEL_WIDTH + (columns - 1) * PANEL_GAP
    lines = math.ceil(len(rows) / columns)
    height = MARGIN + TITLE + lines * panel_height + (lines - 1) * PANEL_GAP + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, Helvetica, Arial, sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(MARGIN, MARGIN + 16, title, size=18, weight=600),
    ]
    for position, row in enumerate(rows):
        x = MARGIN + position % columns * (PANEL_WIDTH + PANEL_GAP)
        y = MARGIN + TITLE + position // columns * (panel_height + PANEL_GAP)
        parts.append(f'<g transform="translate({x} {y})">')
        parts += _panel(row, names, ours)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(row, names, ours):
    cells = row["cells"]
    scale = _scale([cells[name] for name in names])
    unit = row["unit"] + (", logarithmic scale" if scale and scale.logarithmic else "")
    parts = [_text(0, 13, row["title"], size=13, weight=600), _text(0, 30, unit, colour=FAINT)]
    bottom = HEAD + len(names) * (BAR + BAR_GAP)
    if scale:
        parts += _axis(scale, bottom)
    for position, name in enumerate(names):
        parts += _bar(name, cells[name], scale, HEAD + position * (BAR + BAR_GAP), name in ours)
    return parts


def _axis(scale, bottom):
    parts = []
    for tick in scale.ticks():
        x = LABELS + scale.place(tick) * _span()
        if x > LABELS + _span() + 0.5:
            continue
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{HEAD - 6}" y2="{bottom}" stroke="{GRID}"/>')
        parts.append(_text(x, bottom + 13, f"{tick:g}", colour=FAINT, anchor="middle", size=10))
    return parts


def _bar(name, cell, scale, y, is_ours):
    middle = y + BAR / 2
    parts = [_text(LABELS - 8, middle + 4, name, anchor="end", weight=600 if is_ours else 400)]
    if cell["median"] is None:
        return [*parts, _text(LABELS + 4, middle + 4, _shortened(cell["reason"]), colour=FAINT, size=10)]
    end = LABELS + scale.place(cell["median"]) * _span()
    colour = OURS_COLOUR if is_ours else OTHER_COLOUR
    parts.append(f'<rect x="{LABELS}" y="{y}" width="{max(end - LABELS, 1):.1f}" height="{BAR}" rx="2" fill="{colour}"/>')
    low, high = (LABELS + scale.place(cell[bound]) * _span() for bound in ("low", "high"))
    if high - low >= 1:
        parts.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" stroke="{INK}"/>')
        parts += [f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{middle - 3}" y2="{middle + 3}" stroke="{INK}"/>' for x in (low, high)]
    return [*parts, _text(max(end, high) + 6, middle + 4, number(cell["median"]))]


def _scale(cells):
    """A scale for these cells; none when nothing was measured."""
    measured = [cell for cell in cells if cell["median"] is not None]
    if not measured:
        return None
    high = max(cell["high"] for cell in measured)
    medians = [cell["median"] for cell in measured if cell["median"] > 0]
    if medians and high / min(medians) > LOGARITHMIC_FROM:
        # A whole decade below the smallest, so that its bar has a length.
        low = 10.0 ** (math.ceil(math.log10(min(medians))) - 1)
        low = low / 10 if min(medians) < low * 1.5 else low
        return Scale(low, 10.0 ** math.ceil(math.log10(high)), True)
    return Scale(0.0, high or 1.0, False)


def _nice(step):
    """The next of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step - 1e-12)


def _span():
    """The length of the longest bar."""
    return PANEL_WIDTH - LABELS - VALUES


def _shortened(text, limit=52):
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _text(x, y, text, colour=INK, anchor="start", size=12, weight=400):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}">'
        f"{escape(text)}</text>"
    )
