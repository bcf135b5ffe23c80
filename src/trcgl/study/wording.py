"""Columns, numbers and sentences as every table and page of a study gives them."""

from collections.abc import Callable, Sequence
from typing import Any

METRICS = {
    "mAP_tail": "tail mAP",
    "mAP_medium": "medium mAP",
    "mAP_head": "head mAP",
    "mAP_overall": "mAP",
    "mAUC": "mAUC",
    "mF1": "mF1",
    "mECE": "mECE",
}
"""Columns of the table."""


def verdict(document: dict[str, Any]) -> str:
    """What may be said, in sentences that are made from the numbers."""
    first, *others = document["contrasts"]
    against_one = {one["against"] for one in document["contrasts"]} == {first["against"]}

    def name(one: dict[str, Any]) -> str:
        return str(one["arm"]) if against_one else f"{one['arm']} - {one['against']}"

    return " ".join([_sentence(first), *adjusted(others, name), *diverged(document)])


def adjusted(others: Sequence[dict[str, Any]], name: Callable[[dict[str, Any]], str]) -> list[str]:
    """A sentence on the contrasts that are adjusted for their number; none where none has an interval.

    Args:
        others: contrasts of the table.
        name: what each is called.
    """
    told = [one for one in others if one["interval"]]
    if not told:
        return []
    higher = [name(one) for one in told if one["interval"][0] > 0]
    lower = [name(one) for one in told if one["interval"][1] < 0]
    unclear = [one for one in told if one["interval"][0] <= 0 <= one["interval"][1]]
    counted = f"Of {len(told)} other contrast{'s' if len(told) > 1 else ''}, adjusted for their number (Holm): "
    parts = [f"higher {', '.join(higher) or 'none'}", f"lower {', '.join(lower) or 'none'}"]
    if unclear:
        least, most = (pick(one["detectable"] for one in unclear) for pick in (min, max))
        span = f"{least:.3f}" if f"{least:.3f}" == f"{most:.3f}" else f"{least:.3f} to {most:.3f}"
        parts.append(f"no difference shown for {', '.join(map(name, unclear))} (detectable: {span})")
    return [counted + "; ".join(parts) + "."]


def diverged(document: dict[str, Any]) -> list[str]:
    """A sentence on the runs that diverged; none where none did."""
    lost = [f"{name} seed {seed}" for name, arm in document["arms"].items() for seed in arm["diverged"]]
    return [f"Diverged, and not averaged: {', '.join(lost)}."] if lost else []


def _sentence(one: dict[str, Any]) -> str:
    names = f"{one['arm']} against {one['against']}"
    if one["interval"] is None:
        return f"{names}: nothing can be said ({one['why']})."
    low, high = one["interval"]
    found = f"{one['value']:+.4f} [{low:+.4f}, {high:+.4f}] in tail mAP over {len(one['seeds'])} seeds"
    if low > 0:
        return f"{names}: higher, {found}."
    if high < 0:
        return f"{names}: lower, {found}."
    return f"{names}: no difference shown, {found}; one of {one['detectable']:.4f} would probably have been."


def spread(over_seeds: dict[str, Any]) -> str:
    """Mean ± standard deviation."""
    if over_seeds["mean"] is None:
        return "–"
    return f"{over_seeds['mean']:.4f}" + (f" ± {over_seeds['sd']:.4f}" if over_seeds["sd"] is not None else "")
