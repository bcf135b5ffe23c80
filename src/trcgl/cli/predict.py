"""`trcgl predict`, as the command line has it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from trcgl.cli.verb import Chosen, Done, Verb, say_uncalibrated
from trcgl.core.errors import DataError
from trcgl.core.notice import RESEARCH_USE

if TYPE_CHECKING:
    from trcgl.predict.scores import Scores

EXAMPLE = "trcgl predict run scans/ --out scores.csv"


def predict(arguments: list[str]) -> Chosen:
    """The command of `trcgl predict`."""
    import tyro

    from trcgl.predict.options import PredictOptions

    shared = Annotated[PredictOptions, tyro.conf.arg(name="")]
    default = PredictOptions()

    def command(
        run: Path,
        paths: tuple[Path, ...],
        /,
        *,
        out: Path | None = None,
        format: Literal["csv", "parquet", "json"] | None = None,
        sr: Path | None = None,
        options: shared = default,
    ) -> Done:
        if out is None and format == "parquet":
            raise DataError("Parquet cannot be printed. Name a file with --out.")
        if out is None and sr is not None:
            raise DataError(
                "--sr needs --out: what was scored is kept beside it, so that an interruption loses little."
            )

        from trcgl.predict import predict as stage
        from trcgl.predict.scores import as_text

        if out is None:
            scores = stage.predict(run, paths, options)
            _say(scores, run)
            return Done(scores.to_dict(), as_text(scores, "json" if format == "json" else "csv").rstrip("\n"))
        scores, files, reports = stage.predict_to(out, run, paths, options, format=format, sr=sr)
        _say(scores, run)
        for name, reason in reports.failed:
            print(f"no SR: {name}: {reason.removeprefix(f'{name}: ')}", file=sys.stderr)
        what = "studies" if scores.by_study else "images"
        lost = scores.unreadable.height
        told = f"{scores.table.height:,} {what} scored, {lost:,} {'file' if lost == 1 else 'files'} unreadable: "
        told += ", ".join(map(str, files))
        result = scores.to_dict() | {"files": [str(one) for one in files]}
        if sr is not None:
            told += f"\n{len(reports.written):,} DICOM SR, {len(reports.failed):,} not possible: {sr}"
            failed = [{"name": name, "reason": reason} for name, reason in reports.failed]
            result["reports"] = {"written": [str(one) for one in reports.written], "failed": failed}
        return Done(result, told)

    command.__doc__ = """Calibrated scores for files and folders; unreadable files are listed and the rest is done.

    Args:
        run: A run folder, or a model folder.
        paths: Files (PNG, JPEG, DICOM), and folders that are searched in any depth; or one table of paths
            (.csv, .csv.gz, .tsv, .parquet).
        out: The table to write (.csv, .parquet, .json); without it CSV goes to stdout. After an interruption the
            same command goes on.
        format: Overrules the ending of --out.
        sr: Folder for a DICOM SR of every row. It holds the patient and study data of the DICOM files.
    """
    return command, arguments, None


def _say(scores: "Scores", run: Path) -> None:
    print(RESEARCH_USE, file=sys.stderr)
    if scores.of_phantoms:
        print("Trained on phantoms, not patients: the scores say nothing about a real chest.", file=sys.stderr)
    if not scores.calibrated:
        say_uncalibrated(run)
    if len(scores.models) > 1 or scores.tta or scores.by_study:
        print(
            "Thresholds were fitted on single images and models. These scores are means, of which fewer reach them.",
            file=sys.stderr,
        )
    if scores.tta and not scores.knows_mirrored:
        print(
            "--tta: the model was trained without mirror images, which look to it like hearts on the right.",
            file=sys.stderr,
        )
    for image, reason in scores.unreadable.iter_rows():
        print(f"unreadable: {image}: {reason}", file=sys.stderr)


VERB = Verb(
    "Calibrated scores for files, folders and tables of paths.",
    EXAMPLE,
    predict,
)
