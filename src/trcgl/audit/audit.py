"""`trcgl audit SYNTHETIC --dataset DATASET --auditor RUN`: are synthetic images faithful, novel and diverse?

The audit generates the images that the synthetic folder lacks, runs every check beside its null, and writes
`audit.json` and `audit.html`. The same command again resumes: no image is generated twice.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from trcgl.audit.check import Evidence, conclude, status
from trcgl.audit.checks import CHECKS
from trcgl.audit.features import FeatureSpace, feature_space, features_of_model
from trcgl.audit.inputs import Inputs, open_inputs
from trcgl.audit.options import AuditOptions
from trcgl.audit.reader_kit import read_ratings, write_reader_kit
from trcgl.audit.report import write_report
from trcgl.audit.sample_plan import WITH, Sheet, Store, main_sheets, sample_sheets, sampled_alike, side_sheets
from trcgl.audit.scored_images import held_out_rows, score_all
from trcgl.audit.stored import SCHEMA, read_audit
from trcgl.core import storage
from trcgl.core.errors import RecipeError
from trcgl.core.lock import locked
from trcgl.core.notice import RESEARCH_USE
from trcgl.dataset.store import check_space
from trcgl.dataset.synthetic_rows import balancing
from trcgl.generate.pixel_sources import ImageStart
from trcgl.generate.sampling_run import SamplingSettings, check_prompts
from trcgl.model.folder import best_device

SETTINGS_SCHEMA = "trcgl.audit.settings/1"


def audit(
    synthetic_folder: Path,
    dataset_folder: Path,
    auditor_run: Path,
    generator_folder: Path | None = None,
    out: Path | None = None,
    options: AuditOptions | None = None,
    ratings: Path | None = None,
) -> dict[str, Any]:
    """Audit a synthetic folder; the same call again resumes, or adds ratings to a finished audit.

    Args:
        synthetic_folder: written by `trcgl synthesize`.
        dataset_folder: the real dataset that it was generated for.
        auditor_run: a run trained on real images of patients that the screening classifier was not trained on.
        generator_folder: the generator; None for the path recorded in the synthetic folder.
        out: the audit folder; None for `audit` in the synthetic folder.
        options: all options.
        ratings: CSV file with a radiologist's ratings of the reader kit.

    Returns:
        The content of `audit.json`, schema `trcgl.audit/2`.

    Raises:
        DataError: the folders do not belong together, or the disk is full.
        CheckpointError: generator or auditor are missing or damaged.
        RecipeError: an option is invalid, or `out` contains something else.
    """
    options = options or AuditOptions()
    out = Path(synthetic_folder) / "audit" if out is None else Path(out)
    done = out / "audit.json"
    inputs = open_inputs(Path(synthetic_folder), Path(dataset_folder), Path(auditor_run), generator_folder)
    options = dataclasses.replace(
        options,
        findings=_findings(inputs, options.findings),
        precision=options.precision or inputs.options["precision"],
    )
    digest, learned = inputs.generator.info["digest"], inputs.generator.context.enabled
    reusable = sampled_alike(inputs.provenance, inputs.options, digest, str(options.precision))
    store = Store(out / "sheets", reusable, inputs.synthetic.require_images(), learned)
    sheets = _sheets(inputs, options)
    device = torch.device(best_device())
    inputs.generator.to(device)
    spaces: dict[str, FeatureSpace] = {}
    if not done.exists():  # everything that can be refused is refused before the folder is claimed
        if ratings is not None:
            raise RecipeError(f"{out} is not finished, so its kit cannot have been rated. Run without --ratings first.")
        for sheet in sheets:
            check_prompts(inputs.generator, sheet.rows)
        held_out_rows(inputs.dataset, options.held_out)
        for name in options.features:
            own = name == "run:AUDITOR"
            spaces[name] = features_of_model(name, inputs.auditor) if own else feature_space(name, device.type)
        if missing := [sheet for sheet in sheets if not store.path(sheet).exists()]:
            check_space(out, sum(sheet.rows.height for sheet in missing), inputs.side, "give a smaller --each")
    with locked(out):
        storage.claim_settings(out, "settings.json", _settings(options, inputs))
        if done.exists() and ratings is None:
            return read_audit(done)

        rated = None if ratings is None else read_ratings(out / "reader_kit", out / "reader_key", Path(ratings))
        if not done.exists():
            how = inputs.options
            start = ImageStart.of(inputs.dataset, how["strength"]) if how["from_real"] else None
            same = (how["steps"], how["guided_to"], how["solver"])
            settings = SamplingSettings(inputs.side, *same, options.batch_size, start)
            precision = options.precision or "32-true"
            sample_sheets(inputs.generator, sheets, store, settings, precision=precision, device=device)
        images = score_all(inputs, options.findings, sheets, store, options.held_out, options.batch_size)
        if done.exists():
            result = read_audit(done)
        else:
            evidence = Evidence(images, options)
            evidence.compute_features(spaces)
            result = _run_checks(evidence) | {"reader_kit": write_reader_kit(out, images, options.seed)}
        if rated is not None:
            result["readers"] = [
                *(reader for reader in result["readers"] if reader["ratings"] != rated["ratings"]),
                rated,
            ]
        write_report(out, result, images)
        storage.write_json(done, result)
        return result


def _findings(inputs: Inputs, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The given findings, else the targets of the synthetic folder without its balancing findings."""
    space = inputs.dataset.space
    targets = inputs.provenance["target"].unique(maintain_order=True).to_list()
    findings = asked or tuple(target for target in targets if target not in balancing(space))
    if unknown := [finding for finding in findings if finding not in space.findings]:
        raise RecipeError(f"--findings {unknown[0]!r}: the dataset has {', '.join(space.findings)}.")
    if not findings:
        raise RecipeError(
            f"{inputs.synthetic.folder} contains only the balancing images (normal and head findings). Name the "
            "findings to audit with --findings."
        )
    return tuple(dict.fromkeys(findings))


