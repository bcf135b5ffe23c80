"""The model card and the data card of an exported model: its data, metrics, limits and license."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trcgl import __version__
from trcgl.core import html, storage
from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace
from trcgl.metrics.summary import value_text
from trcgl.model.combination import Combination
from trcgl.model.folder import dataset_of

_NAMED_LICENSES = ("apache-2.0", "mit", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-sa-4.0", "bsd-3-clause")
"""Licenses of initial weights that the hub knows by timm's name."""


@dataclass(frozen=True)
class Origin:
    """The run, dataset and evaluations of a model; empty for a model folder outside its run."""

    run: Mapping[str, Any] | None
    """Content of `run.json`."""
    dataset: Mapping[str, Any] | None
    """Content of `dataset.json`, unless the dataset was moved or has changed."""
    evaluations: Mapping[str, Mapping[str, Any]]
    """Name (`test`, `val`, or `<dataset>-<split>`) to evaluation."""


def origin_of(source: Path) -> Origin:
    """Read the origin of a model from its run folder.

    Raises:
        DataError: a file of the run folder is damaged.
    """
    if not (source / "run.json").is_file():
        return Origin(None, None, {})
    run = storage.read_json(source / "run.json")
    return Origin(run, dataset_of(source), evaluations_of(source))


def evaluations_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Name to evaluation of a run folder or ensemble folder; those of its own dataset come first."""
    pages = sorted((folder / "evaluation").glob("*.json"), key=lambda page: (page.stem not in ("test", "val"), page))
    return {page.stem: _evaluation(page) for page in pages}


def model_card(info: Mapping[str, Any], origin: Origin, space: LabelSpace) -> str:
    """README.md of a model folder, with the front matter that the Hugging Face hub reads; `info` is `model.json`."""
    license = info["license"].lower()
    named = {"model": info["recipe"]["model"], "hub_license": license if license in _NAMED_LICENSES else None}
    return _render("model_card.md.j2", info=info, onnx=info.get("onnx"), origin=origin, space=space, **named)


def ensemble_card(
    members: Sequence[Mapping[str, Any]],
    combination: Combination,
    evaluations: Mapping[str, Mapping[str, Any]],
    space: LabelSpace,
) -> str:
    """README.md of an exported ensemble; a member has a name, a folder, a weight and a license."""
    named = {"combination": combination, "evaluations": evaluations, "space": space}
    return _render("ensemble_card.md.j2", members=members, **named)


def data_card(info: Mapping[str, Any], origin: Origin, space: LabelSpace) -> str:
    """DATA.md of a model folder: facts from `dataset.json`, and questions for the people who collected the data."""
    return _render("data_card.md.j2", info=info, space=space, dataset=origin.dataset)


def score_script() -> str:
    """score.py of a model folder, which scores a `.npy` radiograph with NumPy and onnxruntime only."""
    return _render("score.py.j2")


def _evaluation(page: Path) -> dict[str, Any]:
    evaluation = storage.read_json(page)
    if not isinstance(evaluation, dict) or evaluation.get("schema") != "trcgl.evaluation/1":
        raise DataError(f"{page} is no evaluation. Remove it, or run `trcgl evaluate` again.")
    return evaluation


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell).replace("|", r"\|").replace("\n", " ") for cell in cells) + " |"


def _render(template: str, **values: Any) -> str:
    environment = html.environment("trcgl.export")
    environment.filters |= {"row": _row, "value": value_text}
    page = environment.get_template(template).render(version=__version__, **values)
    # People also read the Markdown source, so that only < > & stay escaped.
    page = page.replace("&#39;", "'").replace("&#34;", '"')
    return page.rstrip() + "\n"
