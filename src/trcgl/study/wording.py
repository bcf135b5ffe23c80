"""Columns, numbers, sentences and the table type that all reports of a study share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from trcgl.metrics.registry import METRICS
from trcgl.study.statistics import POWER

COLUMNS = {
    "mAP_tail": "tail mAP",
    "mAP_medium": "medium mAP",
    "mAP_head": "head mAP",
    "mAP_overall": "mAP",
} | {f"m{name}": f"m{name}" for name in METRICS if name != "AP"}
"""Mean metric in `table.json` to its column; a study of 0.1.0 has fewer."""
POWERED = f"{100 * POWER:.0f} % power"

Rows = list[tuple[str, ...]]
Contrast = dict[str, Any]
"""A contrast of `table.json`."""


@dataclass(frozen=True)
class Table:
    """A table of the report."""

    id: str  # anchor of its heading on the page
    title: str
    caption: str  # what the table shows, without a final period
    rows: Rows  # header and rows
    prose: bool = False  # cells hold sentences rather than numbers
    folded: bool = False  # closed on the page until it is clicked


def columns_of(document: dict[str, Any]) -> list[str]:
    """The mean metrics that a table has."""
    return [name for name in COLUMNS if any(name in arm["metrics"] for arm in document["arms"].values())]


def known(value: int | float | None, form: str) -> str:
    """A number in a format, or a dash where it is not known."""
    return "–" if value is None else format(value, form)


def spread(over_seeds: dict[str, Any]) -> str:
    """Mean ± standard deviation."""
    return known(over_seeds["mean"], ".4f") + (f" ± {over_seeds['sd']:.4f}" if over_seeds["sd"] is not None else "")


def change(value: float, interval: Sequence[float] | None, digits: int = 4) -> str:
    """A difference with its interval."""
    if interval is None:
        return f"{value:+.{digits}f}"
    return f"{value:+.{digits}f} [{interval[0]:+.{digits}f}, {interval[1]:+.{digits}f}]"


def change_over_seeds(contrast: Contrast) -> str:
    """The difference of a contrast with its interval and number of seeds."""
    return f"{change(contrast['value'], contrast['interval'])} over {plural(len(contrast['seeds']), 'seed')}"


def decided(interval: Sequence[float]) -> int:
    """1 where an interval lies above 0, -1 where it lies below 0, 0 where it holds 0."""
    return int(interval[0] > 0) - int(interval[1] < 0)


def names_of(contrast: Contrast) -> str:
    """`arm - against`."""
    return f"{contrast['arm']} - {contrast['against']}"


def plural(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def would_be_detected(contrast: Contrast) -> str:
    """The smallest difference that the contrast would have detected."""
    return f"a difference of {contrast['detectable']:.2g} would have been detected with {POWERED}"


def by_effect(contrasts: Sequence[Contrast]) -> list[Contrast]:
    """Contrasts from the largest difference to the smallest; those without a value last."""
    ascending = sorted(contrasts, key=lambda contrast: -inf if contrast["value"] is None else contrast["value"])
    return ascending[::-1]


def sentences(document: dict[str, Any]) -> list[str]:
    """What the study found: the primary contrast, the other contrasts, diverged runs."""
    first, *others = document["contrasts"]
    same_baseline = {contrast["against"] for contrast in document["contrasts"]} == {first["against"]}
    name: Callable[[Contrast], str] = (lambda contrast: str(contrast["arm"])) if same_baseline else names_of
    return [_primary(first), *adjusted(others, name), *diverged(document)]


def adjusted(others: Sequence[Contrast], name: Callable[[Contrast], str]) -> list[str]:
    """A sentence that lists the contrasts by sign, adjusted by Holm's method; none if no contrast has an interval."""
    found = by_effect([contrast for contrast in others if contrast["interval"]])
    if not found:
        return []
    by_sign = {sign: [contrast for contrast in found if decided(contrast["interval"]) == sign] for sign in (1, -1, 0)}
    higher, lower, equal = (", ".join(map(name, of_sign)) for of_sign in by_sign.values())
    parts = [f"higher {higher or 'none'}", f"lower {lower or 'none'}"]
    if equal:
        detectable = [contrast["detectable"] for contrast in by_sign[0]]
        ends = dict.fromkeys(f"{end:.3f}" for end in (min(detectable), max(detectable)))
        parts.append(f"no difference shown for {equal} (detectable with {POWERED}: {' to '.join(ends)})")
    return [f"Of {plural(len(found), 'other contrast')}, adjusted for their number (Holm): {'; '.join(parts)}."]


def diverged(document: dict[str, Any]) -> list[str]:
    """A sentence about the runs that diverged; none if no run did."""
    lost = [f"{name} seed {seed}" for name, arm in document["arms"].items() for seed in arm["diverged"]]
    return [f"Diverged, and not averaged: {', '.join(lost)}."] if lost else []


def _primary(contrast: Contrast) -> str:
    arm, against = contrast["arm"], contrast["against"]
    if contrast["interval"] is None:
        return f"{arm} and {against} cannot be compared: {contrast['why']}."
    number = change_over_seeds(contrast)
    sign = decided(contrast["interval"])
    if sign:
        how = "better" if sign > 0 else "less well"
        return f"{arm} recognizes rare findings {how} than {against}: tail mAP changes by {number}."
    return (
        f"No difference between {arm} and {against} was shown for rare findings: tail mAP changes by {number}; "
        f"{would_be_detected(contrast)}."
    )
