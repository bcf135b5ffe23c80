"""`trcgl predict`: calibrated scores per image or study of files, folders or a table of paths.

    trcgl predict runs/nih scans/ --out scores.csv

Files that cannot be read are listed with their reasons, and all others are scored.
"""

import dataclasses
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from trcgl.core import storage
from trcgl.core.cluster import connect
from trcgl.core.errors import DataError, RecipeError
from trcgl.core.progress import track
from trcgl.imaging.identifiers import KEYWORDS
from trcgl.model.ensemble import Ensemble, load_ensemble
from trcgl.model.folder import best_device
from trcgl.model.fusion import Fusion, fuse
from trcgl.model.views import FLIP
from trcgl.predict.batches import File, Scoring
from trcgl.predict.inputs import find_inputs, fingerprint, refuse_pictures
from trcgl.predict.journal import Batch, Journal
from trcgl.predict.options import PredictOptions
from trcgl.predict.scores import Format, Scores, check_out, journal_of, rows_by_study, score_table, write_scores
from trcgl.predict.structured_report import NEEDS_DICOM, Reports, check_reports, write_reports


def predict(model: Path, paths: Sequence[Path], options: PredictOptions | None = None) -> Scores:
    """Score radiographs.

    Args:
        model: a run folder, the model folder in it, or an ensemble folder.
        paths: files, and folders searched in any depth except for hidden files; or one table.
        options: how radiographs are read and scored.

    Returns:
        One row per readable file, or per study. A file that is not accepted has no scores, but a reason. The image_id
        of a file is its path below the given folder, below the common folder of several paths, or as written in the
        table.

    Raises:
        CheckpointError: a model folder is missing or damaged, or the models have different findings.
        DataError: a path does not exist, a table does not match the options, files without a study are to be fused by
            study, or no file can be read.
        RecipeError: an ensemble folder is given with `tta` or `ensemble`.
    """
    return _Command(model, paths, options or PredictOptions()).scores(Journal(None, {}, ()))


def predict_to(
    out: Path,
    model: Path,
    paths: Sequence[Path],
    options: PredictOptions | None = None,
    *,
    format: Format | None = None,
    sr: Path | None = None,
) -> tuple[Scores, list[Path], Reports]:
    """Score radiographs into a file; after an interruption the same call resumes.

    Args:
        out: the table to write; it must not exist. Scores are kept in `<out>.partial` until it is written.
        model: as in `predict`.
        paths: as in `predict`.
        options: as in `predict`.
        format: None takes the format from the extension of `out`.
        sr: folder for one DICOM SR per row, new or empty; None writes none.

    Returns:
        The scores, the files of the table, and the structured reports.

    Raises:
        DataError: as in `predict`; or `out` exists or is written by another process, `<out>.partial` is damaged, `sr`
            is not empty, or reports are to be made of PNG or JPEG files.
        RecipeError: `<out>.partial` has other settings, or files have changed since.
    """
    out = Path(out)
    check_out(out, format)
    command = _Command(model, paths, options or PredictOptions())
    files = command.inputs.files
    if sr is not None:
        check_reports(sr, command.inputs, by_study=command.by_study, resuming=journal_of(out).exists())
        refuse_pictures(files.items(), NEEDS_DICOM)
    settings = {**command.settings(), "sr": None if sr is None else str(sr)}
    with closing(Journal(journal_of(out), settings, list(files))) as journal:
        scores = command.scores(journal)
        reports = Reports() if sr is None else write_reports(scores, files, sr)
        written = write_scores(scores, out, format)
        journal.remove()
    return scores, written, reports


