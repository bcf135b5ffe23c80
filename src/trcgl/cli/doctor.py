"""The verb `doctor`."""

from pathlib import Path

from trcgl.cli.verb import Done, plain


def doctor(*, folder: Path = Path()) -> Done:
    """Check the hardware, Python packages and image decoders of this machine, and print remedies.

    Args:
        folder: Folder for datasets and runs; the free space of its disk is reported.
    """
    from trcgl.doctor import doctor as stage

    report = stage.doctor(folder)
    return Done(report, stage.as_text(report))


VERB = plain(doctor, "trcgl doctor --folder /data")
