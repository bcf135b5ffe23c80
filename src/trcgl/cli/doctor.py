"""`trcgl doctor` on the command line."""

from pathlib import Path

from trcgl.cli.verb import Done, Verb, plain


def doctor(*, folder: Path = Path()) -> Done:
    """What this machine has, what it lacks, and what to do about it.

    Args:
        folder: Where datasets and runs are to go: the free space of its disk is told.
    """
    from trcgl.doctor import doctor as stage

    told = stage.doctor(folder)
    return Done(told, stage.in_words(told))


VERB = Verb(
    "What this machine has, what it lacks, and what to do about it.",
    "trcgl doctor --folder /data",
    plain(doctor),
)
