"""An entry for CXR-LT 2026: a zip of one table of probabilities and a folder `code/`.

trcgl predict run PADCHEST --list CXRLT_2026_TEST_ALL_TASK1.csv --submission entry.zip
"""

import dataclasses
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from trcgl import __version__
from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.dataset.image_files import ImageFiles
from trcgl.dataset.sources.cxr_lt_2026 import CLASSES, class_names, listed_images
from trcgl.model.ensemble import load_ensemble
from trcgl.predict.options import PredictOptions
from trcgl.predict.predict import predict
from trcgl.predict.scores import Scores

_BY_STUDY = "--submission has a row per image, and these scores are of studies. Leave --by-study out."
_SHOWN = 3  # images that a message names


@dataclass(frozen=True)
class TestList:
    """The images to score, in the order of the list.

    Args:
        path: list of the challenge.
        column: its column of images, which is the first of the submission.
        images: names of the images.
        classes: columns of probabilities, in the order of `Train_CLASS.txt` beside the list; None: those of the model.
    """

    path: Path
    column: str
    images: tuple[str, ...]
    classes: tuple[str, ...] | None


def read_list(path: Path, paths: Sequence[Path]) -> TestList:
    """Read a list of the challenge and look for each of its images below the one folder in `paths`.

    Raises:
        DataError: the list cannot be read, `paths` is not one folder, or images are missing.
    """
    if len(paths) != 1 or not Path(paths[0]).is_dir():
        raise DataError("--list: name the one folder that holds its images, for instance: trcgl predict RUN PADCHEST")
    column, images = listed_images(path)
    files = ImageFiles(Path(paths[0]))
    missing = [image for image in images if files.find(image)[1]]
    if missing:
        names = ", ".join(missing[:_SHOWN])
        raise DataError(
            f"{path}: {len(missing):,} of {len(images):,} images are not below {paths[0]}, such as {names}. A "
            "submission needs every image of the list: add the files (the lists name images of several archives)."
        )
    classes = path.with_name(CLASSES)
    return TestList(path, column, tuple(images), class_names(classes) if classes.is_file() else None)


def submit(
    out: Path, model: Path, listed: TestList, paths: Sequence[Path], options: PredictOptions | None = None
) -> tuple[Scores, Path]:
    """Score the images of a list and write the zip of `write_submission`.

    Args:
        out: the zip file; it must not exist.
        model: as in `predict`.
        listed: the list.
        paths: the folder of the images.
        options: as in `predict`.

    Raises:
        DataError: `out` exists, or as in `predict` and `write_submission`.
    """
    if out.exists():
        raise DataError(f"{out} is there already. Choose another --submission, or remove it yourself.")
    options = options or PredictOptions()
    how = dataclasses.replace(options, path_column=listed.column, root=Path(paths[0]))
    ensemble = load_ensemble([model, *options.ensemble], device="cpu")
    _classes(listed, ensemble.findings)  # refuse before hours of scoring
    if options.by_study:
        raise DataError(_BY_STUDY)
    recipes = [json.dumps(member.info["recipe"], indent=2) + "\n" for member in ensemble.members]
    scores = predict(model, [listed.path], how)
    return scores, write_submission(listed, scores, recipes, storage.command(), out)


def write_submission(listed: TestList, scores: Scores, recipes: Sequence[str], command: str, out: Path) -> Path:
    """Write the zip; it appears whole or not at all.

    Args:
        listed: the list.
        scores: scores of its images.
        recipes: recipe of each model, as JSON.
        command: the command that made the scores.
        out: the zip file.

    Raises:
        DataError: the model does not score a class, or an image has no finite probability.
    """
    classes = _classes(listed, scores.findings)
    if scores.by_study:
        raise DataError(_BY_STUDY)
    columns = [f"score/{name}" for name in classes]
    rows = pl.DataFrame({"image_id": listed.images}).join(
        scores.table.select("image_id", "reason", *columns), on="image_id", how="left", maintain_order="left"
    )
    values = rows.select(pl.col(columns).cast(pl.Float64).fill_null(np.nan)).to_numpy()
    bare = ~np.isfinite(values).all(axis=1)
    if bare.any():
        image = rows["image_id"][int(bare.argmax())]
        why = {**dict(scores.refused.iter_rows()), **dict(scores.unreadable.iter_rows())}.get(image, "no score")
        raise DataError(
            f"{int(bare.sum()):,} of {rows.height:,} images have no probability, such as {image}: {why}. A submission "
            "needs every image of the list; see --accept, or replace the files."
        )
    table = pl.DataFrame({listed.column: rows["image_id"]}).hstack(
        [rows[f"score/{name}"].alias(name) for name in classes]
    )
    with storage.atomic(out) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("submission.csv", table.write_csv(float_precision=6))
        archive.writestr("code/README.md", _readme(scores, command))
        archive.writestr("code/requirements.txt", f"trcgl-net=={__version__}\n")
        for place, recipe in enumerate(recipes, 1):
            archive.writestr(f"code/recipe-{place}.json", recipe)
    return out


def _classes(listed: TestList, findings: Sequence[str]) -> Sequence[str]:
    """The classes of the submission; DataError if the model does not score one of them."""
    classes = listed.classes or findings
    if unknown := [name for name in classes if name not in findings]:
        raise DataError(
            f"the model has no finding {unknown[0]!r}, a class of {listed.path.with_name(CLASSES)}; it has "
            f"{', '.join(findings)}. Train on the dataset of `trcgl prepare cxr-lt-2026`."
        )
    return classes


def _readme(scores: Scores, command: str) -> str:
    models = "\n".join(f"- {model['name']}: weights SHA-256 {model['weights_sha256']}" for model in scores.models)
    return (
        "# How these probabilities were made\n\n"
        "    pip install -r requirements.txt\n"
        "    trcgl prepare cxr-lt-2026 --root PADCHEST --out cxr-lt-2026 --size 512\n"
        "    trcgl train cxr-lt-2026 --recipe recipe-1.json --out run   # once for each recipe\n"
        "    trcgl evaluate run\n"
        f"    {command}\n\n"
        "Models, whose probabilities were averaged if there are several:\n\n"
        f"{models}\n\n"
        "Research use only. Not a medical device.\n"
    )