def _sheets(inputs: Inputs, options: AuditOptions) -> list[Sheet]:
    learned, prompts = inputs.generator.context.enabled, inputs.generator.prompts
    main = main_sheets(inputs.dataset, prompts, options.findings, options.each, inputs.options, learned)
    each = {"sweep_each": options.sweep_each, "handwritten_each": options.handwritten_each}
    return main + side_sheets(main[0].rows, prompts, **each, learned=learned)


def _run_checks(evidence: Evidence) -> dict[str, Any]:
    """Run every check of the registry; the result is the content of `audit.json` without the reader kit."""
    images, options, inputs = evidence.images, evidence.options, evidence.images.inputs
    for check in CHECKS:
        if check.of_all:
            evidence.overall[check.key] = check.of_all(evidence)
    sampling = ("guidance", "guidance_for", "guided_to", "steps", "solver", "seed", "strength", "source_images")
    return {
        "schema": SCHEMA,
        "synthetic": inputs.synthetic.name,
        "dataset": inputs.dataset.name,
        "phantom": images.phantom,
        "options": {**dataclasses.asdict(options), "findings": list(images.findings)},
        "sampling": {name: inputs.options[name] for name in sampling}
        | {"images": {name: len(sheet.images) for name, sheet in images.sheets.items()}},
        "auditor": {
            "weights_sha256": inputs.auditor.info["weights_sha256"],
            "separation": inputs.separation,
            "unchecked": inputs.unchecked,
            "half": inputs.auditor_half,
        },
        "generator": {
            "digest": inputs.generator.info["digest"],
            "image_size": inputs.generator.image_size,
            "base": inputs.generator.info.get("base"),
        },
        "held_out": {
            "splits": options.held_out,
            "images": images.held_out.rows.height,
            "patients": len(set(images.held_out.patients())),
        },
        "findings": {finding: _run_on_finding(evidence, finding) for finding in images.findings},
        "overall": evidence.overall,
        "readers": [],
        "environment": storage.environment(),
        "research_use": RESEARCH_USE,
    }


def _run_on_finding(evidence: Evidence, finding: str) -> dict[str, Any]:
    images, sheet = evidence.images, evidence.images.sheets[WITH]
    rows = sheet.rows_of(finding)
    counts = {
        "synthetic": len(rows),
        "source_patients": len(set(sheet.patients(rows))),
        "screened": sum(images.screening[row] is not None for row in rows),
        "kept": len(images.kept(rows)),
    }
    for name, side in (("held_out", images.held_out), ("train", images.train)):
        positives = images.positives(side, finding)
        counts |= {name: len(positives), f"{name}_patients": len(set(side.patients(positives)))}
    word, why = status(counts["held_out"], counts["synthetic"])
    results: dict[str, Any] = {"counts": counts}
    results |= {check.key: check.of_finding(evidence, finding) for check in CHECKS if check.of_finding}
    return {
        "group": images.space.groups.get(finding),
        "status": word,
        "status_why": why,
        "verdict": dataclasses.asdict(conclude(results, CHECKS)),
        **results,
    }


def _settings(options: AuditOptions, inputs: Inputs) -> dict[str, Any]:
    """All options and inputs that determine the result."""
    return {
        "schema": SETTINGS_SCHEMA,
        **{name: value for name, value in dataclasses.asdict(options).items() if name != "batch_size"},
        "synthetic": storage.sha256_file(inputs.synthetic.folder / "dataset.json"),
        "dataset": storage.sha256_file(inputs.dataset.folder / "dataset.json"),
        "auditor": inputs.auditor.info["weights_sha256"],
        "generator": inputs.generator.info["digest"],
    }
