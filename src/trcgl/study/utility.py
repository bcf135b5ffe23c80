"""Do synthetic images help? Synthetic images against the same number of duplicates of real images, at equal steps.

First `synthetic` is trained at every dose and schedule with seeds of its own, and val chooses one dose and schedule;
then all arms are trained with the seeds of the study and compared on test.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from trcgl.core import storage
from trcgl.core.errors import DataError, RecipeError
from trcgl.core.recipe import Recipe
from trcgl.dataset.store import Dataset, open_dataset
from trcgl.dataset.synthetic_rows import generation_record, open_synthetic
from trcgl.study import training_variants
from trcgl.study.arms import Arm
from trcgl.study.choice import FIRST_SEED, Setting, choose
from trcgl.study.plan import Contrast, Plan, alone, begin, comparable
from trcgl.study.results import collect, results
from trcgl.study.runner import jobs_of, train_runs, try_arms
from trcgl.study.stored import path_in
from trcgl.study.study import conclude
from trcgl.study.utility_report import amounts, complete
from trcgl.study.worker import Job

Schedule = Literal["mix", "pretrain"]
PROMPTS = {
    "handwritten": "text only, without context tokens",
    "shared_tokens": "text and the shared context tokens",
    "per_finding_tokens": "text and the context tokens of each finding",
}
"""Arms with images of other prompts, each from its own folder."""
REFERENCES = {
    "balanced": "Shen et al. 2016",
    "duplicated": "Pink & Sykes 2026 (PMLR 318)",
    "synthetic": "TRCGL-Net, arXiv 2607.00975",
}
DESCRIPTIONS = {
    "real": "The base recipe on real images alone.",
    "balanced": "Real images alone; a finding is chosen first, then one of its images.",
    "duplicated": "Each synthetic image is replaced by a duplicate of the real image with the same label set.",
    "masked": "The images of `duplicated` with the labels of `synthetic`: only requested labels are known.",
    "synthetic": "The kept images of --synthetic.",
    "round_trip": "The images of `duplicated` after encoding and decoding by the generator's autoencoder.",
    "unscreened": "As many images of each target as `synthetic`, the first in seed order, whatever screening decided.",
    "deranged": "The images of `synthetic`, each with the label set of an image that was generated for something else.",
} | {name: f"Generated from {prompt}." for name, prompt in PROMPTS.items()}
QUESTIONS = {
    ("synthetic", "real"): "do synthetic images help?",
    ("duplicated", "real"): "do duplicates help?",
    ("synthetic", "balanced"): "or is class-balanced row sampling enough?",
    ("synthetic", "masked"): "is it the images, or which labels are known?",
    ("round_trip", "duplicated"): "what does the autoencoder cost?",
    ("synthetic", "unscreened"): "does screening help?",
    ("synthetic", "deranged"): "is it the content of the images?",
}


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
    """Compare training with synthetic images to training with the same number of duplicates of real images.

    A dose is the number of kept images generated for a finding ÷ its real training images. Val chooses one of the doses
    and schedules, by `choosing_seeds` further runs of each. `generator` is the generator of the images, which the arm
    `round_trip` needs; None takes the generator recorded in `synthetic`, and leaves the arm out if that folder no
    longer exists. `prompts` are synthetic folders of other prompts, by names in `PROMPTS`. The same call again
    continues the study in `out`.

    Returns:
        The table (schema `trcgl.study-table/1`), with the choice, the doses, the outcome and every tail finding.
    """
    base, out, synthetic = comparable(base), Path(out), Path(synthetic)
    prompts = {name: Path(folder) for name, folder in (prompts or {}).items()}
    _check(base, doses, schedules, choosing_seeds)
    opened = open_dataset(dataset)
    _check_folders(opened, base, prompts)
    used, absent = _distinct_doses(synthetic, opened, doses, base.train.views)
    absent |= {name: f"no folder was given (--{name.replace('_', '-')})" for name in PROMPTS if name not in prompts}
    if base.train.row_sampling in ("class_balanced", "class_aware"):
        absent["balanced"] = "the base recipe samples rows this way already"
    settings = [Setting(dose, schedule) for dose in used for schedule in schedules]
    plan = Plan(
        "utility",
        Path(dataset),
        base,
        tuple(_at("synthetic", setting) for setting in settings),
        (Contrast("synthetic", "duplicated"),),
        seeds,
        synthetic,
        prompts,
        {"doses": sorted(doses), "schedules": list(schedules), "choosing_seeds": choosing_seeds},
    )
    jobs = jobs_of(plan, out, range(FIRST_SEED, FIRST_SEED + choosing_seeds))
    tried: set[str] = set()
    begin(plan, opened, out, lambda: tried.update(try_arms(jobs)))
    absent |= _write_variants(synthetic, opened, out, generator)
    train_runs(jobs, tried)
    by_setting = [(setting, [job for job in jobs if job.arm == f"synthetic_{setting.name}"]) for setting in settings]
    choice = choose(by_setting, opened.space)
    storage.write_json(out / "chosen.json", choice)
    chosen = Setting(choice["dose"], choice["schedule"])
    deranged = f"deranged_{chosen.dose:g}"
    with alone(out):
        right = training_variants.deranged(synthetic, opened, chosen.dose, out / deranged, base.train.views)
    kept, first = (
        open_synthetic(folder, opened, chosen.dose, base.train.views).rows for folder in (synthetic, out / "unscreened")
    )
    if kept["image_id"].to_list() == first["image_id"].to_list():
        absent["unscreened"] = "screening rejected none of these images"
    curve = "mix" if "mix" in schedules else schedules[0]
    folders = {name: out / name for name in ("masked", "unscreened", "round_trip", deranged)}
    plan = replace(plan, folders={**prompts, **folders})
    whole = _all_arms(plan, chosen, [Setting(dose, curve) for dose in used], absent)
    begin(whole, opened, out)
    jobs = jobs_of(whole, out)
    _check_images(jobs)
    train_runs(jobs)
    outcomes = collect(jobs)
    document = complete(
        results(whole, outcomes),
        choice=choice,
        curve=curve,
        amounts=amounts(synthetic, opened, used, base),
        absent=absent,
        deranged_right=right,
    )
    return conclude(whole, out, opened, outcomes, document)


def _check(base: Recipe, doses: Sequence[float], schedules: Sequence[str], choosing_seeds: int) -> None:
    if not doses or min(doses) <= 0:
        raise RecipeError("--doses: give numbers above 0; dose 0 is the arm real, which is always trained.")
    if choosing_seeds < 1:
        raise RecipeError(f"--choosing-seeds is {choosing_seeds}; it must be at least 1.")
    if not schedules:
        raise RecipeError(f"--schedules: name one of {', '.join(get_args(Schedule))}, or both.")
    for flag, values in (("--doses", doses), ("--schedules", schedules)):
        if twice := [value for value in values if list(values).count(value) > 1]:
            raise RecipeError(f"{flag} names {twice[0]} more than once.")
    if not base.synthetic.weight:
        raise RecipeError("synthetic.weight is 0, so that no synthetic image would be shown. Give a weight above 0.")


def _check_folders(opened: Dataset, base: Recipe, prompts: Mapping[str, Path]) -> None:
    val = opened.split("val", with_none=base.train.with_none, views=base.train.views)
    if not any((val[finding] == 1).any() for finding in opened.space.in_group("tail")):
        raise DataError(f"{opened.folder}: val has no positive of a tail finding; dose and schedule are chosen on it.")
    for name, folder in prompts.items():
        recorded = generation_record(open_synthetic(folder, opened).dataset)["options"].get("prompt", "learned")
        if recorded not in (name, "learned"):  # learned may come from a generator without tokens
            raise RecipeError(f"--{name.replace('_', '-')} {folder}: it was generated with --prompt {recorded}.")


def _check_images(jobs: Sequence[Job]) -> None:
    """Refuse finished runs that were trained with other synthetic images than their folder holds now."""
    for job in jobs:
        if job.synthetic and job.outcome.exists():
            trained_with = storage.read_json(job.folder / "run.json")["synthetic"]["digest"]
            if trained_with != storage.sha256_file(job.synthetic / "dataset.json"):
                raise RecipeError(
                    f"{job.folder} was trained with other images than {job.synthetic} holds now. Choose another --out."
                )


def _distinct_doses(
    synthetic: Path, opened: Dataset, doses: Sequence[float], views: Sequence[str]
) -> tuple[list[float], dict[str, str]]:
    """Doses that take different images, ascending; and the left-out doses, each with the reason."""
    absent = {}
    taken: dict[float, list[str]] = {}
    for dose in sorted(doses):
        rows = open_synthetic(synthetic, opened, dose, views).rows["image_id"].to_list()
        if not rows:
            raise DataError(f"{synthetic}: screening kept no image. Generate more, or with another generator.")
        if same := [smaller for smaller, before in taken.items() if before == rows]:
            absent[f"dose {dose:g}"] = f"no image was kept that dose {same[0]:g} does not take already"
        else:
            taken[dose] = rows
    return list(taken), absent


def _write_variants(synthetic: Path, opened: Dataset, out: Path, generator: Path | None) -> dict[str, str]:
    """Write the folders that do not depend on the dose; return why `round_trip` is absent, if it is."""
    duplicates, round_trip = path_in(out, "duplicates"), out / "round_trip"
    with alone(out):
        training_variants.duplicate(synthetic, opened, duplicates)
        training_variants.duplicate(synthetic, opened, out / "masked", masked=True)
        training_variants.unscreened(synthetic, opened, out / "unscreened")
        if not training_variants.finished(round_trip):
            from trcgl.audit.inputs import generator_of

            try:
                source = generator_of(open_dataset(synthetic), opened, generator)
            except DataError as error:
                if generator:
                    raise
                return {"round_trip": str(error)}
            training_variants.round_trip(duplicates, opened, round_trip, source)
    if training_variants.unchanged(duplicates, round_trip):
        return {"round_trip": "the autoencoder reproduces every pixel, so this arm would equal `duplicated`"}
    return {}


def _all_arms(plan: Plan, chosen: Setting, curve: list[Setting], absent: Mapping[str, str]) -> Plan:
    """The plan with all arms and contrasts, once dose and schedule are chosen."""
    prompts = [name for name in PROMPTS if name in plan.folders]
    at_chosen = {name: name for name in ("masked", "round_trip", "unscreened")}
    at_chosen |= {"deranged": f"deranged_{chosen.dose:g}"} | {name: name for name in prompts}
    settings = curve if chosen in curve else [*curve, chosen]
    balanced = {"train.row_sampling": "class_balanced"}
    arms = [Arm("real", {}, "", DESCRIPTIONS["real"])]
    if "balanced" not in absent:
        arms.append(Arm("balanced", balanced, REFERENCES["balanced"], DESCRIPTIONS["balanced"]))
    arms += [_at("synthetic", setting) for setting in settings]
    arms += [_at("duplicated", setting, "duplicates") for setting in settings]
    arms += [_at(kind, chosen, folder) for kind, folder in at_chosen.items() if kind not in absent]
    trained = {arm.name for arm in arms}

    def name(kind: str, at: Setting = chosen) -> str:
        return kind if kind in ("real", "balanced") else f"{kind}_{at.name}"

    synthetic = name("synthetic")
    asked = [Contrast(synthetic, name("duplicated"), "do synthetic images help more than duplicates?")]
    asked += [Contrast(name(kind), name(other), question) for (kind, other), question in QUESTIONS.items()]
    asked += [Contrast(name(prompt), synthetic, f"{PROMPTS[prompt]}, in place of the study's") for prompt in prompts]
    for at in [setting for setting in curve if setting != chosen]:
        question = f"the same at dose {at.dose:g}, {at.schedule}"
        asked.append(Contrast(name("synthetic", at), name("duplicated", at), question))
    return replace(
        plan,
        arms=tuple(arms),
        contrasts=tuple(contrast for contrast in asked if {contrast.arm, contrast.against} <= trained),
        asked={**plan.asked, "primary": "synthetic", "baseline": "duplicated"},
    )


def _at(kind: str, setting: Setting, folder: str = "synthetic") -> Arm:
    changes = {"synthetic.dose": setting.dose, "synthetic.schedule": setting.schedule}
    return Arm(f"{kind}_{setting.name}", changes, REFERENCES.get(kind, ""), DESCRIPTIONS[kind], folder)
