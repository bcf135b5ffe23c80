"""The answer to a study: scores as `trcgl predict --by-study` gives them, a structured report, and maps."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float

from trcgl.core.errors import DataError, UnreadableImage
from trcgl.imaging.file_process import ReadFile
from trcgl.imaging.isolated import Lost
from trcgl.imaging.radiograph import load_file
from trcgl.predict.journal import Batch
from trcgl.predict.map_capture import findings_to_map, map_capture, overlay_picture
from trcgl.predict.predict import collected
from trcgl.predict.report_header import read_header
from trcgl.predict.scores import Scores
from trcgl.predict.structured_report import write_reports
from trcgl.serve.engine import TrainedNetwork
from trcgl.serve.service import PREVIEW_SIDE, Service
from trcgl.serve.studies import Answer, Study


@dataclass(frozen=True)
class StudyScorer:
    """Scores studies with the decoders and the network of a running server, in turns with its HTTP requests."""

    service: Service
    network: TrainedNetwork
    maps: int
    """Number of findings per radiograph that get a map."""

    def __call__(self, study: Study) -> Answer:
        """Score a study.

        Raises:
            DataError: the disk is full.
            CheckpointError: a score is not finite.
        """
        read = dict(zip(study.files, self.service.decoders.threads.map(self._read, study.files.items()), strict=True))
        readable = {name: file for name, file in read.items() if isinstance(file, ReadFile)}
        batch = Batch(unreadable=[[name, reason] for name, reason in read.items() if isinstance(reason, str)])
        if readable:
            pictures = np.stack([file.pictures[0] for file in readable.values()])
            means = self.service.batcher.call(self.network.means, pictures)
            scores = self.network.models.calibrated(means)
            batch.image_ids.extend(readable)
            batch.studies.extend([study.name] * len(readable))
            batch.scores.extend(means.tolist())
            if self.service.options.identifiers:
                batch.identifiers.extend(file.identifiers for file in readable.values())
        scored = collected(self.network.models, [batch], by_study=True, tta=False)
        documents: dict[str, bytes] = {}
        reasons = [f"a file is not scored: {reason}" for _, reason in batch.unreadable]
        if readable and all(file.kind == "dicom" for file in readable.values()):
            self._report(scored, study, documents, reasons)
            if self.maps and documents:
                try:
                    documents |= self._captures(scored, readable, scores, study)
                except DataError as error:
                    reasons.append(_without_names(str(error), study))
        return Answer(scored.to_dict(), documents, reasons)

    def _read(self, file: tuple[str, Path]) -> ReadFile | str:
        """The radiograph, or the reason why it cannot be read."""
        (name, path), service = file, self.service
        preview = PREVIEW_SIDE if self.maps else None
        try:
            return service.read_content(load_file(path), name, preview=preview)
        except Lost as error:
            service.metrics.restarts.inc()
            return f"its decoder {error}. Copy it again, or leave it out."
        except UnreadableImage as error:
            return str(error).removeprefix(f"{path}: ").removeprefix(f"{name}: ")

    def _report(self, scores: Scores, study: Study, documents: dict[str, bytes], reasons: list[str]) -> None:
        with tempfile.TemporaryDirectory(prefix="trcgl-report-") as folder:
            reports = write_reports(scores, study.files, Path(folder))
            for path in reports.written:
                documents["report.sr.dcm"] = path.read_bytes()
        reasons.extend(f"structured report: {note}" for _, note in reports.notes)
        for _, reason in reports.failed:
            reasons.append(_without_names(reason, study))

    def _captures(
        self,
        scored: Scores,
        readable: Mapping[str, ReadFile],
        scores: Float[np.ndarray, "images findings"],
        study: Study,
    ) -> dict[str, bytes]:
        from pydicom.uid import generate_uid

        kind = "Attention map" if self.network.about["map_kind"] == "attention" else "Grad-CAM"
        thresholds, series = self.network.models.thresholds or {}, generate_uid(prefix=None)
        captures: dict[str, bytes] = {}
        for (name, read), row in zip(readable.items(), scores, strict=True):
            source = read_header(study.files[name], name).header
            grids = self.service.batcher.call(self.network.maps, read.pictures[0][None])[0]
            positive = [bool(row[place] >= thresholds.get(finding, 2)) for place, finding in enumerate(scored.findings)]
            for place in findings_to_map(row, positive, self.maps):
                caption = f"{kind}: {scored.findings[place]}, score {row[place]:.3f}"
                pixels, number = overlay_picture(read, grids[place], caption), len(captures) + 1
                capture = map_capture(source, pixels, description=caption, series=series, number=number)
                stream = BytesIO()
                capture.save_as(stream)
                captures[f"map-{number}.dcm"] = stream.getvalue()
        return captures


def _without_names(reason: str, study: Study) -> str:
    for name in (study.name, *study.files):
        reason = reason.removeprefix(f"{name}: ")
    return reason
