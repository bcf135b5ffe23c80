"""The question of a study, fixed before it starts: arms, seeds and contrasts, the first of which is the primary one."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trcgl.core import storage
from trcgl.core.errors import DataError, RecipeError
from trcgl.core.recipe import Recipe, differences, from_json, overridden, to_json
from trcgl.dataset.store import Dataset
from trcgl.dataset.synthetic_rows import open_synthetic
from trcgl.study.arms import Arm
from trcgl.study.stored import path_in, translate

SCHEMA = "trcgl.study/1"


@dataclass(frozen=True)
class Contrast:
    """A difference of two arms, `arm` minus `against`."""

    arm: str
    against: str
    what: str = ""  # the question, where the names do not tell it


@dataclass(frozen=True)
class Plan:
    """One study."""

    kind: str  # peers, ablation or utility
    dataset: Path
    base: Recipe
    arms: tuple[Arm, ...]  # each is trained with every seed
    contrasts: tuple[Contrast, ...]  # the first is the primary one, the others are adjusted for their number
    seeds: int
    synthetic: Path | None = None  # the synthetic folder, for the arms that train with it
    folders: Mapping[str, Path] = field(default_factory=dict)  # further synthetic folders by the name that arms use
    asked: Mapping[str, Any] = field(default_factory=dict)  # of the question besides, or instead of, the first contrast


def comparable(base: Recipe) -> Recipe:
    """The base with equally many steps for all arms and one device for each run.

    Early stopping would end arms at different steps, before their schedules do; whole epochs of repeats and pooled
    synthetic images would make epochs longer. To use several devices, start the command of the study once for each
    device.
    """
    alike = {"train.devices": 1, "train.nodes": 1, "train.patience": 0, "train.repeat_epoch": "cut"}
    if base.synthetic.schedule == "pool":
        alike["synthetic.schedule"] = "mix"
    return overridden(base, alike)


def against_baseline(arms: Sequence[Arm], baseline: str, primary: str | None) -> tuple[Contrast, ...]:
    """Every arm against the baseline, the primary contrast first."""
    names = [arm.name for arm in arms]
    if len(names) < 2:
        raise RecipeError("a study needs two arms or more: --arms NAME NAME ...")
    for flag, name in (("--baseline", baseline), ("--primary", primary)):
        if name is not None and name not in names:
            raise RecipeError(f"{flag} {name} is not among the arms of this study: {', '.join(names)}.")
    if primary == baseline:
        raise RecipeError(f"--primary and --baseline are both {baseline}. The primary contrast is between two arms.")
    others = [name for name in names if name != baseline]
    first = primary or ("linear" if "linear" in others else others[0])
    return tuple(Contrast(name, baseline) for name in sorted(others, key=lambda name: name != first))


def begin(plan: Plan, opened: Dataset, out: Path, trial: Callable[[], None] | None = None) -> None:
    """Refuse a plan that cannot be carried out, before anything is trained, and reserve the study folder for it.

    `trial` builds the networks of a new study before its folder is reserved, so that a corrected command may use it.
    More arms and seeds can join later, from other processes too; the question stays.
    """
    if plan.seeds < 1:
        raise RecipeError(f"--seeds is {plan.seeds}; it must be at least 1.")
    if plan.base.evaluate.replicates < 1:
        raise RecipeError("evaluate.replicates is 0, and a study needs intervals. Give 1000 or so.")
    opened.require_images()
    if not (opened.manifest["split"] == "test").any():
        raise DataError(f"{plan.dataset} has no test split, and a study reports on test. Prepare the dataset with one.")
    rows = opened.split("test", with_none=plan.base.train.with_none, views=plan.base.evaluate.views)
    if not any((rows[finding] == 1).any() for finding in opened.space.in_group("tail")):
        raise DataError(f"{plan.dataset}: test has no positive of a tail finding, and a study compares tail mAP.")
    if plan.synthetic:
        open_synthetic(plan.synthetic, opened)
    recipes = {arm.name: arm.recipe(plan.base, 0) for arm in plan.arms}
    if trial and not (out / "study.json").exists():
        trial()
    with alone(out):
        _claim(plan, opened, out)
        for name, recipe in recipes.items():

            def changed(stored: str, recipe: Recipe = recipe) -> str:
                return "; ".join(differences(from_json(stored), recipe))

            storage.claim(path_in(out / "runs", name), "arm.json", to_json(recipe), changed)


def _claim(plan: Plan, opened: Dataset, out: Path) -> None:
    digest = storage.sha256_file(plan.dataset / "dataset.json")
    question = {
        "schema": SCHEMA,
        "kind": plan.kind,
        "dataset": opened.name,
        "dataset_digest": digest,
        "synthetic_digest": storage.sha256_file(plan.synthetic / "dataset.json") if plan.synthetic else None,
        "baseline": plan.contrasts[0].against,
        "primary": plan.contrasts[0].arm,
        **plan.asked,
    }

    def explain(stored: str) -> str:
        recipe, before = json.loads(stored)["recipe"], translate(json.loads(stored))
        if before["dataset_digest"] != digest:
            return f"it is a study of another dataset ({before['dataset']}) than {plan.dataset}"
        changed = [f"{key}: {before.get(key)} → {now}" for key, now in question.items() if before.get(key) != now]
        return "; ".join([*changed, *differences(from_json(json.dumps(recipe)), plan.base)])

    stored = question | {"recipe": json.loads(to_json(plan.base))}
    storage.claim(out, "study.json", json.dumps(stored, indent=2, ensure_ascii=False) + "\n", explain)


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Let several processes that begin one study do so one after the other."""
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(out.absolute().parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
