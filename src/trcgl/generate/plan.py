"""Plan of the images to generate: label sets, prompts and seeds, a pure function of training rows and amounts.

A label set is always that of a real training row, so that findings occur together as they do in real images.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import polars as pl

from trcgl.core.errors import DataError, RecipeError
from trcgl.core.randomness import derive_seed
from trcgl.core.randomness import generator as randomness
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.store import Dataset
from trcgl.dataset.synthetic_rows import balancing, images_at, sources
from trcgl.generate.prompts import Prompt, PromptFormat

SCHEMA: dict[str, Any] = {
    "image_id": pl.String(),
    "target": pl.String(),  # the finding that the image is generated for
    "source_image_id": pl.String(),  # the real row whose label set is used
    "patient_id": pl.String(),  # of that row
    "view": pl.String(),  # of that row; null if prompts do not name the view
    "findings": pl.List(pl.String()),  # the label set that the prompt names
    "left_out": pl.List(pl.String()),  # the findings that were left out of it because the prompt was too long
    "prompt": pl.String(),
    "seed": pl.Int64(),
}
"""Columns of a plan."""

Views = Literal["auto", "frontal", "lateral", "all"]


def plan(
    dataset: Dataset,
    targets: Sequence[str] = (),
    *,
    count: int | None = None,
    dose: float | None = None,
    each: int | None = None,
    seed: int = 0,
    views: Views = "auto",
    prompts: PromptFormat | None = None,
) -> pl.DataFrame:
    """One row per image to generate.

    The rows of a target are taken in a shuffled order, over and over. Image i of a target has the same label set,
    prompt and seed in every plan of the same dataset and `seed`: a smaller plan holds the first images of a larger one.
    The same number of balancing images is added, in equal parts for the normal label and each head finding: from
    synthetic images of rare findings alone, a classifier would learn that synthetic images show rare findings.

    `targets` are the tail findings if empty. Exactly one of three numbers is given: `count`, positive training images
    of a target to reach, real and synthetic together; `dose`, images per real positive training image of a target, at
    least one; or `each`, images of each target, not counting balancing images.

    `views` are the views of the rows whose label sets are used, and so of the images; a finding without rows of that
    view uses its rows of all views. `auto` is `frontal` if the prompts name the view, else `all`. `prompts` words the
    prompts of the generator; by default they are of any length and do not name the view.

    Returns:
        Columns of `SCHEMA`: the targets one after the other, then the balancing findings; within each in seed order.
    """
    if dataset.info["source"] == "synthetic":
        raise DataError(f"{dataset.folder} holds synthetic images. Name the real dataset.")
    space, train = dataset.space, dataset.split("train")
    prompts = prompts or PromptFormat(space)
    if views == "auto":
        views = "frontal" if prompts.views else "all"
    targets = tuple(dict.fromkeys(targets or space.in_group("tail")))
    if not targets:
        raise RecipeError(f"{dataset.folder} has no tail finding. Name findings: --targets {space.findings[0]!r}")
    real = {finding: sources(train, space, finding) for finding in dict.fromkeys((*targets, *balancing(space)))}
    positives = {target: real[target].height for target in targets}
    if absent := [target for target in targets if not positives[target]]:
        present = " ".join(repr(target) for target in targets if positives[target])
        others = f"Leave it out: --targets {present}" if present else "Name findings that train has."
        raise DataError(f"{dataset.folder}: no training row has {', '.join(absent)}. {others}")

    amounts = _amounts(positives, count, dose, each)
    needed = sum(number for target, number in amounts.items() if target not in balancing(space))
    balance = [finding for finding in balancing(space) if real[finding].height]
    for place, finding in enumerate(balance):
        more = needed // len(balance) + (place < needed % len(balance))
        amounts[finding] = amounts.get(finding, 0) + more
    rows = [
        row
        for target, number in amounts.items()
        for row in _rows(_of_view(real[target], views), prompts, target, number, seed)
    ]
    if not rows:
        raise RecipeError(f"--count {count}: every finding has that many real images already. Give a larger --count.")
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def guided(rows: pl.DataFrame, guidance: float, guidance_for: Mapping[str, float]) -> pl.DataFrame:
    """A plan with the scale of classifier-free guidance of each image, as column `guidance`."""
    if strange := [finding for finding in guidance_for if finding not in set(rows["target"])]:
        targets = ", ".join(rows["target"].unique(maintain_order=True))
        raise RecipeError(f"--guidance-for {strange[0]!r}: no image is generated for it. The targets are {targets}.")
    scales = [float(guidance_for.get(target, guidance)) for target in rows["target"]]
    return rows.with_columns(guidance=pl.Series(scales, dtype=pl.Float64))


def _amounts(positives: dict[str, int], count: int | None, dose: float | None, each: int | None) -> dict[str, int]:
    given = {"count": count, "dose": dose, "each": each}
    if len(named := [name for name, value in given.items() if value is not None]) != 1:
        raise RecipeError(f"exactly one of --count, --dose and --each is needed, not {' and '.join(named) or 'none'}.")
    if count is not None:
        if above := [f"{target} ({real})" for target, real in positives.items() if real > count]:
            raise RecipeError(
                f"--count {count} is below the real training images of {', '.join(above)}. Give a larger --count, or "
                "name the --targets that are rarer."
            )
        return {target: count - real for target, real in positives.items()}
    if dose is not None:
        if not (math.isfinite(dose) and dose > 0):
            raise RecipeError(f"--dose {dose}: give a positive number; 1 generates as many images as are real.")
        return {target: images_at(dose, real) for target, real in positives.items()}
    if each is None or each < 1:
        raise RecipeError(f"--each {each}: give at least 1.")
    return dict.fromkeys(positives, each)


# Image ids begin with `drawn-` as in version 0.1: audits and studies of stored folders depend on them.
def _rows(real: pl.DataFrame, prompts: PromptFormat, target: str, number: int, seed: int) -> list[tuple[Any, ...]]:
    space = prompts.space
    available = real.select("image_id", "patient_id", "view", *space.findings).to_dicts()
    order = randomness(seed, "plan", target).permutation(len(available))
    slug, rows = _slug(space.findings, target), []
    for index in range(number):
        source = available[order[index % len(available)]]
        own = derive_seed(seed, "synthesize", target, index)
        view = source["view"] if prompts.views else None
        whole = label_set(source, space)
        findings = prompts.shortened(whole, view, target)
        left_out = [finding for finding in whole if finding not in findings]
        image, text = f"drawn-{seed}-{slug}-{index:05d}", prompt_of(findings, prompts, own, view).text
        of_source = (source["image_id"], source["patient_id"], view)
        rows.append((image, target, *of_source, findings, left_out, text, own))
    return rows


def _of_view(rows: pl.DataFrame, views: Views) -> pl.DataFrame:
    """The rows of a view, or all rows if none has it."""
    chosen = rows if views == "all" else rows.filter(view=views)
    return chosen if chosen.height else rows


def prompt_of(findings: Sequence[str], prompts: PromptFormat, seed: int, view: str | None = None) -> Prompt:
    """The prompt of an image: its label set in an order that depends on its seed."""
    return prompts.prompt(findings, view, randomness(seed, "prompt"))


def label_set(row: dict[str, Any], space: LabelSpace) -> list[str]:
    """Findings of a manifest row; the normal label is left out if another finding contradicts it."""
    findings = [finding for finding in space.findings if row[finding] == 1]
    return findings if findings == [space.normal] else [finding for finding in findings if finding != space.normal]


def _slug(findings: Sequence[str], finding: str) -> str:
    """A finding as part of an image_id, different for each of the findings."""
    slugs = [re.sub(r"\W+", "-", name.lower()).strip("-") for name in findings]
    own = findings.index(finding)
    return slugs[own] if slugs.count(slugs[own]) == 1 and slugs[own] else f"{slugs[own]}-{own}".strip("-")
