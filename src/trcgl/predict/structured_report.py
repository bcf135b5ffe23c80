"""DICOM Structured Reports of scores (Comprehensive SR, template TID 1500, PS3.16).

A report inherits the patient and study modules of its source image, so it is the only file of trcgl with identifiers
of a patient. Each finding is a measurement group with the calibrated probability, whether it reaches the
threshold, the algorithm (TID 4019) and the source images. The document is unverified, preliminary and partial, and says
that it is for research use only.
"""

import copy
import hashlib
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from trcgl import __version__
from trcgl.core import storage
from trcgl.core.errors import DataError, TrcglError
from trcgl.core.notice import RESEARCH_USE
from trcgl.core.progress import track
from trcgl.model.views import FLIP
from trcgl.predict.inputs import Inputs
from trcgl.predict.report_header import read_header
from trcgl.predict.scores import Scores

if TYPE_CHECKING:
    from highdicom.sr import AlgorithmIdentification, MeasurementsAndQualitativeEvaluations
    from pydicom.dataset import Dataset

NEEDS_DICOM = (
    "a DICOM SR needs the patient and study of a DICOM file; PNG and JPEG files have neither. Leave out these files or "
    "--sr."
)
SCHEME = "99TRCGL"
"""Coding scheme of the findings; code values are the names in the label space."""


@dataclass(frozen=True)
class Reports:
    """The structured reports of one command."""

    written: tuple[Path, ...] = ()
    """One file per row, including those of an interrupted command."""
    failed: tuple[tuple[str, str], ...] = ()
    """image_id or study_id of each row without a report, and the reason."""
    notes: tuple[tuple[str, str], ...] = ()
    """image_id of each radiograph whose report differs from its header, and how; one per element."""


def check_reports(folder: Path, inputs: Inputs, *, by_study: bool, resuming: bool) -> None:
    """Check, before anything is scored, that reports can be written."""
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise DataError("a DICOM SR needs highdicom. Run: pip install 'trcgl-net[dicom]'") from error
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file. Name a new folder with --sr.")
    if folder.is_dir() and any(folder.iterdir()) and not resuming:
        raise DataError(f"{folder} is not empty. Name a new folder with --sr.")
    if by_study and inputs.studies is None:
        return  # named by digests
    names = dict.fromkeys(inputs.studies.values() if by_study and inputs.studies else inputs.files)
    seen: dict[Path, str] = {}
    for name in names:
        path = report_path(folder, name)
        if path in seen:
            raise DataError(f"{name!r} and {seen[path]!r} would have the same file in {folder}. Rename one of them.")
        seen[path] = name


def report_path(folder: Path, name: str) -> Path:
    """File of the report of an image_id or study_id; always below the folder, whatever the name."""
    parts = [re.sub(r"[^\w.+-]", "_", part) for part in PurePosixPath(name).parts if part not in ("/", "..")]
    *above, last = parts or ["_"]
    return Path(folder).joinpath(*above, f"{last}.sr.dcm")


def write_reports(scores: Scores, files: Mapping[str, Path], folder: Path) -> Reports:
    """Write one report per row with scores; existing reports are kept, and subfolders follow the image_ids."""
    written, failed, notes = [], [], []
    key = "study_id" if scores.by_study else "image_id"
    rows = zip(scores.members, scores.table.iter_rows(named=True), strict=True)
    for members, row in track(rows, total=len(scores.members), what="writing DICOM SR"):
        if not members:  # refused
            continue
        path = report_path(folder, row[key])
        if not path.exists():
            try:
                headers = {image: read_header(files[image], image) for image in members}
                content = _encoded([read.header for read in headers.values()], row, scores)
            except TrcglError as error:
                failed.append((row[key], str(error)))
                continue
            notes += [(image, note) for image, read in headers.items() for note in read.notes]
            with storage.atomic(path) as aside:
                aside.write_bytes(content)
        written.append(path)
    return Reports(tuple(written), tuple(failed), tuple(notes))


def _encoded(sources: Sequence["Dataset"], row: Mapping[str, Any], scores: Scores) -> bytes:
    """The bytes of a report.

    Raises:
        DataError: it cannot be written; names the element that is the cause, but not its value, which may identify a
            patient.
    """
    name = row["study_id"] if scores.by_study else row["image_id"]
    if len({(source.PatientID, source.StudyInstanceUID) for source in sources}) > 1:
        why = "its images are of several patients or DICOM studies. Fuse by another column."
        raise DataError(f"{name}: no SR, as {why}")
    try:
        return _bytes_of(sources, row, scores)
    except Exception:
        causes = [keyword for keyword in _inherited(sources[0]) if _is_cause(keyword, sources, row, scores)]
    what = f"{', '.join(causes)} breaks" if causes else "its patient or study elements break"
    raise DataError(f"{name}: no SR, as {what} the DICOM standard. Correct it in the archive and export again.")


