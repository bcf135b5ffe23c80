"""Open the generator and the screener of a dataset; refuse what does not belong together before sampling starts."""

from pathlib import Path

from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.patient_halves import half_of
from trcgl.dataset.store import Dataset
from trcgl.generate import folder
from trcgl.generate.pipeline import Generator
from trcgl.model.folder import LoadedModel
from trcgl.model.run_folder import open_run


def open_generator(where: Path, dataset: Dataset) -> Generator:
    """Load a generator that was trained on the dataset."""
    generator = folder.load(where)
    check_findings(generator.space, dataset, f"{where} generates")
    check_train_patients(where, generator.info["training_patient_digest"], dataset)
    return generator


def check_train_patients(where: Path, training_patient_digest: str, dataset: Dataset) -> None:
    """Refuse a generator whose training patients, by the digest in `generator.json`, are not the dataset's."""
    if half_of(dataset, training_patient_digest) != "none":
        raise DataError(
            f"{where} was not trained on the train patients of {dataset.folder}: it may have seen patients of its val "
            "or test split, and synthetic images would carry them into training. Train a generator on this dataset."
        )


def open_screener(where: Path, dataset: Dataset) -> LoadedModel:
    """Load the classifier of a run that was trained on the real training rows of the dataset, or on a half of them."""
    run = open_run(where)
    if run.info.get("synthetic"):
        raise DataError(
            f"{where} was trained with synthetic images, so it would recognize the generator rather than the finding. "
            "Screen with a run that was trained on real images alone."
        )
    model = run.model
    check_findings(model.space, dataset, f"{where} recognizes")
    if model.fit != dataset.info["fit"]:
        raise DataError(
            f"{dataset.folder} was prepared with --fit {dataset.info['fit']}, the images of {where} with {model.fit}. "
            "Screen with a run that was trained on this dataset."
        )
    if half_of(dataset, model.info["training_patient_digest"]) is None:
        raise DataError(
            f"{where} was not trained on the train patients of {dataset.folder}: if it saw val patients, its scores on "
            "val are too high to screen by. Screen with a run that was trained on this dataset."
        )
    return model


def check_findings(space: LabelSpace, dataset: Dataset, who: str) -> None:
    """Refuse a label space that differs from the dataset's; `who` starts the sentence: "RUN recognizes"."""
    own = dataset.space
    if space.findings != own.findings or space.normal != own.normal:
        raise DataError(
            f"{who} {', '.join(space.findings)}; {dataset.folder} has {', '.join(own.findings)}. They must be the "
            "same, in the same order, with the same normal label."
        )
