"""How figures are written."""


def number(value):
    """Three significant digits, no more than the noise allows."""
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 100:
        return f"{value:,.0f}"
    digits = 1 if size >= 10 else 2 if size >= 0.1 else 3 if size >= 0.01 else 4
    return f"{value:.{digits}f}"


def times(value, other):
    """How many times `other` a value is."""
    if value is None or not other:
        return "–"
    return f"{value / other:.2f}×"
