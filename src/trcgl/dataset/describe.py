"""`trcgl describe`: the long tail of a dataset in numbers and plots (the paper's Figure 2)."""

from pathlib import Path
from typing import Any

import polars as pl

from trcgl.core import html, storage
from trcgl.core.errors import DataError
from trcgl.dataset.cooccurrence import Cooccurrence, counts
from trcgl.dataset.finding_counts import finding_counts, findings_html, tally
from trcgl.dataset.labels import GROUPS, LabelSpace
from trcgl.dataset.manifest import SPLITS, taking_part
from trcgl.dataset.store import Dataset, open_dataset

SCHEMA = "trcgl.description/1"
_GROUP_RULES = {
    "name": "fixed by name",
    "prevalence": "by share of the training images with any finding: above 10 %, 1 to 10 %, below 1 %",
    "counts": "by training images: above 1,000, 100 to 1,000, below 100",
}
_PAIRS = 12


def describe(folder: Path, out: Path | None = None) -> dict[str, Any]:
    """Count and plot the findings of a dataset.

    Writes `describe.html` (self-contained), `figures/label_distribution.png` and `figures/cooccurrence.png`.

    `out`: folder for the page and the figures; None writes into the dataset folder.

    Returns:
        Images and patients per split, findings with their groups and counts, and, of the training split, the
        imbalance and the strongest pairs.
    """
    from trcgl.dataset.figures import cooccurrence_matrix, label_distribution

    dataset = open_dataset(folder)
    _check_images(dataset)
    train = counts(taking_part(dataset.manifest.filter(pl.col("split") == "train")), dataset.space)
    summary = _summary(dataset, train)
    out = Path(out) if out else dataset.folder
    with html.house_style():
        distribution = label_distribution(dataset.space, train, f"{dataset.name}: training images per finding")
        matrix = cooccurrence_matrix(dataset.space, train, f"{dataset.name}: which finding comes with which")
        for name, plot in (("label_distribution", distribution), ("cooccurrence", matrix)):
            with storage.atomic(out / "figures" / f"{name}.png") as aside:
                plot.savefig(aside, dpi=150, format="png")
    body = (
        html.environment("trcgl.dataset")
        .get_template("describe.html.j2")
        .render(
            summary,
            distribution=distribution,
            matrix=matrix,
            group_rule=_GROUP_RULES[summary["group_rule"]],
            findings=findings_html(summary["findings"]),
            pairs=[
                (pair["given"], pair["also"], f"{pair['share']:.1%}", pair["images"])
                for pair in summary["strongest_pairs"]
            ],
            splits=[(split, *sizes.values()) for split, sizes in summary["splits"].items()],
            notes=dataset.info["notes"],
            license=dataset.info["license"],
        )
    )
    phantom = dataset.info["source"] == "phantom"
    page = html.page(f"{dataset.name}: the long tail", body, lead=_lead(summary), phantom=phantom)
    storage.write_text(out / "describe.html", page)
    return {**summary, "page": str(out / "describe.html")}


def _summary(dataset: Dataset, train: Cooccurrence) -> dict[str, Any]:
    space, rows = dataset.space, taking_part(dataset.manifest)
    findings = finding_counts(rows, space)
    present = sorted((row for row in findings if row["train"]["images"]), key=lambda row: row["train"]["images"])
    splits = {}
    for split in SPLITS:
        of_split = dataset.manifest.filter(pl.col("split") == split)
        splits[split] = {
            "images": of_split.height,
            "patients": of_split["patient_id"].n_unique(),
            "taking_part": taking_part(of_split).height,
        }
    return {
        "schema": SCHEMA,
        "name": dataset.name,
        "images": dataset.manifest.height,
        "patients": dataset.manifest["patient_id"].n_unique(),
        "images_taking_part": rows.height,
        "train": {
            "images_with_any_finding": train.rows_with_any,
            "findings_per_image": float(train.positives.sum() / max(train.rows_with_any, 1)),
            "imbalance": present[-1]["train"]["images"] / present[0]["train"]["images"] if present else None,
            "most_frequent": present[-1]["finding"] if present else None,
            "rarest": present[0]["finding"] if present else None,
        },
        "groups": {group: [name for name in space.findings if space.groups.get(name) == group] for group in GROUPS},
        "group_rule": space.group_rule,
        "splits": splits,
        "findings": findings,
        "strongest_pairs": _strongest(space, train),
        "views": tally(rows["view"].fill_null("not stated")),
        "label_sources": tally(rows["label_source"].fill_null("not stated")),
    }


def _strongest(space: LabelSpace, train: Cooccurrence) -> list[dict[str, Any]]:
    share, names = train.conditional(), space.findings
    pairs: list[dict[str, Any]] = [
        {"given": given, "also": also, "share": float(share[i, j]), "images": int(train.joint[i, j])}
        for i, given in enumerate(names)
        for j, also in enumerate(names)
        if i != j and train.joint[i, j]
    ]
    return sorted(pairs, key=lambda pair: pair["share"], reverse=True)[:_PAIRS]


def _lead(summary: dict[str, Any]) -> str:
    """How large the dataset is and how long its tail, for the first lines of the page."""
    train, groups = summary["train"], summary["groups"]
    size = f"{summary['name']} has {summary['images']:,} images of {summary['patients']:,} patients. "
    if train["imbalance"] is None:
        return size + "No image of the training split has a finding."
    rarest = next(row for row in summary["findings"] if row["finding"] == train["rarest"])["train"]
    return (
        f"{size}In the training split the most frequent finding, {train['most_frequent']}, has "
        f"{train['imbalance']:,.0f} times as many images as the rarest, {train['rarest']} "
        f"({_count(rarest['images'], 'image')} of {_count(rarest['patients'], 'patient')}); {len(groups['tail'])} of "
        f"{len(summary['findings'])} findings belong to the tail."
    )


def _check_images(dataset: Dataset) -> None:
    stored = dataset.info["files"].get("images.npy")
    if stored and storage.sha256_file(dataset.folder / "images.npy") != stored["sha256"]:
        raise DataError(f"{dataset.folder}/images.npy is not the file that `prepare` wrote. Prepare the dataset again.")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
