"""What a study asks, decided before it starts: arms, seeds, the one primary contrast, and what it is judged on."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from trcgl.core import storage
from trcgl.core.errors import DataError, RecipeError
from trcgl.core.recipe import Recipe, differences, from_json, overridden, to_json
from trcgl.dataset.store import Dataset, open_dataset
from trcgl.dataset.synthetic_rows import open_synthetic
from trcgl.study.arms import Arm

SCHEMA = "trcgl.study/1"


@dataclass(frozen=True)
class Contrast:
    """A difference of two arms, `arm` minus `against`.

    Args:
        arm: name of an arm.
        against: name of another.
        what: the question in words, where the names do not say it.
    """

    arm: str
    against: str
    what: str = ""


@dataclass(frozen=True)
class Plan:
    """One study.

    Args:
        kind: peers, ablation or utility.
        dataset: folder of the real radiographs.
        base: the recipe that arms change.
        arms: to be trained, each with every seed.
        contrasts: the first is the primary one, the others are adjusted for their number.
        seeds: runs of each arm.
        synthetic: folder of drawn radiographs, for the arms that train with them.
        folders: further folders in the format of a synthetic one, by the name that arms call them.
        asked: what `study.json` says of the question instead of, or besides, the first contrast.
    """

    kind: str
    dataset: Path
    base: Recipe
    arms: tuple[Arm, ...]
    contrasts: tuple[Contrast, ...]
    seeds: int
    synthetic: Path | None = None
    folders: Mapping[str, Path] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)

    def recipe(self, arm: Arm, seed: int) -> Recipe:
        """The recipe of one run."""
        return arm.recipe(self.base, seed)


def comparable(base: Recipe) -> Recipe:
    """The base with equally many steps for all arms, and one device for each run.

    Stopping early would end arms at different steps, before their schedules do. A study is spread over devices by
    starting its command once for each.
    """
    return overridden(base, {"train.devices": 1, "train.nodes": 1, "train.patience": 0})


def against_baseline(arms: Sequence[Arm], baseline: str, primary: str | None) -> tuple[Contrast, ...]:
    """Every arm against the baseline, the primary one first.

    Raises:
        RecipeError: there are fewer than two arms, or one of the two is not among them.
    """
    names = [one.name for one in arms]
    if len(names) < 2:
        raise RecipeError("a study needs two arms or more: --arms NAME NAME ...")
    for flag, name in (("--baseline", baseline), ("--primary", primary)):
        if name is not None and name not in names:
            raise RecipeError(f"{flag} {name} is not among the arms of this study: {', '.join(names)}.")
    if primary == baseline:
        raise RecipeError(f"--primary and --baseline are both {baseline}. The primary contrast is between two arms.")
    others = [one for one in names if one != baseline]
    first = primary or ("linear" if "linear" in others else others[0])
    return tuple(Contrast(one, baseline) for one in sorted(others, key=lambda one: one != first))


def check(plan: Plan) -> Dataset:
    """Refuse what cannot be studied before anything is trained.

    Raises:
        DataError: the dataset has no images, no test split, or no tail finding with a positive in test.
        RecipeError: there are too few seeds, or an arm cannot be made from the base recipe.
    """
    if plan.seeds < 1:
        raise RecipeError(f"--seeds is {plan.seeds}; it must be at least 1.")
    if plan.base.evaluate.replicates < 1:
        raise RecipeError("evaluate.replicates is 0, and a study lives on its intervals. Give 1000 or so.")
    opened = open_dataset(plan.dataset)
    opened.require_images()
    if not (opened.manifest["split"] == "test").any():
        raise DataError(f"{plan.dataset} has no test split, and a study reports on test. Prepare the dataset with one.")
    rows = opened.split("test", with_none=plan.base.train.with_none)
    tail = opened.space.in_group("tail")
    if not any((rows[one] == 1).any() for one in tail):
        raise DataError(f"{plan.dataset}: test has no positive of a tail finding, and a study is about tail mAP.")
    if plan.synthetic:
        open_synthetic(plan.synthetic, opened)
    for arm in plan.arms:
        plan.recipe(arm, 0)
    return opened


def claim(plan: Plan, out: Path, opened: Dataset) -> None:
    """Make the study folder ours for this question, and each arm's folder for its recipe.

    The same folder takes further arms and seeds later, from other processes too; what it asks stays.

    Raises:
        RecipeError: the folder is of another dataset, base recipe or question, or an arm has changed since.
    """
    digest = storage.sha256_file(plan.dataset / "dataset.json")
    drawn = storage.sha256_file(plan.synthetic / "dataset.json") if plan.synthetic else None
    protocol = {
        "schema": SCHEMA,
        "kind": plan.kind,
        "dataset": opened.name,
        "dataset_digest": digest,
        "synthetic_digest": drawn,
        "baseline": plan.contrasts[0].against,
        "primary": plan.contrasts[0].arm,
        **plan.asked,
        "recipe": json.loads(to_json(plan.base)),
    }

    def explain(stored: str) -> str:
        before = json.loads(stored)
        if before["dataset_digest"] != digest:
            return f"it is a study of another dataset ({before['dataset']}) than {plan.dataset}"
        fixed = [name for name in protocol if name != "recipe" and before.get(name) != protocol[name]]
        recipes = differences(from_json(json.dumps(before["recipe"])), plan.base)
        return "; ".join([*(f"{name}: {before.get(name)} → {protocol[name]}" for name in fixed), *recipes])

    with alone(out):
        storage.claim(out, "study.json", json.dumps(protocol, indent=2, ensure_ascii=False) + "\n", explain)
        for arm in plan.arms:
            recipe = plan.recipe(arm, 0)
            storage.claim(out / "runs" / arm.name, "arm.json", to_json(recipe), partial(_changed, recipe))


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Let several processes that begin one study do so one after the other."""
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(out.absolute().parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _changed(recipe: Recipe, stored: str) -> str:
    return "; ".join(differences(from_json(stored), recipe))
