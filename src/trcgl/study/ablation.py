"""The ablation of a recipe: a ladder from plain to full, each part left out in turn, and a sweep of the label graph."""

from collections.abc import Iterable, Mapping
from typing import Any

from trcgl.core.errors import RecipeError
from trcgl.core.recipe import Recipe
from trcgl.dataset.cooccurrence import counts
from trcgl.dataset.patient_halves import half
from trcgl.dataset.store import Dataset
from trcgl.study.arms import PLAIN, Arm
from trcgl.study.plan import Contrast

REFERENCE = "TRCGL-Net, arXiv 2607.00975"
MODULES = ("attention", "graph", "reweighting")
"""Reweighting is added last: it reaches the logits through the two others alone."""
GRAPH = "model.graph_threshold"
THRESHOLDS = (0.02, 0.1, 0.2, 0.4)
KIND = "model.graph"
COUNTED = ("symmetric", "ml_gcn")
"""Graphs whose edges are counted, and which a threshold therefore changes."""
PARTS = ("sampler", "loss", *MODULES, "drawn")
"""What is added, in this order, and left out."""
IN_WORDS = {
    "sampler": "the sampler",
    "loss": "the loss",
    "reweighting": "channel reweighting",
    "attention": "class-aware attention",
    "graph": "the label graph",
    "drawn": "drawn images",
}


def ablation(base: Recipe, *, drawn: bool) -> tuple[tuple[Arm, ...], tuple[Contrast, ...]]:
    """Arms and contrasts of the ablation of a recipe; the primary contrast is full against plain.

    A part that the recipe does not have (its loss is cross-entropy already, its sampler the natural one) is no rung.

    Args:
        base: the full recipe.
        drawn: whether there are drawn images.

    Raises:
        RecipeError: the recipe has no part that could be left out.
    """
    parts = [one for one in PARTS if _has(base, one, drawn)]
    if not parts:
        raise RecipeError(f"the recipe {base.name} is plain already: there is nothing to take apart.")
    arms: dict[str, Arm] = {}
    contrasts: dict[frozenset[str], Contrast] = {}

    def arm(name: str, kept: Iterable[str], changes: Mapping[str, Any] | None = None) -> str:
        """Add an arm, unless one that does the same is there; return its name."""
        kept = set(kept)
        made = Arm(
            name,
            {**_without(base, set(parts) - kept), **(changes or {})},
            REFERENCE,
            "",
            "drawn" if "drawn" in kept else "",
        )
        for one in arms.values():
            if (one.drawn, one.recipe(base, 0)) == (made.drawn, made.recipe(base, 0)):
                return one.name
        arms[name] = made
        return name

    def ask(one: str, against: str, what: str) -> None:
        if one != against:
            contrasts.setdefault(frozenset((one, against)), Contrast(one, against, what))

    names = ["plain", *(f"up_to_{one}" for one in parts[:-1]), "full"]
    rungs = [arm(name, parts[:place]) for place, name in enumerate(names)]
    ask("full", "plain", "does the whole help?")
    for part, lower, upper in zip(parts, rungs, rungs[1:], strict=False):
        ask(upper, lower, f"adding {IN_WORDS[part]}")
    for one in parts:
        ask(arm(f"without_{one}", set(parts) - {one}), "full", f"leaving out {IN_WORDS[one]}")
    if "graph" in parts:
        counted = base.model.graph if base.model.graph in COUNTED else COUNTED[0]
        for threshold in THRESHOLDS:
            swept = arm(f"graph_{threshold}", parts, {KIND: counted, GRAPH: threshold})
            ask(swept, "full", f"edges from {threshold} up")
        ask(arm("graph_identity", parts, {KIND: "identity"}), "full", "a graph without edges")
        ask(arm("graph_learned", parts, {KIND: "learned"}), "full", "a learned attention graph in place of counts")
    return tuple(arms.values()), tuple(contrasts.values())


def edges(opened: Dataset, base: Recipe, arms: tuple[Arm, ...]) -> list[dict[str, Any]]:
    """How many pairs of findings each graph of the ablation joins, of how many; a learned one joins them all."""
    import torch  # only now: a study does not wait for it where it trains in other processes

    from trcgl.model.label_graph import build_adjacency

    rows = half(opened, base.train.half, with_none=base.train.with_none)
    conditional = torch.from_numpy(counts(rows, opened.space).conditional())
    pairs = len(conditional) * (len(conditional) - 1) // 2
    told = []
    for one in arms:
        model = one.recipe(base, 0).model
        if model.head == "trcgl" and (one.name == "full" or one.name.startswith("graph_")):
            graph = build_adjacency(conditional, model)
            joined = int(((graph != 0) | (graph.T != 0)).triu(1).sum()) if model.graph != "learned" else pairs
            name = f"{model.graph_threshold}" if model.graph in COUNTED else model.graph
            told.append({"name": name + (" (full)" if one.name == "full" else ""), "edges": joined, "pairs": pairs})
    return told


def _has(base: Recipe, part: str, drawn: bool) -> bool:
    if part == "drawn":
        return drawn
    if part in ("sampler", "loss"):
        return any(_value(base, path) != value for path, value in _plain(part).items())
    return base.model.head == "trcgl" and part not in base.model.switched_off


def _without(base: Recipe, parts: set[str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for one in ("sampler", "loss"):
        if one in parts:
            changes |= _plain(one)
    if off := tuple(one for one in MODULES if one in parts or one in base.model.switched_off):
        changes["model.switched_off"] = off
    return changes


def _plain(part: str) -> dict[str, Any]:
    prefix = {"sampler": "train.row_sampling", "loss": "loss."}[part]
    return {path: value for path, value in PLAIN.items() if path.startswith(prefix)}


def _value(base: Recipe, path: str) -> Any:
    value: Any = base
    for name in path.split("."):
        value = getattr(value, name)
    return value
