"""Freshness over the rate, and memory over time, as SVGs that need nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from pipeline.bench.live import Step
from pipeline.bench.soak import Sample

_WIDTH: Final = 720
_HEIGHT: Final = 420
_MARGIN: Final = 60
_BETWEEN_LABELS: Final = 40  # on an axis, from middle to middle
_LINES: Final = (
    ("behaviour p50", "#1f77b4", ""),
    ("behaviour p99", "#1f77b4", "6 3"),
    ("words p50", "#d62728", ""),
    ("words p99", "#d62728", "6 3"),
)
_Place: TypeAlias = Callable[[float], float]


def plot_freshness(steps: Sequence[Step], title: str) -> str:
    """The SVG: both axes logarithmic, a line a quantile."""
    measured = sorted((step for step in steps if step.behaviour), key=lambda step: step.rate)
    rates = [step.rate for step in measured] or [1.0]
    ages = [age for step in measured for age in (*step.behaviour, *step.words)] or [1.0]
    across = _scale(min(rates), max(rates), _MARGIN, _WIDTH - _MARGIN)
    down = _scale(min(ages), max(ages), _HEIGHT - _MARGIN, _MARGIN)
    parts = [*_frame(title), *_axes(rates, ages, across, down)]
    for place, (name, colour, dashes) in enumerate(_LINES):
        points = [(across(step.rate), down(age)) for step in measured for age in _ages(step, place)]
        parts += _line(points, colour, dashes)
        label = f"{name}{' (dashed)' if dashes else ''}"
        parts.append(_legend(place, label, colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def plot_memory(samples: Sequence[Sample], title: str) -> str:
    """The SVG of a soak: megabytes over minutes, of the job and of what it keeps of users."""
    lines = (
        ("the job", "#1f77b4", "", [sample.resident / 2**20 for sample in samples]),
        (
            "with the process that learns the index",
            "#d62728",
            "6 3",
            [sample.family / 2**20 for sample in samples],
        ),
        ("kept of users and texts", "#2ca02c", "", [sample.state / 2**20 for sample in samples]),
    )
    minutes = [sample.seconds / 60 for sample in samples] or [1.0]
    most = max((value for line in lines for value in line[3]), default=1.0) * 1.1

    def across(minute: float) -> float:
        return _MARGIN + minute / max(minutes[-1], 1e-3) * (_WIDTH - 2 * _MARGIN)

    def down(megabytes: float) -> float:
        return _HEIGHT - _MARGIN - megabytes / most * (_HEIGHT - 2 * _MARGIN)

    parts = [*_frame(title), *_memory_axes(minutes[-1], most, across, down)]
    for place, (name, colour, dashes, values) in enumerate(lines):
        points = [(across(minute), down(value)) for minute, value in zip(minutes, values, strict=False)]
        parts.append(_line(points, colour, dashes)[0])
        parts.append(_legend(place, name, colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _memory_axes(minutes: float, most: float, across: _Place, down: _Place) -> list[str]:
    bottom = _HEIGHT - _MARGIN
    parts = [f'<path d="M{_MARGIN},{_MARGIN} V{bottom} H{_WIDTH - _MARGIN}" fill="none" stroke="black"/>']
    for minute in _round_marks(minutes):
        place = f'x="{across(minute):.0f}" y="{bottom + 18}"'
        parts.append(f'<text {place} text-anchor="middle">{minute:g}</text>')
    for megabytes in _round_marks(most):
        parts += _level(megabytes, down)
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 12}" text-anchor="middle">minutes</text>')
    parts.append(f'<text x="8" y="{_MARGIN - 12}">MB of memory</text>')
    return parts


def _level(mark: float, down: _Place) -> list[str]:
    """A line across, with its value at the axis."""
    height = down(mark)
    return [
        f'<path d="M{_MARGIN},{height:.0f} H{_WIDTH - _MARGIN}" stroke="#ddd"/>',
        f'<text x="{_MARGIN - 6}" y="{height + 4:.0f}" text-anchor="end">{mark:g}</text>',
    ]


def _round_marks(most: float) -> list[float]:
    """From 0 to `most`: up to six multiples of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(most / 5))
    step = next(step * power for step in (1, 2, 5, 10) if most <= 5 * step * power)
    return [step * number for number in range(int(most / step) + 1)]


def _frame(title: str) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_WIDTH / 2}" y="24" text-anchor="middle" font-size="15">{title}</text>',
    ]


def _ages(step: Step, line: int) -> tuple[float, ...]:
    """The age of a line at a step, if it was measured."""
    ages = step.behaviour if line < 2 else step.words
    return (ages[0] if line % 2 == 0 else ages[2],) if ages else ()


def _scale(low: float, high: float, begin: float, end: float) -> _Place:
    low, high = math.log10(max(low, 1e-3) / 1.2), math.log10(max(high, 1e-3) * 1.2)
    return lambda value: begin + (math.log10(max(value, 1e-3)) - low) / (high - low) * (end - begin)


def _axes(rates: Sequence[float], ages: Sequence[float], across: _Place, down: _Place) -> list[str]:
    bottom, left = _HEIGHT - _MARGIN, _MARGIN
    parts = [f'<path d="M{left},{_MARGIN} V{bottom} H{_WIDTH - _MARGIN}" fill="none" stroke="black"/>']
    written = -math.inf
    for rate in sorted(set(rates)):
        if across(rate) - written >= _BETWEEN_LABELS:
            written = across(rate)
            parts.append(f'<text x="{written:.0f}" y="{bottom + 18}" text-anchor="middle">{rate:.0f}</text>')
    for mark in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100):
        if min(ages) / 1.2 <= mark <= max(ages) * 1.2:
            parts += _level(mark, down)
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 12}" text-anchor="middle">events a second</text>')
    parts.append(f'<text x="8" y="{_MARGIN - 12}">seconds from event to list</text>')
    return parts


def _line(points: Sequence[tuple[float, float]], colour: str, dashes: str) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-dasharray="{dashes}"/>',
        *dots,
    ]


def _legend(place: int, name: str, colour: str) -> str:
    """What a line is, the `place`th from the top, right of the axis."""
    return f'<text x="{_MARGIN + 10}" y="{_MARGIN + 10 + 15 * place}" fill="{colour}">{name}</text>'
