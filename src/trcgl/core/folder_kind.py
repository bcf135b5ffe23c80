"""The kind of a folder, so that a verb that is given the wrong one can say which verb fits."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trcgl.core.errors import DataError, TrcglError


@dataclass(frozen=True)
class Kind:
    """A kind of folder."""

    name: str  # with its article
    marker: str  # a file that every finished folder of this kind has
    made_by: str  # the verb that writes it
    use: str  # what to do with such a folder; `{}` stands for its path


DATASET = Kind("a dataset folder", "dataset.json", "trcgl prepare", "trcgl train {} --out RUN")
SYNTHETIC = Kind(
    "a synthetic folder", "dataset.json", "trcgl synthesize", "trcgl train DATASET --synthetic {} --out RUN"
)
RUN = Kind("a run folder", "run.json", "trcgl train", "trcgl evaluate {}")
ENSEMBLE = Kind("an ensemble", "ensemble.json", "trcgl evaluate RUN RUN --out", "trcgl predict {} FILES")
MODEL = Kind("an exported model", "model.json", "trcgl export", "trcgl predict {} FILES")
GENERATOR = Kind(
    "a generator", "generator.json", "trcgl train-generator", "trcgl synthesize {} --dataset DATASET --out SYNTHETIC"
)
STUDY = Kind("a study", "study.json", "trcgl study", "open {}/study.html")
AUDIT = Kind("an audit", "audit.json", "trcgl audit", "open {}/audit.html")


def kind_of(folder: Path) -> Kind | None:
    """The kind of a folder that trcgl wrote, by its files; None for any other folder."""
    folder = Path(folder)
    kinds = (STUDY, AUDIT, GENERATOR, DATASET, RUN, ENSEMBLE, MODEL)  # a generator has a run.json as well
    found = next((kind for kind in kinds if (folder / kind.marker).is_file()), None)
    if found is DATASET and (folder / "provenance.parquet").is_file():
        return SYNTHETIC
    if found is RUN:
        with suppress(OSError, ValueError):
            if "autoencoder" in json.loads((folder / "recipe.json").read_text(encoding="utf-8")):
                return GENERATOR
    return found


def expect(folder: Path, *kinds: Kind, error: type[TrcglError] = DataError) -> None:
    """Refuse a folder of another kind than `kinds`; the message says what it is and which verb fits.

    Raises:
        TrcglError: of the class `error`, if the folder does not exist or is of another kind.
    """
    found = kind_of(folder)
    if found in kinds:
        return
    wanted = " or ".join(kind.name for kind in kinds)
    advice = f"`{kinds[0].made_by}` makes {kinds[0].name}"
    if found:
        use = found.use.format(folder)
        raise error(f"{folder} is {found.name}, not {wanted}. {advice}; to use {found.name}: `{use}`.")
    if Path(folder).is_dir():
        missing = f"it has no {' or '.join(kind.marker for kind in kinds)}"
        raise error(f"{folder} is a folder that trcgl did not write or finish, not {wanted}: {missing}. {advice}.")
    problem = "is a file" if Path(folder).exists() else "no such file or folder"
    raise error(f"{folder}: {problem}. Give {wanted}; {advice}.")
