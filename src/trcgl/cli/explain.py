"""The verb `explain`."""

import sys
from pathlib import Path
from typing import Any, Literal

from trcgl.cli.verb import Done, plain, say_uncalibrated
from trcgl.core.errors import DataError, Reason
from trcgl.core.lock import locked
from trcgl.core.notice import RESEARCH_USE


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
    accept: tuple[Reason, ...] = (),
) -> Done:
    """Show where the model looked: overlays for files and folders, or a gallery of an evaluated split.

    Args:
        run: A run folder, or a model folder.
        paths: Files (PNG, JPEG, DICOM) and folders of files; or one dataset folder for the gallery of its split.
        out: Folder to write; the same command again starts over.
        maps: Kind of the maps; `best`: attention if the head has it and uses it, else Grad-CAM.
        findings: Findings to map; default: positive findings first, then the highest scores.
        top: Number of findings to map per radiograph; in a gallery, examples per finding and outcome.
        images: With a dataset folder: show maps and labels of the images with these names, instead of the gallery.
        split: With a dataset folder: evaluated split to show in the gallery.
        accept: Explain files that are refused for these reasons: blank, for-processing (raw detector values),
            body-part (not the chest), modality (not radiography).
    """
    from trcgl.dataset.store import open_dataset
    from trcgl.model.run_folder import open_run
    from trcgl.predict.explain import explain, of_files, of_rows, open_model
    from trcgl.predict.gallery import gallery
    from trcgl.predict.inputs import find_files, fingerprint

    kind = None if maps == "best" else maps
    datasets = [path for path in paths if (path / "dataset.json").is_file()]
    if datasets and len(paths) > 1:
        raise DataError(f"{datasets[0]} is a dataset folder. Give it alone, or files and folders of radiographs.")
    if images and not datasets:
        raise DataError("--images names images of a dataset. Give a dataset folder, or the files themselves.")
    if datasets and not images:
        evaluated, dataset = open_run(run), open_dataset(datasets[0])
        print(RESEARCH_USE, file=sys.stderr)
        with locked(out):
            document = gallery(evaluated, dataset, out, split=split, kind=kind, findings=findings, each=top)
        examples = document["examples"]
        count = f"{len(examples)} examples of {len({example['finding'] for example in examples})} findings"
        return Done(document, f"{count}\npage: {out / document['page']}")
    model = open_model(run)
    print(RESEARCH_USE, file=sys.stderr)
    if not datasets:
        files = find_files(paths)
        inputs = [fingerprint(name, path) for name, path in files.items()]
        cases = of_files(model, files, accept)
        with locked(out):
            document = explain(model, cases, inputs, out, kind=kind, findings=findings, top=top)
        return _explained(document, run, out)
    dataset = open_dataset(datasets[0])
    phantom = dataset.info["source"] == "phantom"
    cases = of_rows(model, dataset, images)
    inputs = [f"{dataset.name}/{image}" for image in dict.fromkeys(images)]
    with locked(out):
        document = explain(model, cases, inputs, out, kind=kind, findings=findings, top=top, phantom=phantom)
    return _explained(document, run, out)


def _explained(document: dict[str, Any], run: Path, out: Path) -> Done:
    if not document["calibrated"]:
        say_uncalibrated(run)
    for file in document["unreadable"]:
        print(f"unreadable: {file['image_id']}: {file['reason']}", file=sys.stderr)
    count = f"{len(document['images']):,} radiographs explained, {len(document['unreadable']):,} unreadable"
    return Done(document, f"{count}\npage: {out / document['page']}")


VERB = plain(explain, "trcgl explain run scans/ --out explained")