class _Command:
    """One call of `predict`: its inputs, models and settings."""

    def __init__(self, model: Path, paths: Sequence[Path], options: PredictOptions) -> None:
        self.options = options
        self.inputs = find_inputs(paths, options)
        # Workers of a cluster score on CPUs, as devices of several kinds would give other bytes.
        self.device = best_device() if options.cluster is None else "cpu"
        # Activations of eight images fit into the cache of a core.
        self.batch_size = options.batch_size or (64 if self.device == "cuda" else 8)
        self.folders = [model, *options.ensemble]
        self.models = load_ensemble(self.folders, device=self.device)
        if options.tta and self.models.combination is not None:
            raise RecipeError(
                f"--tta: {model} is an ensemble, which stores its test-time augmentation. Leave --tta out."
            )
        self.by_study = options.by_study or options.study_column is not None or self.models.fuses
        self.of_dicom = self.by_study and self.inputs.studies is None
        if self.of_dicom:
            images = f"evaluate the runs of {model} without --fusion" if self.models.fuses else "leave --by-study out"
            why = f"PNG and JPEG files name no study. Give a table with --study-column, or {images}."
            refuse_pictures(self.inputs.files.items(), why)

    def settings(self) -> dict[str, Any]:
        """Everything that decides the bytes of the result."""
        studies, members = self.inputs.studies, self.models.members
        # Left out for equal sizes, so that journals of trcgl 0.1.0, which read files at the network's size, resume.
        resized = {"shapes": self.models.shapes} if any(model.shape[0] != model.image_size for model in members) else {}
        identified: dict[str, Any] = {"identifiers": True} if self.options.identifiers else {}
        if (fitted := self.models.combination) is not None:
            identified |= {"ensemble": dataclasses.asdict(fitted)}
        identified |= {"accept": sorted(self.options.accept)} if self.options.accept else {}
        return (
            resized
            | identified
            | {
                "models": self.models.identity,
                "tta": self.options.tta,
                "by_study": self.by_study,
                "batch_size": self.batch_size,
                "device": self.device,
                "files": storage.digest([fingerprint(name, path) for name, path in self.inputs.files.items()]),
                "studies": storage.digest([f"{name}\0{study}" for name, study in studies.items()]) if studies else None,
            }
        )

    def scores(self, journal: Journal) -> Scores:
        """Score the files that the journal does not hold yet."""
        files = list(self.inputs.files.items())[journal.done :]
        with closing(self._batches(files)) as batches:
            names = (name for batch in batches for name in self._kept(batch, journal))
            for _ in track(names, total=len(files), what="scoring radiographs", unit="images"):
                pass
        if not any(batch.image_ids for batch in journal.batches):
            journal.remove()  # nothing to resume from
            unreadable = [file for batch in journal.batches for file in batch.unreadable]
            raise DataError(f"not one of {len(unreadable)} files can be read, the first because: {unreadable[0][1]}")
        return collected(self.models, journal.batches, by_study=self.by_study, tta=self.options.tta)

    def _batches(self, files: Sequence[File]) -> Generator[Batch, None, None]:
        options = self.options
        accept = self.models.accept.union(options.accept)
        scoring = Scoring(self.batch_size, options.tta, self.of_dicom, options.identifiers, options.seconds, accept)
        if options.cluster is None or not files:
            lanes = 1 if self.device == "cuda" else torch.get_num_threads()
            yield from scoring.here(self.models, files, workers=options.workers, lanes=lanes)
        else:
            with connect(options.cluster, options.workers) as client:
                yield from scoring.on(client, self.models, self.folders, files)

    def _kept(self, batch: Batch, journal: Journal) -> list[str]:
        """The names of a batch after it was added to the journal, with the studies of a table."""
        if studies := self.inputs.studies:
            batch = dataclasses.replace(batch, studies=[studies[name] for name in batch.image_ids])
        journal.add(batch)
        return batch.names


def collected(models: Ensemble, batches: Sequence[Batch], *, by_study: bool, tta: bool) -> Scores:
    """The calibrated scores of all batches, per image or fused by study.

    An ensemble folder says how studies are fused. Otherwise, or if it was fitted on images, their calibrated scores are
    averaged.
    """
    ids = [name for batch in batches for name in batch.image_ids]
    unreadable = [file for batch in batches for file in batch.unreadable]
    refused = {name: reason for batch in batches for name, reason in batch.refused.items()}
    nothing = [np.nan] * len(models.findings)
    scores = np.array([row or nothing for batch in batches for row in batch.scores], np.float32)
    scores = scores.reshape(-1, len(models.findings))
    rows = [[place] for place in range(len(ids))]
    if not models.fuses:
        scores = models.calibrated(scores)
    if by_study:
        studies = rows_by_study([str(study) for batch in batches for study in batch.studies])
        rows = list(studies.values())
        fusion = Fusion() if models.combination is None else models.combination.fusion
        scores = fuse(scores, rows, fusion.weights(models.findings))
    if models.fuses:
        scores = models.calibrated(scores)
    scored = [[place for place in row if ids[place] not in refused] for row in rows]
    members = [tuple(ids[place] for place in row) for row in scored]
    if by_study:
        names = {
            "study_id": pl.Series(list(studies), dtype=pl.String),
            "images": pl.Series(list(map(len, members)), dtype=pl.Int64),
            "image_ids": pl.Series(list(map("|".join, members)), dtype=pl.String),
        }
        why = [[f"{ids[place]}: {refused[ids[place]]}" for place in row if ids[place] in refused] for row in rows]
        reasons = ["|".join(texts) or None for texts in why]
    else:
        names = {"image_id": pl.Series(ids, dtype=pl.String)}
        reasons = [refused.get(name) for name in ids]
    if found := [identifiers or {} for batch in batches for identifiers in batch.identifiers]:
        for key in KEYWORDS:
            values = [
                dict.fromkeys(value for place in kept or row if (value := found[place].get(key)))
                for row, kept in zip(rows, scored, strict=True)
            ]
            names[key] = pl.Series(["|".join(value) or None for value in values], dtype=pl.String)
    thresholds = models.thresholds
    return Scores(
        findings=models.findings,
        table=score_table(names, scores, models.findings, thresholds, reasons),
        unreadable=pl.DataFrame(unreadable, {"image_id": pl.String, "reason": pl.String}, orient="row"),
        refused=pl.DataFrame(list(refused.items()), {"image_id": pl.String, "reason": pl.String}, orient="row"),
        calibrated=thresholds is not None,
        weights_sha256=models.weights_sha256,
        models=tuple(models.identity),
        tta=(FLIP,) if tta else () if models.combination is None else models.combination.tta,
        fitted=models.combination,
        knows_mirrored=models.knows_mirrored,
        of_phantoms=models.of_phantoms,
        members=tuple(members),
    )