def _inherited(source: "Dataset") -> list[str]:
    """Elements that a report takes from its source, except the identifiers that it cannot do without."""
    needed = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
    return [element.keyword for element in source if element.keyword and element.keyword not in needed]


def _is_cause(keyword: str, sources: Sequence["Dataset"], row: Mapping[str, Any], scores: Scores) -> bool:
    """Whether the report can be written without one element."""
    without = copy.deepcopy(list(sources))
    for source in without:
        if keyword in source:
            source[keyword].value = None
    try:
        _bytes_of(without, row, scores)
    except Exception:
        return False
    return True


def _bytes_of(sources: Sequence["Dataset"], row: Mapping[str, Any], scores: Scores) -> bytes:
    import highdicom as hd
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    scheme = CodingSchemeIdentificationItem(SCHEME, name="Findings of the trcgl label space")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = hd.sr.ComprehensiveSR(
            evidence=sources,
            content=_content(sources, row, scores),
            series_instance_uid=hd.UID(),
            series_number=1,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="trcgl",
            manufacturer_model_name="TRCGL-Net",
            software_versions=__version__,
            device_serial_number=scores.weights_sha256[:16],
            series_description=RESEARCH_USE,
            coding_schemes=[scheme],
            specific_character_set="ISO_IR 192",
        )
        content = io.BytesIO()
        report.save_as(content)
    return content.getvalue()


def _content(sources: Sequence["Dataset"], row: Mapping[str, Any], scores: Scores) -> "Dataset":
    from highdicom import sr
    from pydicom.sr.codedict import codes

    # A UID derived from 128 bits (PS3.5 B.2) that is the same for the same weights.
    uid = f"2.25.{int(hashlib.sha256(scores.weights_sha256.encode()).hexdigest()[:32], 16)}"
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=uid, name="trcgl", manufacturer_name="trcgl", model_name="TRCGL-Net"
    )
    names = dict.fromkeys(model["name"] for model in scores.models)
    parameters = [f"weights SHA-256 {model['weights_sha256']}" for model in scores.models]
    parameters.append(f"calibrated: {'yes' if scores.calibrated else 'no'}")
    parameters.append(f"mirror image averaged: {'yes' if FLIP in scores.tta else 'no'}")
    if (fitted := scores.fitted) is not None:
        weights = ", ".join(f"{weight:.3g}" for weight in fitted.weights)
        parameters.append(f"ensemble: weights {weights}; copies {', '.join(fitted.tta) or 'none'}")
        parameters.append(f"ensemble: studies {fitted.fusion.name}; temperature {fitted.temperature:.4g}")
    algorithm = sr.AlgorithmIdentification(
        name="trcgl " + " + ".join(names), version=__version__, parameters=parameters
    )
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device)),
        procedure_reported=sr.CodedConcept("399208008", "SCT", "Plain chest X-ray"),
        imaging_measurements=[_group(finding, row, sources, algorithm) for finding in scores.findings],
    )
    notice = sr.TextContentItem(codes.DCM.Comment, RESEARCH_USE, sr.RelationshipTypeValues.CONTAINS)
    report[0].ContentSequence.append(notice)
    return report[0]


def _group(
    finding: str, row: Mapping[str, Any], sources: Sequence["Dataset"], algorithm: "AlgorithmIdentification"
) -> "MeasurementsAndQualitativeEvaluations":
    from highdicom import sr
    from pydicom.sr.codedict import codes

    reached = row[f"positive/{finding}"]
    answer = codes.SCT.Yes if reached else codes.SCT.No
    reaches = sr.CodedConcept("reaches", SCHEME, "Reaches the threshold")
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(identifier=finding),
        finding_type=sr.CodedConcept(finding, SCHEME, finding[:64]),
        algorithm_id=algorithm,
        measurements=[sr.Measurement(codes.DCM.Probability, round(row[f"score/{finding}"], 6), codes.UCUM.NoUnits)],
        qualitative_evaluations=[] if reached is None else [sr.QualitativeEvaluation(reaches, answer)],
        source_images=[
            sr.SourceImageForMeasurementGroup(source.SOPClassUID, source.SOPInstanceUID) for source in sources
        ],
    )
