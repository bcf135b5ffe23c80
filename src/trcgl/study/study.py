"""`trcgl study KIND DATASET --out STUDY`: train every arm on every seed, compare them on test, tell it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from trcgl.core import storage
from trcgl.core.recipe import Recipe
from trcgl.dataset.store import Dataset
from trcgl.study import tables
from trcgl.study.ablation import ablation, edges
from trcgl.study.arms import chosen, over_base
from trcgl.study.duplication import duplicate
from trcgl.study.experiments.causes import causes
from trcgl.study.page import write_page
from trcgl.study.peers import PEERS
from trcgl.study.plan import Plan, against_baseline, alone, check, claim, comparable
from trcgl.study.results import Outcome, collect, cost_of, earlier, results
from trcgl.study.runner import COPIES, DCGAN, carry_out, jobs_of


def peers(
    dataset: Path,
    base: Recipe,
    out: Path,
    *,
    arms: Sequence[str] = (),
    over: Literal["plain", "base"] = "plain",
    seeds: int = 3,
    baseline: str = "trcgl",
    primary: str | None = None,
    synthetic: Path | None = None,
) -> dict[str, Any]:
    """Compare peers over the same data, steps, augmentation and selection rule.

    Args:
        dataset: a dataset folder with images and a test split.
        base: what is the same for all arms.
        out: the study folder; the same call again goes on.
        arms: names in `trcgl.study.peers.PEERS`; all where empty.
        over: what heads and backbones stand on: cross-entropy and every row once an epoch, or the base's own loss and
            sampler.
        seeds: runs of each arm.
        baseline: the arm that the others are compared with.
        primary: the arm of the one contrast that is not adjusted; where None that of a study that is there already,
            else `linear`, or the first.
        synthetic: a folder drawn for the dataset, for the arms that train with drawn images.

    Returns:
        The table (schema `trcgl.study-table/1`), as written to `table.json`.

    Raises:
        RecipeError: an arm is unknown or cannot be made, or the folder is of another study.
        DataError: the dataset cannot be studied.
        Interrupted: a signal asked to stop; the state is saved.
    """
    base = comparable(base)
    known = PEERS if over == "plain" else {name: over_base(arm) for name, arm in PEERS.items()}
    taken = chosen(arms, known, base, drawn=synthetic is not None)
    primary = primary or _stored_primary(Path(out), baseline)
    return study(Plan("peers", dataset, base, taken, against_baseline(taken, baseline, primary), seeds, synthetic), out)


def _stored_primary(out: Path, baseline: str) -> str | None:
    """Arms that join later do not change what a study asks first."""
    asked = storage.read_json(out / "study.json") if (out / "study.json").exists() else {}
    return asked.get("primary") if (asked.get("kind"), asked.get("baseline")) == ("peers", baseline) else None


def ablate(dataset: Path, base: Recipe, out: Path, *, seeds: int = 3, synthetic: Path | None = None) -> dict[str, Any]:
    """Take a recipe apart: the ladder, each part left out, and the graph's threshold.

    Args:
        dataset: a dataset folder with images and a test split.
        base: the full recipe.
        out: the study folder; the same call again goes on.
        seeds: runs of each arm.
        synthetic: a folder drawn for the dataset, which makes drawn images one of the parts.

    Returns:
        The table, with the edges of each graph.

    Raises:
        RecipeError: an arm cannot be made, or the folder is of another study.
        DataError: the dataset cannot be studied.
        Interrupted: a signal asked to stop; the state is saved.
    """
    base = comparable(base)
    arms, contrasts = ablation(base, drawn=synthetic is not None)
    return study(Plan("ablation", dataset, base, arms, contrasts, seeds, synthetic), out)


def study(plan: Plan, out: Path) -> dict[str, Any]:
    """Carry out a plan and write what it says.

    Returns:
        The table (schema `trcgl.study-table/1`).
    """
    plan, out = replace(plan, dataset=Path(plan.dataset)), Path(out)
    opened = begin(plan, out)
    if plan.synthetic and any(arm.drawn == "copies" for arm in plan.arms):
        with alone(out):
            duplicate(plan.synthetic, opened, out / COPIES)
    if plan.synthetic and any(arm.drawn == "dcgan" for arm in plan.arms):
        from trcgl.study.experiments.dcgan import sample_with_dcgan  # only now: others need not wait for torch

        sample_with_dcgan(plan.synthetic, opened, out / DCGAN, plan.base)
    carry_out(jobs_of(plan, out))

    def complete(document: dict[str, Any], outcomes: Sequence[Outcome]) -> dict[str, Any]:
        if plan.kind != "ablation":
            return document
        graphs = edges(opened, plan.base, plan.arms)
        return document | {"edges": graphs, "causes": causes(plan, opened, outcomes, out)}

    return conclude(plan, out, opened, complete)


def begin(plan: Plan, out: Path) -> Dataset:
    """Check a plan and make the study folder its own; return the dataset."""
    opened = check(plan)
    claim(plan, out, opened)
    return opened


def conclude(
    plan: Plan,
    out: Path,
    opened: Dataset,
    complete: Callable[[dict[str, Any], Sequence[Outcome]], dict[str, Any]],
) -> dict[str, Any]:
    """Write what the runs of a plan say, all of which are done.

    Args:
        plan: of the study.
        out: the study folder.
        opened: the dataset.
        complete: adds to the table what studies of this kind tell besides, from the outcomes too.

    Returns:
        The table (schema `trcgl.study-table/1`).
    """
    outcomes = collect(jobs_of(plan, out))
    document = complete(results(plan, outcomes), outcomes) | {"earlier": earlier(plan, out)}
    cost = cost_of(plan, outcomes)
    storage.write_json(out / "command.json", {"command": storage.command()})
    storage.write_json(out / "environment.json", storage.environment())
    storage.write_json(out / "table.json", document)
    storage.write_json(out / "cost.json", cost)
    storage.write_text(out / "table.md", tables.markdown(document))
    storage.write_text(out / "table.csv", tables.csv(document))
    storage.write_text(out / "cost.md", tables.cost_markdown(cost))
    write_page(out, document, cost, name=opened.name, phantom=opened.info["source"] == "phantom")
    return document
