"""The settings of `trcgl predict`."""

from dataclasses import dataclass
from pathlib import Path

from trcgl.core.errors import Reason, RecipeError
from trcgl.imaging.file_process import SECONDS


@dataclass(frozen=True)
class PredictOptions:
    """How radiographs are found, read and scored."""

    ensemble: tuple[Path, ...] = ()
    """Further run or model folders with the same findings; calibrated scores are averaged with those of RUN."""
    tta: bool = False
    """Average over each radiograph and its mirror image (flip test-time augmentation). Refused for an ensemble folder,
    which stores its test-time augmentation."""
    by_study: bool = False
    """One row per study (StudyInstanceUID of the DICOM files): the mean of the calibrated scores of its images. Always
    on for an ensemble folder with --fusion, which fuses the scores of a study as in its evaluation."""
    path_column: str = "path"
    """Column of file paths if PATH is a table."""
    study_column: str | None = None
    """Column of study names if PATH is a table; scores are averaged by study."""
    root: Path | None = None
    """Folder that relative paths of a table start from; default: the folder of the table."""
    batch_size: int | None = None
    """Images per batch; default: 64 on a GPU, 8 per CPU otherwise."""
    workers: int = 0
    """Number of decoding processes; 0: one per CPU. With `--cluster slurm`: number of workers to submit jobs for."""
    cluster: str | None = None
    """Dask cluster that reads and scores the files on its CPUs: the address of its scheduler (tcp://host:8786), a
    scheduler file, or slurm. The scores are those of one machine without a GPU."""
    identifiers: bool = False
    """Add the UIDs and the accession number of DICOM files to the table. They identify the examination."""
    accept: tuple[Reason, ...] = ()
    """Score files that are refused for these reasons: blank, for-processing (raw detector values), body-part
    (not the chest), modality (not radiography)."""
    seconds: float = SECONDS
    """Longest time to decode one file, in seconds; a slower file is listed as unreadable."""

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise RecipeError(f"--batch-size {self.batch_size}: give a number above 0.")
        if self.workers < 0:
            raise RecipeError(f"--workers {self.workers}: give 0 or more.")
        if not self.seconds > 0:
            raise RecipeError(f"--seconds {self.seconds}: give a number above 0.")
