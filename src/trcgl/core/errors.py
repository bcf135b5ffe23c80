"""Errors that a user can meet. Each message names the file or row, the cause and the remedy."""

from collections.abc import Mapping
from typing import Literal, get_args


class TrcglError(Exception):
    """An error that the user can correct. The command line prints the message and exits with 2."""


class DataError(TrcglError):
    """A label table, manifest or dataset folder is invalid."""


class UnreadableImage(TrcglError):
    """An image file cannot be read; `prepare` and `predict` list it and continue."""


class TooLarge(UnreadableImage):
    """An image file has more bytes or pixels than the limit; it was not decoded."""


Reason = Literal["for-processing", "blank", "body-part", "modality"]
REASONS: tuple[Reason, ...] = get_args(Reason)
"""Reasons for which a readable file is refused; each can be accepted."""

MEANINGS: dict[Reason, str] = {
    "for-processing": "raw detector values",
    "blank": "a picture of one gray value",
    "body-part": "a body part other than the chest",
    "modality": "a modality other than CR, DX, DR or RG",
}
"""Each reason in words, for counts of refused files."""


class NotAccepted(UnreadableImage):
    """A readable image file that is not what a model of chest radiographs expects, for instance of another body part.

    Args:
        reason: one of `REASONS`; a caller that accepts this reason reads the file.
        study: digest of the StudyInstanceUID of a DICOM file, where it was requested.
        identifiers: UIDs and accession number of a DICOM file, where they were requested.
    """

    def __init__(
        self,
        message: str,
        reason: str,
        *,
        study: str | None = None,
        identifiers: Mapping[str, str | None] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason, self.study, self.identifiers = reason, study, identifiers


class RecipeError(TrcglError):
    """A setting is unknown, contradictory, or differs from that of an existing output folder."""


class Diverged(RecipeError):
    """Training reached a loss, gradient or score that is not finite; a repetition would, too."""


class CheckpointError(TrcglError):
    """Weights or a checkpoint are missing, damaged, untrusted or of another shape."""


class Interrupted(Exception):
    """Work was stopped by a signal after its state was saved; the command line exits with 128 + `signal`."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal
