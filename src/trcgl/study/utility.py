"""Does drawing help? Drawn images against as many copies of the real ones, at equal steps.

First `drawn` at every dose and schedule, on seeds of its own; then val chooses one dose and schedule; then everything
that is compared, on the seeds of the study.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from trcgl.core import storage
from trcgl.core.errors import DataError, RecipeError
from trcgl.core.recipe import Recipe
from trcgl.dataset.store import Dataset, open_dataset
from trcgl.dataset.synthetic_rows import generation_record, open_synthetic
from trcgl.study import training_variants as material
from trcgl.study.arms import Arm
from trcgl.study.choice import FIRST_SEED, Setting, choose
from trcgl.study.duplication import duplicate
from trcgl.study.plan import Contrast, Plan, alone, comparable
from trcgl.study.runner import COPIES, carry_out, jobs_of
from trcgl.study.study import begin, conclude
from trcgl.study.utility_report import amounts, complete
from trcgl.study.worker import Job

Schedule = Literal["mix", "pretrain"]
PROMPTS = {
    "handwritten": "words alone, without context tokens",
    "shared_tokens": "words and the shared context tokens",
    "per_finding_tokens": "words and the context tokens of each finding",
}
"""Arms whose images were drawn by other prompts, each from a folder of its own."""
REFERENCES = {
    "real": "",
    "balanced": "Shen et al. 2016",
    "duplicated": "Pink & Sykes 2026 (PMLR 318)",
    "drawn": "TRCGL-Net, arXiv 2607.00975",
}
WORDS = {
    "real": "The base recipe on real images alone.",
    "balanced": "Real images alone; a finding is drawn first, then one of its images.",
    "duplicated": "Each drawn image is replaced by a copy of the real one it was drawn for.",
    "masked": "The copies of `duplicated`, of which no more is known than was asked for.",
    "drawn": "The kept images of --synthetic.",
    "round_trip": "The copies of `duplicated` after the generator's autoencoder, encode and decode.",
    "unscreened": "As many images of each target as `drawn`, the first in seed order, whatever screening said.",
    "deranged": "The images of `drawn`, each with the label set of an image that was drawn for something else.",
}
QUESTIONS = {
    ("drawn", "real"): "does drawing help at all?",
    ("duplicated", "real"): "do copies help at all?",
    ("drawn", "balanced"): "or would sampling do?",
    ("drawn", "masked"): "is it the images, or which labels are known?",
    ("round_trip", "duplicated"): "what does the autoencoder cost?",
    ("drawn", "unscreened"): "does screening help?",
    ("drawn", "deranged"): "is it what the images show?",
}


@dataclass(frozen=True)
class Material:
    """What there is to train with.

    Args:
        synthetic: the drawn images.
        settings: doses and schedules of `drawn`, in ascending order of dose.
        curve: the schedule at which `duplicated` has every dose.
        prompts: further synthetic folders, by what they were prompted with.
        absent: arms that cannot be made or would repeat another, with the reason.
    """

    synthetic: Path
    settings: tuple[Setting, ...]
    curve: str
    prompts: Mapping[str, Path] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def doses(self) -> tuple[float, ...]:
        """In ascending order."""
        return tuple(dict.fromkeys(one.dose for one in self.settings))


def utility(
    dataset: Path,
    base: Recipe,
    out: Path,
    *,
    synthetic: Path,
    doses: Sequence[float],
    schedules: Sequence[Schedule],
    seeds: int = 3,
    choosing_seeds: int = 1,
    generator: Path | None = None,
    prompts: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """Ask whether drawn images help more than as many copies of real ones.

    Args:
        dataset: a dataset folder with images and a test split.
        base: what is the same for all arms.
        out: the study folder; the same call again goes on.
        synthetic: a folder drawn for the dataset.
        doses: kept images drawn for a finding ÷ its real training images; val chooses one.
        schedules: how drawn images take part; val chooses one.
        seeds: runs of each arm.
        choosing_seeds: further runs of `drawn` at each dose and schedule, by which val chooses.
        generator: that drew the images; None takes that of which `synthetic` tells, and leaves `round_trip` out where
            it is gone.
        prompts: folders drawn by other prompts, by names in `PROMPTS`.

    Returns:
        The table (schema `trcgl.study-table/1`), with the choice, the doses, the verdict and every tail finding.

    Raises:
        RecipeError: a dose, a schedule or the base recipe makes no sense, or the folder is of another study.
        DataError: dataset, drawn images and generator do not belong together, or cannot be studied.
        Interrupted: a signal asked to stop; the state is saved.
    """
    base, out, dataset = comparable(base), Path(out), Path(dataset)
    _check(base, doses, schedules, choosing_seeds)
    opened = open_dataset(dataset)
    there = _gather(opened, base, Path(synthetic), doses, schedules, prompts or {})
    plan = Plan(
        "utility",
        dataset,
        base,
        tuple(_with("drawn", one) for one in there.settings),
        (Contrast("drawn", "duplicated"),),
        seeds,
        there.synthetic,
        there.prompts,
        {"doses": sorted(doses), "schedules": list(schedules), "choosing_seeds": choosing_seeds},
    )
    begin(plan, out)
    there = _make(there, opened, out, generator)
    jobs = jobs_of(plan, out, range(FIRST_SEED, FIRST_SEED + choosing_seeds))
    carry_out(jobs)
    by_arm = [(one, [job for job in jobs if job.arm == f"drawn_{one.name}"]) for one in there.settings]
    chosen = choose(by_arm, opened.space)
    storage.write_json(out / "chosen.json", chosen)
    setting = Setting(chosen["dose"], chosen["schedule"])
    labels = f"deranged_{setting.dose:g}"
    with alone(out):
        right = material.deranged(there.synthetic, opened, setting.dose, out / labels)
    folders = {one: out / one for one in ("masked", "unscreened", "round_trip", labels)}
    there = _without_twin(there, opened, setting, out / "unscreened")
    whole = _second(replace(plan, folders={**plan.folders, **folders}), there, setting, labels)
    begin(whole, out)
    jobs = jobs_of(whole, out)
    _check_drawn(jobs)
    carry_out(jobs)
    told = amounts(there.synthetic, opened, there.doses)
    return conclude(
        whole, out, opened, lambda document, _: complete(document, chosen, there.curve, told, there.absent, right)
    )


def _check(base: Recipe, doses: Sequence[float], schedules: Sequence[str], choosing_seeds: int) -> None:
    if not doses or min(doses) <= 0:
        raise RecipeError("--doses: give numbers above 0; dose 0 is the arm real, which is always there.")
    if choosing_seeds < 1:
        raise RecipeError(f"--choosing-seeds is {choosing_seeds}; it must be at least 1.")
    if not schedules:
        raise RecipeError(f"--schedules: name one of {', '.join(get_args(Schedule))}, or both.")
    for flag, values in (("--doses", doses), ("--schedules", schedules)):
        if twice := [one for one in values if list(values).count(one) > 1]:
            raise RecipeError(f"{flag} names {twice[0]} more than once.")
    if not base.synthetic.weight:
        raise RecipeError("synthetic.weight is 0, so that no drawn image would be shown. Give a weight above 0.")


def _check_prompt(name: str, drawn: Dataset) -> None:
    """Refuse a folder that says that it was drawn by another prompt; `learned` may be of a generator without tokens."""
    before = generation_record(drawn)["options"].get("prompt", "learned")
    if before not in (name, "learned"):
        raise RecipeError(f"--{name.replace('_', '-')} {drawn.folder}: it was drawn with --prompt {before}.")


def _check_drawn(jobs: Sequence[Job]) -> None:
    """Refuse runs that are done but were trained with other drawn images than their folder holds now."""
    for job in jobs:
        if job.synthetic and job.outcome.exists():
            before = storage.read_json(job.folder / "run.json")["synthetic"]["digest"]
            if before != storage.sha256_file(job.synthetic / "dataset.json"):
                raise RecipeError(
                    f"{job.folder} was trained with other images than those that {job.synthetic} holds now. Choose "
                    "another --out."
                )


def _gather(
    opened: Dataset,
    base: Recipe,
    synthetic: Path,
    doses: Sequence[float],
    schedules: Sequence[str],
    prompts: Mapping[str, Path],
) -> Material:
    val = opened.split("val", with_none=base.train.with_none)
    if not any((val[one] == 1).any() for one in opened.space.in_group("tail")):
        raise DataError(f"{opened.folder}: val has no positive of a tail finding; dose and schedule are chosen on it.")
    absent = {}
    taken: dict[float, list[str]] = {}
    for dose in sorted(doses):
        rows = open_synthetic(synthetic, opened, dose).rows["image_id"].to_list()
        if not rows:
            raise DataError(f"{synthetic}: screening kept no image. Draw more, or with another generator.")
        if same := [one for one, before in taken.items() if before == rows]:
            absent[f"dose {dose:g}"] = f"no image was kept that dose {same[0]:g} does not take already"
        else:
            taken[dose] = rows
    for name, folder in prompts.items():
        _check_prompt(name, open_synthetic(folder, opened).dataset)
    absent |= {one: f"no folder was given (--{one.replace('_', '-')})" for one in PROMPTS if one not in prompts}
    if base.train.row_sampling == "class_balanced":
        absent["balanced"] = "the base recipe samples so already"
    settings = tuple(Setting(dose, schedule) for dose in taken for schedule in schedules)
    curve = "mix" if "mix" in schedules else schedules[0]
    return Material(synthetic, settings, curve, {name: Path(folder) for name, folder in prompts.items()}, absent)


def _make(there: Material, opened: Dataset, out: Path, generator: Path | None) -> Material:
    """Write the folders that do not depend on the dose."""
    absent = dict(there.absent)
    with alone(out):
        duplicate(there.synthetic, opened, out / COPIES)
        duplicate(there.synthetic, opened, out / "masked", masked=True)
        material.unscreened(there.synthetic, opened, out / "unscreened")
        if not (out / "round_trip" / "dataset.json").exists():
            from trcgl.audit.inputs import generator_of

            try:
                drew = generator_of(open_dataset(there.synthetic), opened, generator)
            except DataError as error:
                if generator:
                    raise
                absent["round_trip"] = str(error)
            else:
                material.round_trip(out / COPIES, opened, out / "round_trip", drew)
    if "round_trip" not in absent and material.unchanged(out / COPIES, out / "round_trip"):
        absent["round_trip"] = "the autoencoder gives every pixel back, so that this arm would be `duplicated` again"
    return replace(there, absent=absent)


def _without_twin(there: Material, opened: Dataset, chosen: Setting, unscreened: Path) -> Material:
    """`unscreened` is left out where it would show the images of `drawn` again."""
    kept, first = (
        open_synthetic(folder, opened, chosen.dose).rows["image_id"].to_list()
        for folder in (there.synthetic, unscreened)
    )
    why = {"unscreened": "screening rejected none of these images"} if kept == first else {}
    return replace(there, absent={**there.absent, **why})


def _second(plan: Plan, there: Material, chosen: Setting, labels: str) -> Plan:
    """All arms and contrasts, once dose and schedule are chosen."""
    curve = [Setting(dose, there.curve) for dose in there.doses]
    settings = curve if chosen in curve else [*curve, chosen]
    at_chosen = {"masked": "masked", "round_trip": "round_trip", "unscreened": "unscreened", "deranged": labels}
    at_chosen |= {one: one for one in there.prompts}
    arms = [_real()]
    if "balanced" not in there.absent:
        arms.append(
            Arm("balanced", {"train.row_sampling": "class_balanced"}, REFERENCES["balanced"], WORDS["balanced"])
        )
    arms += [_with("drawn", one) for one in settings]
    arms += [_with("duplicated", one, COPIES) for one in settings]
    arms += [_with(what, chosen, drawn) for what, drawn in at_chosen.items() if what not in there.absent]
    return replace(
        plan,
        arms=tuple(arms),
        contrasts=_contrasts(arms, chosen, curve, list(there.prompts)),
        asked={**plan.asked, "primary": "drawn", "baseline": "duplicated"},
    )


def _contrasts(
    arms: Sequence[Arm], chosen: Setting, curve: Sequence[Setting], prompts: Sequence[str]
) -> tuple[Contrast, ...]:
    def name(what: str, at: Setting = chosen) -> str:
        return what if what in ("real", "balanced") else f"{what}_{at.name}"

    drawn, duplicated = name("drawn"), name("duplicated")
    asked = [Contrast(drawn, duplicated, "does drawing help more than copying?")]
    asked += [Contrast(name(one), name(other), what) for (one, other), what in QUESTIONS.items()]
    asked += [Contrast(name(one), drawn, f"{PROMPTS[one]}, in place of the study's") for one in prompts]
    asked += [
        Contrast(name("drawn", one), name("duplicated", one), f"the same at dose {one.dose:g}, {one.schedule}")
        for one in curve
        if one != chosen
    ]
    there = {one.name for one in arms}
    return tuple(one for one in asked if {one.arm, one.against} <= there)


def _real() -> Arm:
    return Arm("real", {}, REFERENCES["real"], WORDS["real"])


def _with(what: str, at: Setting, drawn: str = "drawn") -> Arm:
    changes = {"synthetic.dose": at.dose, "synthetic.schedule": at.schedule}
    words = WORDS.get(what) or f"Drawn by {PROMPTS[what]}."
    return Arm(f"{what}_{at.name}", changes, REFERENCES.get(what, ""), words, drawn)
