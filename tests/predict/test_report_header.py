"""Headers of radiographs that break the standard, and what a structured report takes from them."""

import io

import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from tests.model.small_run import PATIENT, study_file, write_run
from trcgl.core.errors import DataError
from trcgl.predict.options import PredictOptions
from trcgl.predict.predict import predict_to
from trcgl.predict.report_header import read_header

hd = pytest.importorskip("highdicom", reason="DICOM SR needs highdicom")

ONE = PredictOptions(workers=1)
NAME = "Müller^Jörg"
LATIN_1, UTF_8 = NAME.encode("latin-1"), NAME.encode()
EMPTY = "{} is no {} and is left empty"
SEX = "sex that DICOM defines (M, F, O)"
UNKNOWN = "SpecificCharacterSet {}, so PatientName is read as Latin-1"


def stored(path, **raw):
    """A radiograph whose elements hold these bytes, valid or not."""
    dataset = pydicom.dcmread(io.BytesIO(study_file(1, 7, StudyTime="101112")))
    for keyword, value in raw.items():
        tag = Tag(keyword)
        padded = value + b" " * (len(value) % 2)
        kind = pydicom.datadict.dictionary_VR(tag)
        # pydicom decodes and encodes what is not ASCII.
        ascii_only = padded if padded.isascii() else b"@" * len(padded)
        dataset[tag] = RawDataElement(tag, kind, len(padded), ascii_only, 0, False, True)
    dataset.save_as(path)
    content = path.read_bytes()
    for value in raw.values():
        if not value.isascii():
            padded = value + b" " * (len(value) % 2)
            content = content.replace(b"@" * len(padded), padded)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("raw", "expected", "notes"),
    [
        ({}, {**PATIENT, "StudyDate": "20260102", "StudyTime": "101112"}, []),
        ({"StudyDate": b"2024.01.31"}, {"StudyDate": "20240131"}, []),
        ({"StudyTime": b"10:11:12"}, {"StudyTime": "101112"}, []),
        ({"PatientSex": b"f"}, {"PatientSex": "F"}, []),
        *(
            ({"PatientBirthDate": value}, {"PatientBirthDate": ""}, [EMPTY.format("PatientBirthDate", "date")])
            for value in (b"00000000", b"00/00/0000", b"1970-01-01", b"20230230", b"unknown")
        ),
        ({"StudyTime": b"25"}, {"StudyTime": ""}, [EMPTY.format("StudyTime", "time")]),
        ({"PatientSex": b"unknown"}, {"PatientSex": ""}, [EMPTY.format("PatientSex", SEX)]),
        ({"PatientName": UTF_8}, {"PatientName": NAME}, []),
        ({"PatientName": LATIN_1, "SpecificCharacterSet": b"ISO_IR 100"}, {"PatientName": NAME}, []),
        ({"PatientName": LATIN_1, "SpecificCharacterSet": b"ISO-IR 100"}, {"PatientName": NAME}, []),
        ({"PatientName": UTF_8, "SpecificCharacterSet": b"ISO_IR 192"}, {"PatientName": NAME}, []),
        ({"PatientName": LATIN_1}, {"PatientName": NAME}, [UNKNOWN.format("is missing")]),
        (
            {"PatientName": LATIN_1, "SpecificCharacterSet": b"ISO 2022 IR 6, IS"},
            {"PatientName": NAME},
            [UNKNOWN.format("names no character set that exists")],
        ),
        ({"PatientID": b"X" * 80}, {"PatientID": "X" * 80}, []),
        ({"PatientName": b"A" * 80}, {"PatientName": "A" * 80}, []),
        ({"AccessionNumber": b"A" * 30}, {"AccessionNumber": "A" * 30}, []),
        ({"PatientAge": b"45"}, {"PatientAge": "45"}, []),
        ({"StudyInstanceUID": b"1.02.3"}, {"StudyInstanceUID": "1.02.3"}, []),
        ({"PixelSpacing": b"0,1\\0,1"}, {}, []),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore")
def test_a_report_holds_what_can_be_read_and_leaves_the_rest_empty(raw, expected, notes, run, tmp_path):
    path = stored(tmp_path / "a.dcm", **raw)
    assert list(read_header(path, "a.dcm").notes) == notes
    _, _, reports = predict_to(tmp_path / "s.csv", run, [path], ONE, sr=tmp_path / "sr")
    assert reports.notes == tuple(("a.dcm", note) for note in notes)
    (written,) = reports.written
    report = hd.sr.srread(written)
    assert report.SpecificCharacterSet == "ISO_IR 192"
    assert {keyword: str(report[keyword].value or "") for keyword in expected} == expected


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
@pytest.mark.parametrize("value", [b"MRN-4711/x", b"1..2", b"1." + b"2" * 70])
def test_an_identifier_that_is_none_is_named_without_its_value(keyword, value, tmp_path):
    path = stored(tmp_path / "a.dcm", **{keyword: value})
    with pytest.raises(DataError, match=f"^a.dcm: no SR, as {keyword} is no DICOM UID") as error:
        read_header(path, "a.dcm")
    assert value.decode() not in str(error.value)


@pytest.mark.filterwarnings("ignore")
def test_an_element_that_a_report_cannot_be_written_with_is_named(run, tmp_path, monkeypatch):
    path = stored(tmp_path / "a.dcm", PatientAge=b"forty-five")
    create = hd.sr.ComprehensiveSR

    def strict(evidence, **more):
        if evidence[0].get("PatientAge"):
            raise ValueError("forty-five")
        return create(evidence, **more)

    monkeypatch.setattr(hd.sr, "ComprehensiveSR", strict)
    _, _, reports = predict_to(tmp_path / "s.csv", run, [path], ONE, sr=tmp_path / "sr")
    ((name, reason),) = reports.failed
    assert (name, reason) == (
        "a.dcm",
        "a.dcm: no SR, as PatientAge breaks the DICOM standard. Correct it in the archive and export again.",
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))
