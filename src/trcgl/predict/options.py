"""The settings of `trcgl predict`."""

from dataclasses import dataclass
from pathlib import Path

from trcgl.core.errors import RecipeError
from trcgl.imaging.file_process import SECONDS


@dataclass(frozen=True)
class PredictOptions:
    """How radiographs are found, read and scored."""

    ensemble: tuple[Path, ...] = ()
    """Further run or model folders of the same findings, whose calibrated scores are averaged with RUN's."""
    tta: bool = False
    """Average over each radiograph and its mirror image (flip test-time augmentation)."""
    by_study: bool = False
    """One row per study (StudyInstanceUID of the DICOM files): the mean of its images' calibrated scores."""
    path_column: str = "path"
    """Column of the files, where PATH is a table."""
    study_column: str | None = None
    """Column of the study, where PATH is a table; fuses by it."""
    root: Path | None = None
    """What relative paths of a table start from; by default the table's folder."""
    batch_size: int | None = None
    """Images that are scored at once, on the GPU where there is one; by default 64 there and 8 on each CPU."""
    workers: int = 0
    """Processes that decode; 0 takes one per CPU."""
    seconds: float = SECONDS
    """What decoding one file may take, before it is listed as unreadable."""

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise RecipeError(f"--batch-size {self.batch_size}: give a number above 0.")
        if self.workers < 0:
            raise RecipeError(f"--workers {self.workers}: give 0 or more.")
        if not self.seconds > 0:
            raise RecipeError(f"--seconds {self.seconds}: give a number above 0.")
