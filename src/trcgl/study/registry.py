"""Synthetic folders that arms train with, and exploratory analyses.

Only this module imports `trcgl.study.experiments`, when an arm or a table needs one of them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trcgl.dataset.store import Dataset
from trcgl.study.plan import Plan, alone
from trcgl.study.results import Outcome
from trcgl.study.stored import path_in
from trcgl.study.training_variants import duplicate
from trcgl.study.wording import Table


def make_folders(plan: Plan, opened: Dataset, out: Path) -> None:
    """Write the synthetic folders that the arms of a plan need beside the study's own; finished folders stay."""
    if not plan.synthetic:
        return
    needed = {arm.synthetic for arm in plan.arms}
    if "duplicates" in needed:
        with alone(out):
            duplicate(plan.synthetic, opened, path_in(out, "duplicates"))
    if "dcgan" in needed:
        from trcgl.study.experiments.dcgan import sample_with_dcgan

        sample_with_dcgan(plan.synthetic, opened, out / "dcgan", plan.base)


def explore(plan: Plan, opened: Dataset, outcomes: Sequence[Outcome], out: Path) -> dict[str, Any]:
    """The exploratory part of the table of an ablation: the two causes that the paper names."""
    from trcgl.study.experiments.causes import causes

    return {"causes": causes(plan, opened, outcomes, out)}


def explored(document: dict[str, Any]) -> tuple[list[str], list[Table]]:
    """Answers and tables of the exploratory part of a table; empty if it has none."""
    if not document.get("causes"):
        return [], []
    from trcgl.study.experiments import causes_tables

    return causes_tables.answers(document["causes"]), causes_tables.tables_of(document["causes"])
