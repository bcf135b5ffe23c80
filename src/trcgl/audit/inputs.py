"""Synthetic folder, dataset, auditor and generator belong together, or nothing is audited.

The auditor must not have learned from held-out patients, nor from a patient of the classifier that screened: what
passed a screener flatters every classifier that learned from the same images. What cannot be checked is said.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from trcgl.core import storage
from trcgl.core.errors import DataError, TrcglError
from trcgl.dataset.overlap import refuse_overlap
from trcgl.dataset.patient_halves import Half, half, half_of
from trcgl.dataset.store import Dataset, open_dataset
from trcgl.dataset.synthetic_rows import generation_record, open_synthetic, read_provenance
from trcgl.generate.inputs import open_generator
from trcgl.generate.pipeline import Generator
from trcgl.model.folder import LoadedModel, best_device, load_model

_HALVES = (
    "Train both classifiers on halves of the train patients: `trcgl train ... --train.half first` for the one that "
    "screens, `--train.half second` for the one that audits; or audit with a run on another dataset."
)


@dataclass(frozen=True)
class Inputs:
    """What is audited, and by whom.

    Args:
        synthetic: the synthetic folder.
        provenance: of its images, in their order.
        dataset: the real one.
        auditor: an independent classifier, calibrated.
        generator: that drew the images.
        separation: what is known about the patients that the auditor learned from, in sentences.
        unchecked: what could not be checked.
        auditor_half: of the dataset's train patients, that the auditor learned from; None where it learned from
            another dataset.
    """

    synthetic: Dataset
    provenance: pl.DataFrame
    dataset: Dataset
    auditor: LoadedModel
    generator: Generator
    separation: list[str]
    unchecked: list[str]
    auditor_half: Half | None

    @property
    def about(self) -> dict[str, Any]:
        """How the synthetic folder was made."""
        return generation_record(self.synthetic)


def open_inputs(
    synthetic_folder: Path, dataset_folder: Path, auditor_run: Path, generator_folder: Path | None
) -> Inputs:
    """Open everything and check that it belongs together.

    Args:
        synthetic_folder: written by `trcgl synthesize`.
        dataset_folder: the real dataset it was drawn for.
        auditor_run: a finished run, calibrated by `trcgl evaluate`.
        generator_folder: the generator; None takes that of which the synthetic folder tells.

    Raises:
        DataError: something does not belong to the rest; the message says what to do.
        CheckpointError: generator or auditor are missing or damaged.
    """
    dataset = open_dataset(Path(dataset_folder))
    dataset.require_images()
    synthetic = open_synthetic(Path(synthetic_folder), dataset).dataset
    provenance = read_provenance(synthetic.folder)
    provenance = (
        synthetic.manifest.sort("row").select("image_id").join(provenance, on="image_id", maintain_order="left")
    )
    generator = generator_of(synthetic, dataset, generator_folder)
    auditor, separation, unchecked = open_auditor(Path(auditor_run), dataset, synthetic)
    same = storage.read_json(Path(auditor_run) / "run.json")["dataset_digest"] == _digest(dataset)
    own = half_of(dataset, auditor.info["training_patient_digest"]) if same else None
    return Inputs(synthetic, provenance, dataset, auditor, generator, separation, unchecked, own)


def generator_of(synthetic: Dataset, dataset: Dataset, given: Path | None = None) -> Generator:
    """Load the generator that drew a synthetic folder, so that it draws as it did.

    Args:
        synthetic: drawn for the dataset.
        dataset: the real one.
        given: the generator; None takes that of which the synthetic folder tells.

    Raises:
        DataError: it is not where it was, or another one drew the images.
        CheckpointError: it is missing or damaged.
    """
    generator = open_generator(_generator_folder(synthetic, given), dataset)
    if generator.info["digest"] != synthetic.info["synthetic"]["generator"]:
        raise DataError(
            f"{synthetic.folder} was drawn by another generator ({synthetic.info['synthetic']['generator'][:12]}) than "
            f"this one ({generator.info['digest'][:12]}). Name the one that drew it with --generator."
        )
    generator.context.restrict(generation_record(synthetic)["options"].get("prompt", "learned"))
    return generator


def open_auditor(where: Path, dataset: Dataset, synthetic: Dataset) -> tuple[LoadedModel, list[str], list[str]]:
    """Load an independent classifier.

    Args:
        where: its run folder.
        dataset: the real one, whose val and test patients it must not have learned from.
        synthetic: drawn and screened for it.

    Returns:
        The model; what is known about the patients it learned from; and what could not be checked.

    Raises:
        DataError: it is not finished or not calibrated, learned from drawn images or from patients that it must not
            know, or its findings or images are made otherwise.
        CheckpointError: its model folder is missing or damaged.
    """
    info = storage.read_json(where / "run.json")
    if "finished" not in info:
        raise DataError(f"{where} is not finished. Run the same `trcgl train` command again; it resumes.")
    if info.get("synthetic"):
        raise DataError(
            f"{where} was trained with drawn images, so it knows how a generator draws a finding. Audit with a run "
            "that was trained on real images alone."
        )
    model = load_model(where / "model", device=best_device())
    if model.space.findings != dataset.space.findings or model.space.normal != dataset.space.normal:
        raise DataError(
            f"{where} recognizes {', '.join(model.space.findings)}; {dataset.folder} has "
            f"{', '.join(dataset.space.findings)}. They must be the same, in the same order."
        )
    if model.fit != dataset.info["fit"]:
        raise DataError(
            f"{dataset.folder} was prepared with --fit {dataset.info['fit']}, the images of {where} with {model.fit}. "
            "Audit with a run whose images were made square in the same way."
        )
    if model.thresholds is None or model.temperature is None:
        raise DataError(f"{where} has no thresholds yet. Run `trcgl evaluate {where} --split val` first.")
    if info["dataset_digest"] == _digest(dataset):
        separation, unchecked = _on_the_same(where, model, dataset, synthetic)
    else:
        separation, unchecked = _on_another(where, info, model, dataset)
    return model, separation, unchecked


def _on_the_same(where: Path, model: LoadedModel, dataset: Dataset, synthetic: Dataset) -> tuple[list[str], list[str]]:
    own = half_of(dataset, model.info["training_patient_digest"])
    if own is None:
        raise DataError(
            f"{where} was not trained on train patients of {dataset.folder}, or not on these: it may have learned from "
            "held-out patients. Train an auditor on this dataset."
        )
    seen = "all train patients" if own == "none" else f"the {own} half of the train patients"
    separation = [
        f"The auditor learned from {seen} of the dataset; its epoch, temperature and thresholds were chosen on val."
    ]
    about = synthetic.info["synthetic"]
    if about["screener"] is None:
        return [*separation, "No classifier screened the images."], []
    folder = synthetic.folder / about.get("screener_folder", "")
    try:
        screener = load_model(Path(os.path.normpath(folder.resolve())) / "model")
    except TrcglError:  # moved, damaged or removed: then it is said instead
        screener = None
    if screener is None or screener.info["weights_sha256"] != about["screener"]:
        return separation, [
            "The run that screened the images is not where it was: whether it shares patients with the auditor could "
            "not be checked."
        ]
    other = half_of(dataset, screener.info["training_patient_digest"])
    if own == other or "none" in (own, other):
        raise DataError(
            f"{where} was trained on patients that the classifier learned from which screened {synthetic.folder}: it "
            f"would favor what that one let through. {_HALVES}"
        )
    return [*separation, f"The classifier that screened learned from the {other} half: they share no patient."], []


def _on_another(where: Path, info: dict[str, Any], model: LoadedModel, dataset: Dataset) -> tuple[list[str], list[str]]:
    folder = Path(os.path.normpath(where.resolve() / info["dataset"]))
    try:
        own = open_dataset(folder)
        same = _digest(own) == info["dataset_digest"]
    except DataError:
        same = False
    if not same:
        return ["The auditor was trained on another dataset."], [
            "The dataset of the auditor is not where it was, or is another now: whether it shares patients with this "
            "dataset could not be checked."
        ]
    which = half_of(own, model.info["training_patient_digest"])
    if which is None:
        raise DataError(f"{where} was not trained on the train patients of its dataset, {folder}. Train it again.")
    for split in dataset.manifest["split"].unique().sort():
        refuse_overlap(own, dataset, split)
    patients = half(own, which)["patient_id"].n_unique()
    told = f"The auditor learned from {patients:,} patients of another dataset, {own.name}"
    if own.info["source"] == dataset.info["source"]:
        return [f"{told}; none of its patients or images is in this one."], []
    return [f"{told}; none of its images is in this one."], [
        f"{own.name} and {dataset.name} come from different archives, whose patient identifiers mean nothing to each "
        "other: the same person may be in both."
    ]


def _digest(dataset: Dataset) -> str:
    return storage.sha256_file(dataset.folder / "dataset.json")


def _generator_folder(synthetic: Dataset, given: Path | None) -> Path:
    if given is not None:
        return Path(given)
    told = synthetic.info["synthetic"].get("generator_folder")
    folder = Path(os.path.normpath(synthetic.folder.resolve() / told)) if told else None
    if folder is None or not folder.is_dir():
        raise DataError(
            f"the generator of {synthetic.folder} is not {f'at {folder} any more' if told else 'recorded there'}. "
            "Name it: --generator GENERATOR."
        )
    return folder
