"""`trcgl describe`: the long tail of a dataset in numbers and pictures (the paper's Figure 2).

trcgl describe padchest --out padchest-figures
"""

from html import escape
from pathlib import Path
from typing import Any

import polars as pl

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.dataset.cooccurrence import Cooccurrence, counts
from trcgl.dataset.labels import GROUPS
from trcgl.dataset.manifest import SPLITS, taking_part
from trcgl.dataset.preparation_report import finding_counts, findings_html, picture_html, table_html
from trcgl.dataset.store import Dataset, open_dataset

SCHEMA = "trcgl.description/1"


def describe(folder: Path, out: Path | None = None) -> dict[str, Any]:
    """Count a dataset and draw it.

    Writes `describe.html` (self-contained), `figures/label_distribution.png` and `figures/cooccurrence.png`.

    Args:
        folder: the dataset folder.
        out: where the page and the figures go; the dataset folder itself where None.

    Returns:
        Images and patients per split, findings with their groups and counts, the strongest pairs and the imbalance.

    Raises:
        DataError: the folder is no dataset, its files were changed, or `out` cannot be written to.
    """
    from trcgl.core import html
    from trcgl.dataset.figures import cooccurrence_matrix, label_distribution

    dataset = open_dataset(folder)
    space = dataset.space
    _check_store(dataset)
    part = taking_part(dataset.manifest)
    seen = counts(part, space)
    summary = _summary(dataset, part, seen)
    out = Path(out) if out else dataset.folder
    title = f"{dataset.name}: {seen.rows_with_any:,} images with any of {len(space.findings)} findings"
    distribution = label_distribution(space, seen, title)
    matrix = cooccurrence_matrix(space, seen, f"{dataset.name}: which finding comes with which")
    for name, figure in (("label_distribution", distribution), ("cooccurrence", matrix)):
        with storage.atomic(out / "figures" / f"{name}.png") as aside:
            figure.savefig(aside, dpi=150, format="png", facecolor="white")
    body = [
        "<h2>Splits</h2>",
        table_html(
            ("split", "images", "patients", "images that take part"),
            [(split, *summary["splits"][split].values()) for split in SPLITS],
        ),
        "<h2>The long tail</h2>",
        f"<p>{_tail_in_words(summary)}</p>",
        picture_html(html, distribution, "Images per finding on a log scale, colored by head, medium and tail"),
        findings_html(summary["findings"]),
        "<h2>Which finding comes with which</h2>",
        picture_html(html, matrix, "Conditional co-occurrence of every pair of findings"),
        table_html(
            ("given", "also has", "share", "images"),
            [(one["given"], one["also"], f"{one['share']:.1%}", one["images"]) for one in summary["strongest_pairs"]],
        ),
        "<h2>Views and label sources</h2>",
        table_html(("view", "images"), summary["views"].items()),
        table_html(("label source", "images"), summary["label_sources"].items()),
        "".join(
            f"<p>{escape(note)}</p>"
            for note in (*dataset.info["notes"], f"License of the data: {dataset.info['license']}")
        ),
    ]
    storage.write_text(out / "describe.html", html.page(f"{dataset.name}: the long tail", "\n".join(body)))
    return {**summary, "page": str(out / "describe.html")}


def _summary(dataset: Dataset, part: pl.DataFrame, seen: Cooccurrence) -> dict[str, Any]:
    space = dataset.space
    positive = seen.positives[seen.positives > 0]
    splits = {}
    for split in SPLITS:
        rows = dataset.manifest.filter(pl.col("split") == split)
        splits[split] = {
            "images": rows.height,
            "patients": rows["patient_id"].n_unique(),
            "taking_part": taking_part(rows).height,
        }
    return {
        "schema": SCHEMA,
        "name": dataset.name,
        "images": dataset.manifest.height,
        "patients": dataset.manifest["patient_id"].n_unique(),
        "images_taking_part": part.height,
        "images_with_any_finding": seen.rows_with_any,
        "findings_per_image": float(seen.positives.sum() / max(seen.rows_with_any, 1)),
        "imbalance": float(positive.max() / positive.min()) if len(positive) else None,
        "groups": {group: [one for one in space.findings if space.groups.get(one) == group] for group in GROUPS},
        "group_rule": space.group_rule,
        "splits": splits,
        "findings": finding_counts(part, space),
        "strongest_pairs": _strongest(dataset, seen),
        "views": _tally(part, "view"),
        "label_sources": _tally(part, "label_source"),
    }


def _strongest(dataset: Dataset, seen: Cooccurrence, how_many: int = 12) -> list[dict[str, Any]]:
    share, names = seen.conditional(), dataset.space.findings
    pairs: list[dict[str, Any]] = [
        {"given": given, "also": also, "share": float(share[i, j]), "images": int(seen.joint[i, j])}
        for i, given in enumerate(names)
        for j, also in enumerate(names)
        if i != j and seen.joint[i, j]
    ]
    return sorted(pairs, key=lambda one: one["share"], reverse=True)[:how_many]


def _tally(part: pl.DataFrame, column: str) -> dict[str, int]:
    named = part.select(pl.col(column).fill_null("not stated")).group_by(column).len()
    return dict(named.sort(["len", column], descending=[True, False]).iter_rows())


def _tail_in_words(summary: dict[str, Any]) -> str:
    groups = ", ".join(f"{group} {len(names)}" for group, names in summary["groups"].items())
    rule = {
        "name": "fixed by name",
        "prevalence": "by share of the training images with any finding: above 10 %, 1 to 10 %, below 1 %",
        "counts": "by training images: above 1,000, 100 to 1,000, below 100",
    }[summary["group_rule"]]
    imbalance = f"{summary['imbalance']:,.0f} : 1" if summary["imbalance"] else "not defined"
    return (
        f"{summary['images_with_any_finding']:,} images have at least one finding, {summary['findings_per_image']:.2f} "
        f"on average. Most to least frequent finding: {imbalance}. Groups ({rule}): {groups}."
    )


def _check_store(dataset: Dataset) -> None:
    known = dataset.info["files"].get("images.npy")
    if known and storage.sha256_file(dataset.folder / "images.npy") != known["sha256"]:
        raise DataError(f"{dataset.folder}/images.npy is not the file that `prepare` wrote. Prepare the dataset again.")
