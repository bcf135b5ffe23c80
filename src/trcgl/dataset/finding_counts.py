"""Images and patients of every finding in each split, as values, as a table of a page and as text for a terminal."""

from collections.abc import Sequence
from typing import Any

import polars as pl
from markupsafe import Markup

from trcgl.core import html, markdown
from trcgl.dataset.cooccurrence import counts
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.manifest import SPLITS

FEW = 20  # positive patients below which the interval of a metric is wide
_WITHOUT_POSITIVES = {
    "train": "cannot be learned",
    "val": "take no part in choosing the epoch, and get the threshold 0.5",
    "test": "cannot be evaluated",
}
_WITHOUT_NEGATIVES = {
    "train": "are learned as always present",
    "val": "have no AP or AUC there and take no part in choosing the epoch",
    "test": "have no AP or AUC there",
}

Findings = Sequence[dict[str, Any]]  # rows of `finding_counts`


def tally(values: pl.Series) -> dict[str, int]:
    """How often each value occurs, the most common first."""
    table = values.rename("value").value_counts(name="count")
    return dict(table.sort(["count", "value"], descending=[True, False]).iter_rows())


def finding_counts(rows: pl.DataFrame, space: LabelSpace) -> list[dict[str, Any]]:
    """Count images and patients with each finding.

    Returns:
        For each finding its `group`, `images`, `patients`, rows with an `unknown` label, `prevalence` (share of the
        training images with any finding), and for each split its `images` and `patients`, and the number of images
        that are known `negatives`.
    """
    prevalence = counts(rows.filter(pl.col("split") == "train"), space).prevalence()
    table = []
    for place, finding in enumerate(space.findings):
        positive = rows.filter(pl.col(finding) == 1)
        negatives = dict(rows.filter(pl.col(finding) == 0)["split"].value_counts().iter_rows())
        splits = {split: positive.filter(pl.col("split") == split) for split in SPLITS}
        table.append(
            {
                "finding": finding,
                "group": space.groups.get(finding),
                **_sizes(positive),
                "prevalence": float(prevalence[place]),
                "unknown": rows[finding].null_count(),
                **{split: {**_sizes(there), "negatives": negatives.get(split, 0)} for split, there in splits.items()},
            }
        )
    return table


def findings_html(findings: Findings) -> Markup:
    """The counts as a table of a page, most frequent in train first, and the findings that a split lacks."""
    shares = [(f"{finding['prevalence']:.2%}", finding["unknown"]) for finding in _by_frequency(findings)]
    table = html.table(
        ("finding", "group", *SPLITS, "share of train", "unknown"),
        [(*cells, *share) for cells, share in zip(_cells(findings, "\u00a0/\u00a0"), shares, strict=True)],
        "Images / patients with each finding; share: of the training images with any finding",
    )
    missing = [Markup("<p>{}</p>").format(sentence) for sentence in _missing_sentences(findings)]
    return table + Markup("").join(missing)


def findings_text(findings: Findings) -> str:
    """The counts as a table for a terminal, then the findings with the fewest patients in val and test."""
    table = markdown.table([("images / patients", "group", *SPLITS), *_cells(findings, " / ")])
    smallest = [f"fewest positive patients in {split}: {fewest(findings, split)}" for split in ("val", "test")]
    return "\n".join([table, *smallest, *_missing_sentences(findings)])


def _cells(findings: Findings, between: str) -> list[tuple[str, ...]]:
    """Rows of a table (finding, group, then images and patients of each split), most frequent in train first."""
    return [
        (
            finding["finding"],
            finding["group"] or "",
            *(f"{finding[split]['images']:,}{between}{finding[split]['patients']:,}" for split in SPLITS),
        )
        for finding in _by_frequency(findings)
    ]


def fewest(findings: Findings, split: str, named: int = 5) -> str:
    """The findings with the fewest positive patients in a split, with their number: `Hernia 2, Edema 5`."""
    rare = sorted(findings, key=lambda finding: finding[split]["patients"])[:named]
    return ", ".join(f"{finding['finding']} {finding[split]['patients']}" for finding in rare)


def _by_frequency(findings: Findings) -> Findings:
    return sorted(findings, key=lambda finding: (-finding["train"]["images"], -finding["images"]))


def _sizes(positive: pl.DataFrame) -> dict[str, int]:
    return {"images": positive.height, "patients": positive["patient_id"].n_unique()}


def _missing_sentences(findings: Findings) -> list[str]:
    missing = {split: [row["finding"] for row in findings if not row[split]["images"]] for split in SPLITS}
    sentences = [
        f"Without a positive in {split}, so they {_WITHOUT_POSITIVES[split]}: {', '.join(names)}."
        for split, names in missing.items()
        if names
    ]
    return [*sentences, *without_negatives(findings)]


def without_negatives(findings: Findings) -> list[str]:
    """A sentence for each split on the findings with positives but no known negative."""
    known = {
        # Reports of 0.2.0 do not count negatives.
        split: [row["finding"] for row in findings if row[split]["images"] and row[split].get("negatives") == 0]
        for split in SPLITS
    }
    return [
        f"Without a known negative in {split}, so they {_WITHOUT_NEGATIVES[split]}: {', '.join(names)}."
        for split, names in known.items()
        if names
    ]
