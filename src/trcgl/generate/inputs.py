"""Generator, dataset and screening classifier belong together, or drawing is refused before it begins."""

from pathlib import Path

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.patient_halves import half_of
from trcgl.dataset.store import Dataset
from trcgl.generate import folder
from trcgl.generate.pipeline import Generator
from trcgl.model.folder import LoadedModel, best_device, load_model


def open_generator(where: Path, dataset: Dataset) -> Generator:
    """Load a generator that was trained on the dataset.

    Raises:
        CheckpointError: the folder is missing, half-written or damaged.
        DataError: its findings are others, or it may have learned from val or test patients.
    """
    generator = folder.load(where)
    _same_findings(generator.space, dataset, f"{where} draws")
    check_train_patients(where, dataset)
    return generator


def check_train_patients(where: Path, dataset: Dataset) -> None:
    """Refuse a generator folder that was not trained on the train patients of the dataset.

    Raises:
        DataError: it was not.
    """
    if storage.read_json(Path(where) / "generator.json")["training_patient_digest"] not in _train_digests(dataset):
        raise DataError(
            f"{where} was not trained on the train patients of {dataset.folder}: it may have seen patients of its val "
            "or test split, and what it draws would carry them into training. Train a generator on this dataset."
        )


def open_screener(where: Path, dataset: Dataset) -> LoadedModel:
    """Load a classifier that was trained on the real training rows of the dataset, or on a half of its train patients.

    Args:
        where: a run folder.
        dataset: the real one.

    Raises:
        DataError: the run is not finished, its findings or images are made otherwise than the dataset's, or it was
            trained on other patients or on drawn images.
        CheckpointError: its model folder is missing or damaged.
    """
    info = storage.read_json(where / "run.json")
    if "finished" not in info:
        raise DataError(f"{where} is not finished. Run the same `trcgl train` command again; it resumes.")
    if info.get("synthetic"):
        raise DataError(
            f"{where} was trained with drawn images, so it would recognize what a generator draws rather than the "
            "finding. Screen with a run that was trained on real images alone."
        )
    model = load_model(where / "model", device=best_device())
    _same_findings(model.space, dataset, f"{where} recognizes")
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


def _same_findings(space: LabelSpace, dataset: Dataset, who: str) -> None:
    own = dataset.space
    if space.findings != own.findings or space.normal != own.normal:
        raise DataError(
            f"{who} {', '.join(space.findings)}; {dataset.folder} has {', '.join(own.findings)}. They must be the "
            "same, in the same order, with the same normal label."
        )


def _train_digests(dataset: Dataset) -> set[str]:
    """Of the training patients that take part, and of all of them."""
    return {
        storage.digest(dataset.split("train", with_none=with_none)["patient_id"].unique().to_list())
        for with_none in (False, True)
    }
