"""Arms of a study: recipes that differ from a base recipe in the compared settings, and in nothing else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trcgl.core.errors import RecipeError
from trcgl.core.recipe import Recipe, overridden

PLAIN: Mapping[str, Any] = {
    "model.head": "linear",
    "model.head_norm": "none",
    "loss.name": "bce",
    "loss.label_smoothing": 0.0,
    "loss.reduction": "mean",
    "train.row_sampling": "natural",
}
"""Global average pooling, a linear layer, binary cross-entropy, every row once an epoch."""

REMEDY: Mapping[str, Any] = {path: value for path, value in PLAIN.items() if not path.startswith("model.")}
"""The settings of `PLAIN` that are not about the network."""

Changes = Mapping[str, Any]
"""Recipe fields by path."""


@dataclass(frozen=True)
class Arm:
    """A method to compare.

    `synthetic` names the images that it trains with beside the real images: none (empty), the study's `synthetic`
    folder, the same number of `duplicates` of real images or of images of a `dcgan`, or a folder of the plan by its
    name.
    """

    name: str  # on the command line, in the table and of its folder
    changes: Changes | Callable[[Recipe], Changes] = field(default_factory=dict)  # of the base, or a function of it
    reference: str = ""  # publication
    differs: str = ""  # difference from the original
    synthetic: str = ""
    lacks: Callable[[Recipe], str] = lambda base: ""  # what to give where it cannot be trained or would equal the base

    def changes_of(self, base: Recipe) -> Changes:
        """Recipe fields that the arm changes in a base recipe, with their values."""
        return self.changes(base) if callable(self.changes) else self.changes

    def recipe(self, base: Recipe, seed: int) -> Recipe:
        """The recipe of a run of this arm."""
        changes = self.changes_of(base)
        backbone = changes.get("model.backbone", base.model.backbone)
        if backbone != base.model.backbone and base.model.weights not in ("hub", "none"):
            raise RecipeError(
                f"{self.name} has the backbone {backbone}, but model.weights is a file for {base.model.backbone}. "
                "Leave it out of --arms, or give --model.weights hub or none, so that all start alike."
            )
        return overridden(base, {**changes, "seed": base.seed + seed})

    def trains_as(self, other: "Arm", base: Recipe) -> bool:
        """Whether another arm trains the same network with the same images."""
        return (self.synthetic, self.recipe(base, 0)) == (other.synthetic, other.recipe(base, 0))


def over_base(arm: Arm) -> Arm:
    """The arm with the loss and row sampling of the base, unless the arm changes these itself.

    A head or backbone over `PLAIN` is compared with the network, loss and row sampling of the base together; here it is
    compared with the network alone.
    """

    def changes(base: Recipe) -> Changes:
        own = arm.changes_of(base)
        about_remedy = any(own.get(path, value) != value for path, value in REMEDY.items())
        return own if about_remedy else {path: value for path, value in own.items() if path not in REMEDY}

    return replace(arm, changes=changes)


def choose_arms(names: Sequence[str], known: Mapping[str, Arm], base: Recipe, *, synthetic: bool) -> tuple[Arm, ...]:
    """The arms of these names in their order; without names, all arms that can be trained and differ."""
    if unknown := [name for name in names if name not in known]:
        raise RecipeError(f"unknown arm {unknown[0]!r}; there are {', '.join(known)}.")
    if twice := [name for name in names if list(names).count(name) > 1]:
        raise RecipeError(f"--arms names {twice[0]!r} more than once.")
    arms: list[Arm] = []
    for name in names or known:
        arm = known[name]
        if arm.synthetic and not synthetic:
            problem = f"{name} trains with synthetic images: give their folder as --synthetic."
        elif wanted := arm.lacks(base):
            problem = f"{name} needs more than the base recipe {base.name} has: give {wanted}."
        elif twins := [other.name for other in arms if arm.trains_as(other, base)]:
            problem = f"{name} would repeat the runs of {twins[0]} with this base. Leave one of them out."
        else:
            arms.append(arm)
            continue
        if names:
            raise RecipeError(problem)
    return tuple(arms)
