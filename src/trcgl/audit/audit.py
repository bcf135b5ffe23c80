"""`trcgl audit SYNTHETIC --dataset DATASET --auditor RUN`: is what was drawn faithful, novel and diverse?

Draws what the synthetic folder lacks, runs every check beside its null, and writes `audit.json` and `audit.html`. The
same command again resumes: no image is drawn twice.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from trcgl.audit import evidence
from trcgl.audit.checks.ceiling import ceilings
from trcgl.audit.checks.diversity import Sample
from trcgl.audit.checks.guidance import guidance_sweep, handwritten
from trcgl.audit.features import FeatureSpace, feature_space
from trcgl.audit.inputs import Inputs, open_inputs
from trcgl.audit.kit import ratings_of, write_reader_kit
from trcgl.audit.report import write_report
from trcgl.audit.sample_plan import (
    Sheet,
    Store,
    check_prompts,
    main_sheets,
    sample_sheets,
    sampled_alike,
    side_sheets,
    size_of,
)
from trcgl.audit.scored_images import HeldOut, Material, gather, held_out_rows
from trcgl.core import storage
from trcgl.core.errors import RecipeError
from trcgl.core.notice import RESEARCH_USE
from trcgl.dataset.store import check_space
from trcgl.generate.plan import balancing
from trcgl.model.folder import best_device

SCHEMA = "trcgl.audit/1"
SETTINGS_SCHEMA = "trcgl.audit.settings/1"


@dataclass(frozen=True)
class AuditOptions:
    """What to look at, and how closely."""

    findings: tuple[str, ...] = ()
    """Findings to audit; those that the synthetic folder was drawn for where none is named."""
    each: int = 200
    """Images of each finding with it, and as many without; fewer than 200 give an indication at most."""
    sweep_each: int = 40
    """Images of each finding at each guidance scale; 0 leaves the sweep out."""
    handwritten_each: int = 100
    """Images of each finding without the learned tokens; 0 leaves the comparison out."""
    held_out: HeldOut = "both"
    """Splits whose real images are the reference."""
    features: tuple[str, ...] = ("run:AUDITOR", "random")
    """Feature spaces; `run:AUDITOR` is that of the auditor."""
    precision: Literal["32-true", "bf16"] | None = None
    """Of the network that draws; that of the synthetic folder where none is given."""
    batch_size: int = 64
    """Images that are drawn at once. Changes nothing in the result but its rounding."""
    seed: int = 0
    """Of resampling; images are drawn with the seed of the synthetic folder."""

    def __post_init__(self) -> None:
        for name, holds, wanted in (
            ("each", self.each >= 2, "at least 2"),
            ("sweep_each", self.sweep_each == 0 or 2 <= self.sweep_each <= self.each, "0, or between 2 and --each"),
            (
                "handwritten_each",
                self.handwritten_each == 0 or 2 <= self.handwritten_each <= self.each,
                "0, or between 2 and --each",
            ),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("features", len(self.features) >= 1, "at least one feature space, better two"),
        ):
            if not holds:
                raise RecipeError(f"--{name.replace('_', '-')} {getattr(self, name)}: it must be {wanted}.")


def audit(
    synthetic_folder: Path,
    dataset_folder: Path,
    auditor_run: Path,
    generator_folder: Path | None = None,
    out: Path | None = None,
    options: AuditOptions | None = None,
    ratings: Path | None = None,
) -> dict[str, Any]:
    """Audit a synthetic folder; the same call again resumes, and reads ratings into a finished audit.

    Args:
        synthetic_folder: written by `trcgl synthesize`.
        dataset_folder: the real dataset that it was drawn for.
        auditor_run: a run trained on real patients that the screening classifier did not see.
        generator_folder: None takes that of which the synthetic folder tells.
        out: the audit folder; `audit` within the synthetic folder where None.
        options: every setting.
        ratings: of the reader kit, filled in by radiologists (CSV).

    Returns:
        The content of `audit.json`, schema `trcgl.audit/1`.

    Raises:
        DataError: the folders do not belong together, or the disk is full.
        CheckpointError: generator or auditor are missing or damaged.
        RecipeError: a setting makes no sense, or `out` holds something else.
    """
    options = options or AuditOptions()
    out = Path(out) if out is not None else Path(synthetic_folder) / "audit"
    inputs = open_inputs(Path(synthetic_folder), Path(dataset_folder), Path(auditor_run), generator_folder)
    findings = _audited(inputs, options)
    how = inputs.about["options"]
    options = dataclasses.replace(options, precision=options.precision or how["precision"])
    sheets = _sheets(inputs, findings, options)
    store, done = _store(inputs, out, options), out / "audit.json"
    device = torch.device(best_device())
    inputs.generator.to(device)
    # All that can be refused is refused before the folder is taken, so that the corrected command may take it.
    spaces = {}
    if not done.exists():
        if ratings is not None:
            raise RecipeError(f"{out} is not finished, so nobody can have rated its kit. Run without --ratings first.")
        check_prompts(inputs.generator, sheets)
        held_out_rows(inputs.dataset, options.held_out)
        spaces = {
            name: feature_space(f"run:{auditor_run}" if name == "run:AUDITOR" else name, device.type)
            for name in options.features
        }
        if missing := [one for one in sheets if not store.path(one).exists()]:
            side = inputs.dataset.require_images().shape[1]
            check_space(out, size_of(missing), side, "give a smaller --each")
    settings = _settings(options, inputs, findings)
    storage.claim(out, "settings.json", settings, lambda stored: _differences(stored, settings))
    if done.exists() and ratings is None:
        return storage.read_json(done)

    read = ratings_of(out, Path(ratings)) if ratings is not None else None
    if not done.exists():
        sample_sheets(
            inputs.generator,
            sheets,
            store,
            side=inputs.dataset.require_images().shape[1],
            steps=how["steps"],
            guided_to=how["guided_to"],
            solver=how["solver"],
            batch_size=options.batch_size,
            precision=options.precision or "32-true",
            device=device,
        )
    material = gather(inputs, findings, sheets, store, options.held_out, options.batch_size)
    told = storage.read_json(done) if done.exists() else _judge(material, options, spaces, out)
    if read is not None:
        told["readers"] = [*(one for one in told["readers"] if one["ratings"] != read["ratings"]), read]
    write_report(out, told, material)
    storage.write_json(done, told)
    return told


def _audited(inputs: Inputs, options: AuditOptions) -> tuple[str, ...]:
    space = inputs.dataset.space
    targets = inputs.provenance["target"].unique(maintain_order=True).to_list()
    found = options.findings or tuple(one for one in targets if one not in balancing(space))
    if unknown := [one for one in found if one not in space.findings]:
        raise RecipeError(f"--findings {unknown[0]!r}: the dataset has {', '.join(space.findings)}.")
    if not found:
        raise RecipeError(f"{inputs.synthetic.folder} holds what keeps the balance alone. Name --findings to audit.")
    return tuple(dict.fromkeys(found))


def _sheets(inputs: Inputs, findings: tuple[str, ...], options: AuditOptions) -> list[Sheet]:
    how, learned = inputs.about["options"], inputs.generator.context.enabled
    scales = how["guidance"], how.get("guidance_for", {})
    main = main_sheets(inputs.dataset, findings, options.each, how["seed"], *scales, learned)
    return main + side_sheets(
        main[0].rows,
        inputs.dataset.space,
        sweep_each=options.sweep_each,
        handwritten_each=options.handwritten_each,
        learned=learned,
    )


def _store(inputs: Inputs, out: Path, options: AuditOptions) -> Store:
    how = inputs.about["options"]
    alike = sampled_alike(
        inputs.provenance,
        generator=inputs.generator.info["digest"],
        steps=how["steps"],
        solver=how["solver"],
        drawn_in=how["precision"],
        precision=str(options.precision),
    )
    images, learned = inputs.synthetic.require_images(), inputs.generator.context.enabled
    return Store(out / "sheets", alike, images, learned)


def _judge(material: Material, options: AuditOptions, spaces: Mapping[str, FeatureSpace], out: Path) -> dict[str, Any]:
    """Every check, as `audit.json` holds it."""
    inputs, seed = material.inputs, options.seed
    described = {name: evidence.describe(material, space, seed) for name, space in spaces.items()}
    first = options.features[0]

    def varied(finding: str, images: np.ndarray, patients: list[str]) -> dict[str, Any]:
        drawn = Sample(images, spaces[first](images), patients)
        return evidence.varied(material, finding, drawn, described[first], seed, pairs=300, replicates=50)

    real = material.held_out
    ceiling = dict(
        zip(
            material.space.findings,
            ceilings(
                real.truth,
                material.held_out_score,
                material.returned_score,
                real.patients,
                real.weight,
                seed=seed,
            ),
            strict=True,
        )
    )
    how = inputs.about["options"]
    return {
        "schema": SCHEMA,
        "synthetic": inputs.synthetic.name,
        "dataset": inputs.dataset.name,
        "phantom": inputs.dataset.info["source"] == "phantom",
        "options": {**dataclasses.asdict(options), "findings": list(material.findings)},
        "drawing": {name: how[name] for name in ("guidance", "guided_to", "steps", "solver", "seed")}
        | {"guidance_for": how.get("guidance_for", {})}
        | {"images": {name: len(one) for name, one in material.images.items()}},
        "auditor": {
            "weights_sha256": inputs.auditor.info["weights_sha256"],
            "separation": inputs.separation,
            "unchecked": inputs.unchecked,
            "half": inputs.auditor_half,
        },
        "generator": {"digest": inputs.generator.info["digest"], "image_size": inputs.generator.image_size},
        "autoencoder": {
            "kind": type(inputs.generator.vae).__name__,
            "gray_levels": material.error.to_dict(),
            "findings": {name: one.to_dict() for name, one in ceiling.items()},
        },
        "held_out": {
            "splits": options.held_out,
            "images": real.rows.height,
            "patients": len(set(real.patients)),
        },
        "findings": {
            finding: evidence.judge_finding(material, finding, ceiling[finding], described, seed)
            for finding in material.findings
        },
        "overall": evidence.judge_all(material, described, seed),
        "shortcut": evidence.probe(material, seed),
        "handwritten": handwritten(material, options.handwritten_each, seed),
        "guidance": guidance_sweep(
            material,
            options.sweep_each,
            varied,
            seed,
        ),
        "reader_kit": write_reader_kit(out, material, seed),
        "readers": [],
        "environment": storage.environment(),
        "research_use": RESEARCH_USE,
    }


def _settings(options: AuditOptions, inputs: Inputs, findings: tuple[str, ...]) -> str:
    shared = {**dataclasses.asdict(options), "findings": list(findings)}
    del shared["batch_size"]
    value = {
        "schema": SETTINGS_SCHEMA,
        **shared,
        "synthetic": storage.sha256_file(inputs.synthetic.folder / "dataset.json"),
        "dataset": storage.sha256_file(inputs.dataset.folder / "dataset.json"),
        "auditor": inputs.auditor.info["weights_sha256"],
        "generator": inputs.generator.info["digest"],
    }
    return json.dumps(value, indent=2) + "\n"


def _differences(stored: str, settings: str) -> str:
    try:
        old, new = json.loads(stored), json.loads(settings)
        return "; ".join(f"{name}: {old.get(name)} → {new[name]}" for name in new if old.get(name) != new[name])
    except (json.JSONDecodeError, AttributeError):
        return "its settings.json cannot be read"
