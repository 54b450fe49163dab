"""Figures as a person reads them: counts, sizes, durations, in the person's own locale."""

from qgis.PyQt.QtCore import QLocale

from ..report import tr


def count(value: int) -> str:
    """A whole number with separators: 1,024."""
    return QLocale().toString(int(value))


def decimal(value: float, digits: int = 3) -> str:
    """A number with at most so many significant digits, never as a power of ten below a million: 9.8, 12.5, 2000."""
    magnitude = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    text = QLocale().toString(float(value), "f", max(0, digits - magnitude))
    point = QLocale().decimalPoint()
    return text.rstrip("0").rstrip(point) if point in text else text


def metres(value: float) -> str:
    """A length on the ground: 0.5 m, 10 m, 2.4 km."""
    if value >= 1000:
        return tr("{value} km").format(value=decimal(value / 1000))
    return tr("{value} m").format(value=decimal(value))


def megabytes(value: float) -> str:
    """A size given in units of 10**6 bytes: 12 MB, 1.4 GB."""
    if value >= 1000:
        return tr("{value} GB").format(value=decimal(value / 1000, 2))
    return tr("{value} MB").format(value=count(max(1, round(value))))


def size(value: float) -> str:
    """A size given in bytes: 2 kB, 12 MB, 1.4 GB."""
    if value < 1e6:
        return tr("{value} kB").format(value=count(max(1, round(value / 1000))))
    return megabytes(value / 1e6)


def duration(seconds: float) -> str:
    """A duration, as precise as an estimate deserves: 8 s, 40 s, 3 min, 2 h 10 min."""
    if seconds < 10:
        return tr("{value} s").format(value=max(1, round(seconds)))
    if seconds < 55:
        return tr("{value} s").format(value=int(round(seconds / 5) * 5))
    minutes = round(seconds / 60)
    if minutes < 60:
        return tr("{value} min").format(value=max(1, minutes))
    hours, minutes = divmod(int(round(minutes / 5) * 5), 60)
    if hours >= 48:
        return tr("{value} days").format(value=count(round(hours / 24)))
    if not minutes:
        return tr("{value} h").format(value=hours)
    return tr("{hours} h {minutes} min").format(hours=hours, minutes=minutes)
