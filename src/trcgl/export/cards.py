"""The model card and the data card of an exported model: what it is, from what, how good, and what it is not for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trcgl import __version__
from trcgl.core import html, storage
from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace

_NAMED_LICENSES = ("apache-2.0", "mit", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-sa-4.0", "bsd-3-clause")
"""Licenses of initial weights that the hub knows by timm's name."""


@dataclass(frozen=True)
class Origin:
    """Where a model comes from; empty for a model folder outside its run.

    Args:
        run: the content of `run.json`.
        dataset: the content of `dataset.json`, if it lies where the run left it and is unchanged.
        evaluations: name (`test`, `val`, or `<dataset>-<split>`) to the evaluation.
    """

    run: Mapping[str, Any] | None
    dataset: Mapping[str, Any] | None
    evaluations: Mapping[str, Mapping[str, Any]]


def origin_of(source: Path) -> Origin:
    """What a run folder says about its model.

    Raises:
        DataError: a file of it is damaged.
    """
    if not (source / "run.json").is_file():
        return Origin(None, None, {})
    told = storage.read_json(source / "run.json")
    dataset = (source.resolve() / told["dataset"] / "dataset.json").resolve()
    known = dataset.is_file() and storage.sha256_file(dataset) == told["dataset_digest"]
    pages = sorted((source / "evaluation").glob("*.json"), key=lambda page: (page.stem not in ("test", "val"), page))
    return Origin(told, storage.read_json(dataset) if known else None, {page.stem: _evaluation(page) for page in pages})


def model_card(info: Mapping[str, Any], origin: Origin, space: LabelSpace) -> str:
    """README.md of a model folder, with the front matter that the Hugging Face hub reads.

    Args:
        info: the content of the exported `model.json`.
        origin: what the run says.
        space: of the model.
    """
    license = info["license"].lower()
    return _render(
        "model_card.md.j2",
        info=info,
        onnx=info.get("onnx"),
        origin=origin,
        space=space,
        model=info["recipe"]["model"],
        hub_license=license if license in _NAMED_LICENSES else None,
        findings=[_row(*one) for one in _findings(info, space)],
        evaluations=[_tables(name, told) for name, told in origin.evaluations.items()],
    )


def data_card(info: Mapping[str, Any], origin: Origin, space: LabelSpace) -> str:
    """DATA.md: what `dataset.json` knows, and questions that only a person can answer."""
    dataset = origin.dataset or {}
    splits = [_row(name, one["images"], one["patients"]) for name, one in dataset.get("splits", {}).items()]
    counts = [_row(name, count) for name, count in dataset.get("counts", {}).items()]
    return _render("data_card.md.j2", info=info, space=space, dataset=dataset, splits=splits, counts=counts)


def score_script() -> str:
    """score.py: a `.npy` radiograph in, scores out, with NumPy and onnxruntime alone."""
    return _render("score.py.j2")


def _evaluation(page: Path) -> dict[str, Any]:
    told = storage.read_json(page)
    if not isinstance(told, dict) or told.get("schema") != "trcgl.evaluation/1":
        raise DataError(f"{page} is no evaluation. Remove it, or run `trcgl evaluate` again.")
    return told


def _findings(info: Mapping[str, Any], space: LabelSpace) -> list[tuple[str, str, str]]:
    thresholds = info["thresholds"] or {}
    return [
        (one, space.groups.get(one, "-"), f"{thresholds[one]:.3f}" if one in thresholds else "-")
        for one in space.findings
    ]


def _tables(name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    means = [("all", told["overall"]), *told["groups"].items()]
    return {
        "name": name,
        "images": told["images"],
        "patients": told["patients"],
        "replicates": told["bootstrap"]["replicates"],
        "means": [
            _row(group, one["mAP"]["findings"], *(_figure(one[metric]) for metric in ("mAP", "mAUC", "mF1")))
            for group, one in means
        ],
        "findings": [
            _row(finding, one["group"], one["positives"], *(_figure(one[metric]) for metric in ("AP", "AUC", "F1")))
            for finding, one in told["findings"].items()
        ],
    }


def _figure(metric: Mapping[str, Any]) -> str:
    if metric["value"] is None:
        return metric["why"]
    return f"{metric['value']:.3f}" + (" [{:.3f}, {:.3f}]".format(*metric["ci"]) if metric["ci"] else "")


def _row(*cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", r"\|").replace("\n", " ") for cell in cells) + " |"


def _render(template: str, **values: Any) -> str:
    page = html.environment("trcgl.export").get_template(template).render(version=__version__, **values)
    page = page.replace("&#39;", "'").replace(
        "&#34;", '"'
    )  # Markdown is read as it is, too: only < > & must be escaped
    return page.rstrip() + "\n"
