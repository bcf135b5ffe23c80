"""The page of an audit: the conclusion first, then for every finding its images and checks, folded."""

import math
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment

from trcgl.audit.check import NOT_ASSESSABLE, PASS
from trcgl.audit.checks import CHECKS
from trcgl.audit.pictures import pictures
from trcgl.audit.scored_images import ScoredImages
from trcgl.core import html, storage

SECTIONS = (
    ("findings", "Findings"),
    ("details", "Images and numbers"),
    ("together", "All findings together"),
    ("readers", "Readers"),
    ("method", "Method and limits"),
)


def write_report(folder: Path, audit: dict[str, Any], images: ScoredImages) -> None:
    """Write `audit.html` from the content of `audit.json` and the images of the audit."""
    seed = audit["options"]["seed"]
    template = environment().get_template("audit.html.j2")
    body = template.render(
        audit=audit,
        checks=CHECKS,
        pictures={
            finding: pictures(images, finding, entry["memorization"], seed)
            for finding, entry in audit["findings"].items()
        },
        plots={
            # A check that was added after the audit has no result.
            check.key: check.plot(audit["overall"][check.key]) if check.plot and check.key in audit["overall"] else None
            for check in CHECKS
        },
        slug=_slug,
    )
    page = html.page(
        f"Audit of {audit['synthetic']}",
        body,
        lead=lead(audit),
        subtitle=f"Synthetic images for {audit['dataset']}: {len(audit['findings'])} findings, "
        f"{audit['options']['each']} images of each with it and as many without; {audit['held_out']['images']:,} "
        f"held-out real images of {audit['held_out']['patients']:,} patients.",
        phantom=audit["phantom"],
        sections=[(key, title) for key, title in SECTIONS if f'id="{key}"' in body],
        style=resources.files("trcgl.audit").joinpath("audit.css").read_text(encoding="utf-8"),
    )
    storage.write_text(folder / "audit.html", page)


def lead(audit: dict[str, Any]) -> str:
    """The conclusion in two sentences: which findings the synthetic images show, and whether they are copies."""
    by_word: dict[str, list[str]] = {}
    for finding, entry in audit["findings"].items():
        by_word.setdefault(entry["verdict"]["word"], []).append(finding)
    passed, unknown = by_word.pop(PASS, []), by_word.pop(NOT_ASSESSABLE, [])
    clauses = []
    if passed or by_word:
        shown = _join(passed) if passed else f"none of {len(audit['findings'])} audited findings"
        clauses.append(f"an independent classifier recognizes {shown} in the synthetic images as well as in real ones")
    clauses += [f"{_join(findings)}: {word}" for word, findings in by_word.items()]
    if unknown:
        clauses.append(f"it cannot assess {_join(unknown)}" if clauses else f"{_join(unknown)} cannot be assessed")
    copied = {finding: entry["memorization"]["flagged"] for finding, entry in audit["findings"].items()}
    if flagged := [finding for finding, found in copied.items() if found]:
        second = f"Synthetic images of {_join(flagged)} repeat training images."
    elif audit["overall"]["memorization"]["flagged"]:
        second = "Taken together, the synthetic images repeat training images."
    elif untested := [finding for finding, found in copied.items() if found is None]:
        second = f"Whether images repeat training images could not be tested for {_join(untested)}: too few images."
    else:
        second = "No sign that they repeat training images was found."
    first = "; ".join(clauses)
    return f"{first[:1].upper()}{first[1:]}. {second}"


def _join(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


@cache
def environment() -> Environment:
    """The templates of the page, with filters for its numbers."""
    templates = html.environment("trcgl.audit")
    templates.filters["number"] = lambda value, digits=3: f"{value:.{digits}f}"
    templates.filters["percent"] = lambda value: f"{value:.0%}" if value in (0, 1) else f"{value:.1%}"
    templates.filters["sentence"] = lambda text: f"{text[:1].upper()}{text[1:]}."
    templates.filters["thousands"] = lambda value: f"{value:,}"
    templates.filters["small"] = _small
    templates.filters["probability"] = lambda value: "below 0.001" if value < 0.001 else f"{value:.3f}"
    return templates


def _small(value: float) -> str:
    """Three significant digits without an exponent: distances are small."""
    if value == 0:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _slug(finding: str) -> str:
    return "finding-" + "".join(letter if letter.isalnum() else "-" for letter in finding.lower())
