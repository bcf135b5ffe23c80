"""`evaluate`, `compare` and `predict`."""

import sys
from pathlib import Path
from typing import Any, Literal

from trcgl.core.errors import DataError
from trcgl.verbs.verb import NOTICE, Done


def evaluate(run: Path, /, *, split: Literal["test", "val"] = "test", dataset: Path | None = None) -> Done:
    """Judge a finished run, with patient-level intervals and a report.

    Args:
        run: A finished run folder.
        split: The split to judge. Choose between recipes on val; open test once.
        dataset: Another dataset folder: external validation on the findings that both have.
    """
    from trcgl.core.run import read_json
    from trcgl.model.evaluate import evaluate_run

    told = evaluate_run(run, split=split, dataset=dataset)
    name = split if dataset is None else f"{read_json(dataset / 'dataset.json')['name']}-{split}"
    page = run / ("report.html" if name == "test" else f"report-{name}.html")
    rows = [("", "findings", "mAP [95 %]", "mAUC [95 %]")]
    for group, means in (("overall", told["overall"]), *told["groups"].items()):
        rows.append((group, str(means["mAP"]["findings"]), _figure(means["mAP"]), _figure(means["mAUC"])))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    title = f"{name}: {told['images']:,} images of {told['patients']:,} patients"
    return Done(told, "\n".join([title, *table, f"report: {page}"]))


def _figure(metric: dict[str, Any]) -> str:
    if metric["value"] is None:
        return metric["why"]
    return f"{metric['value']:.4f}" + (" [{:.4f}, {:.4f}]".format(*metric["ci"]) if metric["ci"] else "")


def compare(runs: tuple[Path, ...], /, *, split: Literal["test", "val"] = "test") -> Done:
    """Paired patient-bootstrap differences between evaluated runs.

    Args:
        runs: Two run folders or more; the first is the reference.
        split: The split whose predictions are compared.
    """
    from trcgl.evaluate.compare import compare, markdown

    told = compare(runs, split)
    return Done(told, markdown(told))


def predict(
    run: Path,
    paths: tuple[Path, ...],
    /,
    *,
    out: Path | None = None,
    format: Literal["csv", "parquet", "json"] | None = None,
    batch_size: int = 64,
    workers: int = 0,
) -> Done:
    """Calibrated scores for files and folders; unreadable files are listed and the rest is done.

    Args:
        run: A run folder, or a model folder.
        paths: Files (PNG, JPEG, DICOM), and folders that are searched in any depth.
        out: The table to write (.csv, .parquet, .json); without it CSV goes to stdout.
        format: Overrules the ending of --out.
        batch_size: Images that are scored at once.
        workers: Threads that decode; 0 takes one per CPU.
    """
    from trcgl.use.predict import as_text, check_out, predict, write_scores

    if out is None and format == "parquet":
        raise DataError("Parquet cannot be printed. Name a file with --out.")
    if out is not None:
        check_out(out, format)
    scores = predict(run, paths, batch_size=batch_size, workers=workers)
    print(NOTICE, file=sys.stderr)
    if not scores.calibrated:
        print(f"not calibrated, no thresholds: run `trcgl evaluate {run}` first for both.", file=sys.stderr)
    for image, reason in scores.unreadable.iter_rows():
        print(f"unreadable: {image}: {reason}", file=sys.stderr)
    if out is None:
        return Done(scores.to_dict(), as_text(scores, "json" if format == "json" else "csv").rstrip("\n"))
    files = [str(one) for one in write_scores(scores, out, format)]
    told = f"{scores.table.height:,} images scored, {scores.unreadable.height:,} unreadable: {', '.join(files)}"
    return Done(scores.to_dict() | {"files": files}, told)
