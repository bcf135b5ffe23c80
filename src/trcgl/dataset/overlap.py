"""Whether a dataset has images or patients on which a model was trained."""

from trcgl.core.errors import DataError
from trcgl.dataset.store import Dataset


def refuse_overlap(own: Dataset, other: Dataset, split: str) -> None:
    """Refuse to evaluate a model on the data that it was trained on.

    An image is recognized by the digest of its file. A patient is recognized by its identifier where both datasets come
    from the same archive; elsewhere the same identifier is another person.
    """
    seen = own.manifest.filter(own.manifest["split"].is_in(["train", "val"]))
    evaluated = other.manifest.filter(other.manifest["split"] == split)
    names = ["sha256"] if own.info["source"] != other.info["source"] else ["sha256", "patient_id"]
    for name in names:
        both = evaluated.filter(evaluated[name].is_in(seen[name].drop_nulls().unique().implode()))
        if both.height:
            what = "image" if name == "sha256" else "patient"
            raise DataError(
                f"{other.folder}: the {what} of {both['image_id'][0]!r} and {both.height - 1} more rows of {split} "
                "were used in training or selection. Evaluate on patients that the model has not seen."
            )
