"""Which label sets are drawn, how often and with which seeds: a pure function of the training rows and the amounts.

A label set is always that of a real training row, so that drawn findings come together as real ones do.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from trcgl.core.errors import DataError, RecipeError
from trcgl.core.randomness import derive_seed
from trcgl.core.randomness import generator as randomness
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.store import Dataset
from trcgl.dataset.synthetic_rows import balancing
from trcgl.generate.prompts import Prompt, prompt

SCHEMA: dict[str, Any] = {
    "image_id": pl.String(),
    "target": pl.String(),  # the finding that the image is drawn for
    "source_image_id": pl.String(),  # the real row whose label set is used
    "patient_id": pl.String(),  # of that row
    "findings": pl.List(pl.String()),  # the label set: what is asked for
    "prompt": pl.String(),
    "seed": pl.Int64(),
}
"""Columns of a plan."""


def plan(
    dataset: Dataset,
    targets: Sequence[str] = (),
    *,
    count: int | None = None,
    dose: float | None = None,
    each: int | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """One row per image to draw.

    The rows of a target are taken in a shuffled order, over and over. Image i of a target has the same label set,
    prompt and seed in every plan of the same dataset and `seed`: a smaller plan holds the first images of a larger one.
    For every image of another finding, an image of the normal label or of a head finding is drawn, the same number of
    each: drawn images of nothing but rare findings would teach "drawn means rare".

    Args:
        dataset: a real dataset.
        targets: findings to draw for; the tail findings where empty.
        count: draw up to so many positive training images of a target, real and drawn together.
        dose: draw so many times the real positive training images of a target, at least one image.
        each: draw exactly so many images for each target, before those that keep the balance.
        seed: of the order of the rows and of the images.

    Returns:
        Columns of `SCHEMA`: the targets one after the other, then what keeps the balance; within each in seed order.

    Raises:
        DataError: a target is not in the label space or has no training row, or the dataset is itself drawn.
        RecipeError: none or several of count, dose and each are given, one is out of range, or there is no tail.
    """
    if dataset.info["source"] == "synthetic":
        raise DataError(f"{dataset.folder} holds drawn images. Name the real dataset that the generator learned from.")
    space, train = dataset.space, dataset.split("train")
    targets = tuple(dict.fromkeys(targets or space.in_group("tail")))
    if not targets:
        raise RecipeError(f"{dataset.folder} has no tail finding. Name what to draw: --targets {space.findings[0]!r}")
    positives = {target: sources(train, space, target).height for target in targets}
    if absent := [target for target in targets if not positives[target]]:
        present = " ".join(repr(target) for target in targets if positives[target])
        others = f"Leave it out: --targets {present}" if present else "Name findings that train has."
        raise DataError(f"{dataset.folder}: no training row has {', '.join(absent)}, so it cannot be drawn. {others}")

    drawn = _amounts(positives, count, dose, each)
    needed = sum(number for target, number in drawn.items() if target not in balancing(space))
    beside = [one for one in balancing(space) if sources(train, space, one).height]
    for place, finding in enumerate(beside):
        more = needed // len(beside) + (place < needed % len(beside))
        drawn[finding] = drawn.get(finding, 0) + more
    rows = [row for target, number in drawn.items() for row in _rows(train, space, target, number, seed)]
    if not rows:
        raise RecipeError(f"count {count}: every target has so many real training images. Give a larger --count.")
    return pl.DataFrame(rows, schema=SCHEMA)


def guided(rows: pl.DataFrame, guidance: float, guidance_for: Mapping[str, float]) -> pl.DataFrame:
    """A plan with the scale of classifier-free guidance of each image, as column `guidance`.

    Args:
        rows: columns of `SCHEMA`.
        guidance: of every target but these:
        guidance_for: targets and their scales.

    Raises:
        RecipeError: nothing is drawn for a target that has a scale.
    """
    if strange := [one for one in guidance_for if one not in set(rows["target"])]:
        targets = ", ".join(rows["target"].unique(maintain_order=True))
        raise RecipeError(f"--guidance-for {strange[0]!r}: nothing is drawn for it. The targets are {targets}.")
    scales = [float(guidance_for.get(target, guidance)) for target in rows["target"]]
    return rows.with_columns(guidance=pl.Series(scales, dtype=pl.Float64))


def sources(train: pl.DataFrame, space: LabelSpace, finding: str) -> pl.DataFrame:
    """Training rows whose label set can be asked for when `finding` is the target.

    Raises:
        DataError: the label space does not have the finding.
    """
    having = train.filter(pl.col(space.findings[space.index(finding)]) == 1)
    if finding != space.normal:
        return having
    others = [pl.col(one) == 1 for one in space.findings if one != finding]
    return having.filter(~pl.any_horizontal(*others).fill_null(False)) if others else having


def _amounts(positives: dict[str, int], count: int | None, dose: float | None, each: int | None) -> dict[str, int]:
    given = {"count": count, "dose": dose, "each": each}
    if len(named := [name for name, value in given.items() if value is not None]) != 1:
        raise RecipeError(f"one of --count, --dose and --each is needed, not {' and '.join(named) or 'none'}.")
    if count is not None:
        if above := [f"{target} ({real})" for target, real in positives.items() if real > count]:
            raise RecipeError(
                f"--count {count} is below the real training images of {', '.join(above)}. Give a larger --count, or "
                "name the --targets that are rarer."
            )
        return {target: count - real for target, real in positives.items()}
    if dose is not None:
        if not (math.isfinite(dose) and dose > 0):
            raise RecipeError(f"--dose {dose}: give a positive number; 1 draws as many as there are real ones.")
        return {target: max(1, round(dose * real)) for target, real in positives.items()}
    assert each is not None
    if each < 1:
        raise RecipeError(f"--each {each}: give at least 1.")
    return dict.fromkeys(positives, each)


def _rows(train: pl.DataFrame, space: LabelSpace, target: str, number: int, seed: int) -> list[dict[str, Any]]:
    there = sources(train, space, target).select("image_id", "patient_id", *space.findings).to_dicts()
    order = randomness(seed, "plan", target).permutation(len(there))
    slug, rows = _slug(space, target), []
    for index in range(number):
        source = there[order[index % len(there)]]
        own = derive_seed(seed, "synthesize", target, index)
        findings = label_set(source, space)
        rows.append(
            {
                "image_id": f"drawn-{seed}-{slug}-{index:05d}",
                "target": target,
                "source_image_id": source["image_id"],
                "patient_id": source["patient_id"],
                "findings": findings,
                "prompt": prompt_of(findings, space, own).text,
                "seed": own,
            }
        )
    return rows


def prompt_of(findings: Sequence[str], space: LabelSpace, seed: int) -> Prompt:
    """The prompt of an image: its label set in an order that its seed decides."""
    return prompt(findings, space.normal, randomness(seed, "prompt"))


def label_set(row: dict[str, Any], space: LabelSpace) -> list[str]:
    """Findings of a manifest row; "normal" beside a finding contradicts it and is left out."""
    findings = [one for one in space.findings if row[one] == 1]
    return findings if findings == [space.normal] else [one for one in findings if one != space.normal]


def _slug(space: LabelSpace, finding: str) -> str:
    """A finding as part of an image_id, different for each finding of the label space."""
    slugs = [re.sub(r"\W+", "-", one.lower()).strip("-") for one in space.findings]
    own = space.index(finding)
    return slugs[own] if slugs.count(slugs[own]) == 1 and slugs[own] else f"{slugs[own]}-{own}".strip("-")
