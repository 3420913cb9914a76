"""What is judged of the samples."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Bound:
    """What a level may rise by in the second half: a share of its mean, but no less than `least`."""

    name: str
    title: str
    share: float
    least: float


BOUNDS = (
    Bound("resident_bytes", "memory", 0.10, 8 * MIB),
    Bound("disk_bytes", "disk", 0.20, 32 * MIB),
    Bound("descriptors", "descriptors", 0.10, 20),
    Bound("sessions", "sessions", 0.10, 20),
    Bound("retained", "retained messages", 0.10, 20),
)


def line(points):
    """Slope and height at 0 of the straight line with the least squares to `points`."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    width = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / width if width else 0.0
    return slope, mean_y - slope * mean_x


def judged(samples, seconds):
    """The samples of the second half."""
    return [sample for sample in samples if sample["second"] >= seconds / 2]


def of(samples, seconds):
    """One verdict for each level that was measured: what it rose by, what it may, whether that is flat."""
    verdicts = []
    half = judged(samples, seconds)
    for bound in BOUNDS:
        points = [(sample["second"], sample[bound.name]) for sample in half if sample[bound.name] is not None]
        if len(points) < 2:
            verdicts.append({"name": bound.name, "title": bound.title, "is_flat": False, "reason": "not measured"})
            continue
        slope, height = line(points)
        mean = sum(value for _, value in points) / len(points)
        rise = slope * (points[-1][0] - points[0][0])
        allowed = max(bound.share * mean, bound.least)
        verdicts.append({
            "name": bound.name, "title": bound.title, "mean": mean, "least": min(value for _, value in points),
            "most": max(value for _, value in points), "rise": rise, "rise_allowed": allowed, "slope_per_s": slope,
            "height_at_0": height, "is_flat": rise <= allowed,
        })
    return verdicts
