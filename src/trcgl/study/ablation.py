"""The ablation of a recipe: add its parts one by one, leave out each part in turn, and vary the label graph."""

from collections.abc import Iterable, Mapping
from operator import attrgetter
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
"""Reweighting is added last: it reaches the logits through the two others only."""
THRESHOLDS = (0.02, 0.1, 0.2, 0.4)
COUNTED = ("symmetric", "ml_gcn")
"""Graphs whose edges are counted, so that a threshold changes them."""
PARTS = {
    "row_sampling": "row sampling",
    "loss": "the loss",
    "attention": "class-aware attention",
    "graph": "the label graph",
    "reweighting": "channel reweighting",
    "synthetic": "synthetic images",
}
"""Part to its description, in the order in which parts are added."""
PLAIN_SETTINGS = {
    part: {path: value for path, value in PLAIN.items() if path.startswith(prefix)}
    for part, prefix in (("row_sampling", "train.row_sampling"), ("loss", "loss."))
}
"""Part to the settings without it."""


def ablation(base: Recipe, *, synthetic: bool) -> tuple[tuple[Arm, ...], tuple[Contrast, ...]]:
    """Arms and contrasts of the ablation of a recipe; the primary contrast is full against plain.

    A part that the recipe does not have (for instance because its loss is cross-entropy) is skipped. With `synthetic`,
    the synthetic images are a part too.
    """
    parts = [part for part in PARTS if _has(base, part, synthetic)]
    if not parts:
        raise RecipeError(f"the recipe {base.name} is plain already: there is nothing to take apart.")
    arms: dict[str, Arm] = {}
    contrasts: dict[frozenset[str], Contrast] = {}

    def add(name: str, kept: Iterable[str], changes: Mapping[str, Any] | None = None) -> str:
        """Add an arm, unless an arm that trains the same exists; return its name."""
        kept = set(kept)
        changes = {**_without(base, set(parts) - kept), **(changes or {})}
        arm = Arm(name, changes, REFERENCE, synthetic="synthetic" if "synthetic" in kept else "")
        twin = next((other.name for other in arms.values() if arm.trains_as(other, base)), None)
        return twin or arms.setdefault(name, arm).name

    def ask(arm: str, against: str, what: str) -> None:
        if arm != against:
            contrasts.setdefault(frozenset((arm, against)), Contrast(arm, against, what))

    names = ["plain", *(f"up_to_{part}" for part in parts[:-1]), "full"]
    rungs = [add(name, parts[:place]) for place, name in enumerate(names)]
    ask("full", "plain", "does the whole help?")
    for part, lower, upper in zip(parts, rungs, rungs[1:], strict=False):
        ask(upper, lower, f"adding {PARTS[part]}")
    for part in parts:
        ask(add(f"without_{part}", set(parts) - {part}), "full", f"leaving out {PARTS[part]}")
    if "graph" in parts:
        counted = base.model.graph if base.model.graph in COUNTED else COUNTED[0]
        for threshold in THRESHOLDS:
            changes = {"model.graph": counted, "model.graph_threshold": threshold}
            ask(add(f"graph_{threshold}", parts, changes), "full", f"edges from {threshold} up")
        ask(add("graph_identity", parts, {"model.graph": "identity"}), "full", "a graph without edges")
        learned = add("graph_learned", parts, {"model.graph": "learned"})
        ask(learned, "full", "a learned attention graph in place of counts")
    return tuple(arms.values()), tuple(contrasts.values())


def edges(opened: Dataset, base: Recipe, arms: tuple[Arm, ...]) -> list[dict[str, Any]]:
    """Number of pairs of findings that each graph of the ablation joins; a learned graph joins all pairs."""
    import torch  # here: a study trains in other processes and need not wait for it

    from trcgl.model.label_graph import build_adjacency

    rows = half(opened, base.train.half, with_none=base.train.with_none, views=base.train.views)
    counted = counts(rows, opened.space)
    pairs = len(opened.space.findings) * (len(opened.space.findings) - 1) // 2
    graphs = []
    for arm in arms:
        model = arm.recipe(base, 0).model
        if model.head == "trcgl" and (arm.name == "full" or arm.name.startswith("graph_")):
            graph = build_adjacency(torch.from_numpy(counted.conditional(model.graph_smoothing)), model)
            joined = int(((graph != 0) | (graph.T != 0)).triu(1).sum()) if model.graph != "learned" else pairs
            name = f"{model.graph_threshold}" if model.graph in COUNTED else model.graph
            graphs.append({"name": name + (" (full)" if arm.name == "full" else ""), "edges": joined, "pairs": pairs})
    return graphs


def _has(base: Recipe, part: str, synthetic: bool) -> bool:
    if part == "synthetic":
        return synthetic
    if part in PLAIN_SETTINGS:
        return any(attrgetter(path)(base) != value for path, value in PLAIN_SETTINGS[part].items())
    return base.model.head == "trcgl" and part not in base.model.switched_off


def _without(base: Recipe, parts: set[str]) -> dict[str, Any]:
    changes = {
        path: value for part, settings in PLAIN_SETTINGS.items() if part in parts for path, value in settings.items()
    }
    if off := tuple(module for module in MODULES if module in parts or module in base.model.switched_off):
        changes["model.switched_off"] = off
    return changes
