"""The verb `explain`: flags in, overlays and a page out."""

import sys
from pathlib import Path
from typing import Any, Literal

from trcgl.cli.verb import Done, Verb, plain, say_uncalibrated
from trcgl.core.errors import DataError
from trcgl.core.notice import RESEARCH_USE

EXAMPLE = "trcgl explain run scans/ --out explained"


def explain(
    run: Path,
    paths: tuple[Path, ...],
    /,
    *,
    out: Path,
    maps: Literal["best", "attention", "grad_cam"] = "best",
    findings: tuple[str, ...] = (),
    top: int = 4,
    images: tuple[str, ...] = (),
    split: Literal["test", "val"] = "test",
) -> Done:
    """Where the model looked: overlays for files and folders, or a gallery of a judged split.

    Args:
        run: A run folder, or a model folder.
        paths: Files (PNG, JPEG, DICOM) and folders of them; or one dataset folder for the gallery of its split.
        out: The folder to write; the same command again begins anew.
        maps: Attention of the head, Grad-CAM, or attention where the head has it and uses it.
        findings: Which findings to draw; by default those that the model calls, then the highest scores.
        top: How many findings to draw by default; in a gallery, examples of each finding and outcome.
        images: With a dataset folder: explain these images of it, beside their labels, instead of the gallery.
        split: With a dataset folder: the judged split that the gallery shows.
    """
    from trcgl.dataset.store import open_dataset
    from trcgl.predict.explain import explain, of_files, of_rows, open_model
    from trcgl.predict.inputs import find_files, fingerprint

    kind = None if maps == "best" else maps
    datasets = [one for one in paths if (one / "dataset.json").is_file()]
    if datasets and len(paths) > 1:
        raise DataError(f"{datasets[0]} is a dataset folder. Give it alone, or files and folders of radiographs.")
    if images and not datasets:
        raise DataError("--images names images of a dataset. Give a dataset folder, or the files themselves.")
    model = open_model(run)
    print(RESEARCH_USE, file=sys.stderr)
    if not datasets:
        files = find_files(paths)
        inputs = [fingerprint(name, path) for name, path in files.items()]
        told = explain(model, of_files(model, files), inputs, out, kind=kind, findings=findings, top=top)
        return _explained(told, run, out)
    dataset = open_dataset(datasets[0])
    if images:
        phantom = dataset.info["source"] == "phantom"
        shots = of_rows(model, dataset, images)
        inputs = [f"{dataset.name}/{one}" for one in dict.fromkeys(images)]
        told = explain(model, shots, inputs, out, kind=kind, findings=findings, top=top, phantom=phantom)
        return _explained(told, run, out)
    from trcgl.predict.gallery import gallery

    told = gallery(run, model, dataset, out, split=split, kind=kind, findings=findings, each=top)
    shown = len({one["finding"] for one in told["examples"]})
    return Done(told, f"{len(told['examples'])} examples of {shown} findings\npage: {out / told['page']}")


def _explained(told: dict[str, Any], run: Path, out: Path) -> Done:
    if not told["calibrated"]:
        say_uncalibrated(run)
    for one in told["unreadable"]:
        print(f"unreadable: {one['image_id']}: {one['reason']}", file=sys.stderr)
    count = f"{len(told['images']):,} radiographs explained, {len(told['unreadable']):,} unreadable"
    return Done(told, f"{count}\npage: {out / told['page']}")


VERB = Verb(
    "Where the model looked: overlays for files and folders, or a gallery of a judged split.",
    EXAMPLE,
    plain(explain),
)
