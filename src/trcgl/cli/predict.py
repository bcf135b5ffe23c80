"""The verb `predict`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trcgl.cli.verb import NEVER_MIRRORED, Chosen, Done, Verb, say_uncalibrated
from trcgl.core.errors import DataError
from trcgl.core.notice import RESEARCH_USE

if TYPE_CHECKING:
    from trcgl.predict.scores import Scores


def predict(arguments: list[str]) -> Chosen:
    """The command of `trcgl predict`."""
    from trcgl.predict.options import PredictOptions

    def command(
        run: Path,
        paths: tuple[Path, ...],
        /,
        *,
        out: Path | None = None,
        format: Literal["csv", "parquet", "json"] | None = None,
        sr: Path | None = None,
        list: Path | None = None,
        submission: Path | None = None,
        options: PredictOptions,
    ) -> Done:
        if (list is None) != (submission is None):
            raise DataError("--list and --submission belong together: the images to score, and the zip to write.")
        if list is not None and submission is not None:
            if out is not None or sr is not None:
                raise DataError("--submission writes a zip of its own. Leave --out and --sr out.")
            from trcgl.predict.submission import read_list, submit

            listed = read_list(list, paths)
            scores, entry = submit(submission, run, listed, paths, options)
            _warn(scores, run)
            result = {"submission": str(entry), "images": len(listed.images), "findings": [*scores.findings]}
            return Done(result, f"{len(listed.images):,} images scored: {entry}")
        if out is None and format == "parquet":
            raise DataError("Parquet cannot be printed. Name a file with --out.")
        if out is None and sr is not None:
            raise DataError("--sr needs --out, which also keeps the scores so far after an interruption.")

        from trcgl.predict import predict as stage
        from trcgl.predict.scores import as_text

        if out is None:
            scores = stage.predict(run, paths, options)
            _warn(scores, run)
            return Done(scores.to_dict(), as_text(scores, "json" if format == "json" else "csv").rstrip("\n"))
        scores, files, reports = stage.predict_to(out, run, paths, options, format=format, sr=sr)
        _warn(scores, run)
        for name, note in reports.notes:
            print(f"SR: {name}: {note}", file=sys.stderr)
        for name, reason in reports.failed:
            print(f"no SR: {name}: {reason.removeprefix(f'{name}: ')}", file=sys.stderr)
        rows, unreadable = "studies" if scores.by_study else "images", scores.unreadable.height
        unread = f"{unreadable:,} {'file' if unreadable == 1 else 'files'} unreadable"
        if refused := scores.refused.height:
            unread = f"{refused:,} {'file' if refused == 1 else 'files'} not accepted, {unread}"
        scored = sum(map(bool, scores.members))
        lines = [f"{scored:,} {rows} scored, {unread}: {', '.join(map(str, files))}"]
        result = scores.to_dict() | {"files": [str(path) for path in files]}
        if sr is not None:
            lines.append(f"{len(reports.written):,} DICOM SR, {len(reports.failed):,} not possible: {sr}")
            failed = [{"name": name, "reason": reason} for name, reason in reports.failed]
            notes = [{"name": name, "note": note} for name, note in reports.notes]
            result["reports"] = {"written": [str(path) for path in reports.written], "failed": failed, "notes": notes}
        return Done(result, "\n".join(lines))

    command.__doc__ = """Write calibrated scores for files and folders; files without scores are listed with the reason.

    Args:
        run: A run folder, a model folder, or an ensemble folder of `trcgl evaluate RUN RUN --out`.
        paths: Files (PNG, JPEG, DICOM) and folders, which are searched in any depth; or one table of paths
            (.csv, .csv.gz, .tsv, .parquet).
        out: Table to write (.csv, .parquet, .json); default: CSV on stdout. After an interruption the same command
            resumes.
        format: Format of the table; default: from the extension of --out.
        sr: Folder for one DICOM SR per row. The reports hold the patient and study data of the DICOM files.
        list: List of a challenge, such as CXRLT_2026_TEST_ALL_TASK1.csv, whose images are scored; they are looked for
            by name below the one folder that is given.
        submission: Zip to write for CXR-LT 2026. It contains `submission.csv`, with the images in the order of the
            list, and the folder `code/`.
    """
    return command, arguments, None


def _warn(scores: "Scores", run: Path) -> None:
    from trcgl.model.views import FLIP

    print(RESEARCH_USE, file=sys.stderr)
    if scores.of_phantoms:
        print("Trained on phantoms, not patients: the scores do not apply to a real chest.", file=sys.stderr)
    if not scores.calibrated:
        say_uncalibrated(run)
    if scores.are_means:
        notice = "The thresholds were fitted on single images and models. These scores are means, so fewer reach them."
        print(notice, file=sys.stderr)
    if FLIP in scores.tta and not scores.knows_mirrored:
        print(NEVER_MIRRORED, file=sys.stderr)
    for image, reason in scores.refused.iter_rows():
        print(f"not accepted: {image}: {reason}", file=sys.stderr)
    for image, reason in scores.unreadable.iter_rows():
        print(f"unreadable: {image}: {reason}", file=sys.stderr)


VERB = Verb(
    "Write calibrated scores for files, folders and tables of paths.",
    "trcgl predict run scans/ --out scores.csv",
    predict,
)
