"""The few errors that a user can meet. Each message names the file or row, what is wrong and what to do."""


class TrcglError(Exception):
    """Something the user can put right. The command line prints the message and exits with 2."""


class DataError(TrcglError):
    """A label table, manifest or dataset folder is not what it should be."""


class UnreadableImage(TrcglError):
    """One image file cannot be read; `prepare` and `predict` list it and go on."""


class TooLarge(UnreadableImage):
    """An image file has more bytes or pixels than the limit; it was not decoded."""


class RecipeError(TrcglError):
    """A setting is unknown, contradictory, or not what an existing output folder was made with."""


class Diverged(RecipeError):
    """Training reached a loss, a gradient or a score that is not finite; it would do so again."""


class CheckpointError(TrcglError):
    """Weights or a checkpoint are missing, damaged, untrusted or of another shape."""


class Interrupted(Exception):
    """Work was stopped by a signal after its state was saved; the command line exits with 128 + `signal`."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal
