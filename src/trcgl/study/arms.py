"""Arms of a study: a recipe that differs from a base in what the arm is about, and in nothing else.

Data, image size, number of steps, batch size, augmentation, selection rule and every other setting are the base's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trcgl.core.errors import RecipeError
from trcgl.core.recipe import Recipe, overridden

PLAIN: Mapping[str, Any] = {
    "model.head": "linear",
    "loss.name": "bce",
    "loss.label_smoothing": 0.0,
    "train.row_sampling": "natural",
}
"""Global average pooling, a linear layer, binary cross-entropy, every row once an epoch."""

REMEDY: Mapping[str, Any] = {path: value for path, value in PLAIN.items() if path != "model.head"}
"""The part of it that is no network."""

Changes = Mapping[str, Any]
"""Recipe fields by path."""


@dataclass(frozen=True)
class Arm:
    """One thing to compare.

    Args:
        name: on the command line and in the table; also the name of its folder.
        changes: in which fields it differs from the base; or a function of the base that says so.
        reference: where it was published.
        differs: how it differs from the original; empty if it does not.
        drawn: what trains beside the real images: nothing, the drawn images of the study (`drawn`), as many copies of
            the real images that they were drawn for (`copies`), as many that a DCGAN draws (`dcgan`), or one of the
            folders of the plan, by its name.
        lacks: says what to give where the arm cannot be made from a base, or would be the base; empty where it can.
    """

    name: str
    changes: Changes | Callable[[Recipe], Changes] = field(default_factory=dict)
    reference: str = ""
    differs: str = ""
    drawn: str = ""
    lacks: Callable[[Recipe], str] = lambda base: ""

    def changes_of(self, base: Recipe) -> Changes:
        """In which fields it differs from a base."""
        return self.changes(base) if callable(self.changes) else self.changes

    def recipe(self, base: Recipe, seed: int) -> Recipe:
        """The recipe of one run.

        Raises:
            RecipeError: the arm has another backbone, and the base's initial weights are a file for its own.
        """
        changes = self.changes_of(base)
        backbone = changes.get("model.backbone", base.model.backbone)
        if backbone != base.model.backbone and base.model.weights not in ("hub", "none"):
            raise RecipeError(
                f"{self.name} has the backbone {backbone}, but model.weights is a file for {base.model.backbone}. "
                "Leave it out of --arms, or give --model.weights hub or none, so that all start alike."
            )
        return overridden(base, {**changes, "seed": base.seed + seed})


def over_base(arm: Arm) -> Arm:
    """The arm on the base's own loss and sampler, unless it is about one of them.

    Over `PLAIN` a head or backbone competes with the base's remedy for the long tail; so it competes with its network.
    """

    def changes(base: Recipe) -> Changes:
        made = arm.changes_of(base)
        own = any(made.get(path, value) != value for path, value in REMEDY.items())
        return made if own else {path: value for path, value in made.items() if path not in REMEDY}

    return replace(arm, changes=changes)


def chosen(names: Sequence[str], known: Mapping[str, Arm], base: Recipe, *, drawn: bool) -> tuple[Arm, ...]:
    """The arms of these names, in their order; all that can be made and differ where none is named.

    Args:
        names: from the command line.
        known: the registry.
        base: what the arms change.
        drawn: whether the study has drawn images.

    Raises:
        RecipeError: a name is unknown or comes twice, an arm needs what the base or the study has not, or two arms
            would train the same.
    """
    if unknown := [one for one in names if one not in known]:
        raise RecipeError(f"unknown arm {unknown[0]!r}; there are {', '.join(known)}.")
    if twice := [one for one in names if list(names).count(one) > 1]:
        raise RecipeError(f"--arms names {twice[0]!r} more than once.")
    if not names:
        possible = [one for one in known.values() if (drawn or not one.drawn) and not one.lacks(base)]
        return tuple(one for place, one in enumerate(possible) if not _twin(one, possible[:place], base))
    arms = tuple(known[one] for one in names)
    if lacking := [one.name for one in arms if one.drawn and not drawn]:
        raise RecipeError(f"{lacking[0]} trains with drawn images: give their folder as --synthetic.")
    for one in arms:
        if wanted := one.lacks(base):
            raise RecipeError(f"{one.name} needs more than the base recipe {base.name} has: give {wanted}.")
    for place, one in enumerate(arms):
        if other := _twin(one, arms[:place], base):
            raise RecipeError(f"{one.name} would be the runs of {other} again with this base. Leave one of them out.")
    return arms


def _twin(arm: Arm, others: Sequence[Arm], base: Recipe) -> str:
    """The name of another arm that trains the same; empty where none does."""
    same = (one.name for one in others if (one.drawn, one.recipe(base, 0)) == (arm.drawn, arm.recipe(base, 0)))
    return next(same, "")
