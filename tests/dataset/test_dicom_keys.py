import pytest

from tests.dataset.sources.test_table import table
from trcgl.core.errors import DataError
from trcgl.dataset.sources.table import Options, read


def dicom(path, accession, study, sop, pixels=True):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    image = pydicom.Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", sop
    image.StudyInstanceUID, image.AccessionNumber = study, accession
    if pixels:
        image.Rows, image.Columns, image.SamplesPerPixel = 24, 24, 1
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)


@pytest.fixture
def studies(tmp_path):
    """Two studies: one of two images and a report, one of a single image; and a file that is no DICOM."""
    dicom(tmp_path / "a" / "1.dcm", "A1", "1.2.1", "1.2.1.1")
    dicom(tmp_path / "a" / "2.dcm", "A1", "1.2.1", "1.2.1.2")
    dicom(tmp_path / "a" / "sr.dcm", "A1", "1.2.1", "1.2.1.3", pixels=False)
    dicom(tmp_path / "b" / "IM0001", "A2", "1.2.2", "1.2.2.1")
    (tmp_path / "b" / "notes").write_text("no DICOM")
    return tmp_path


@pytest.mark.parametrize(
    ("key", "one", "two", "files"),
    [
        ("accession", "A1", "A2", ["a/1.dcm", "a/2.dcm", "b/IM0001"]),
        ("study", "1.2.1", "1.2.2", ["a/1.dcm", "a/2.dcm", "b/IM0001"]),
        ("sop", "1.2.1.2", "1.2.2.1", ["a/2.dcm", "b/IM0001"]),
    ],
)
def test_rows_may_name_images_by_an_element_of_their_headers(studies, key, one, two, files):
    root = table(studies, f"image,patient,A,B\n{one},1,1,0\n{two},2,0,1\nnothing,3,0,0\n")
    found = read(root, Options(finding_columns=("A", "B"), image_key=key))
    assert found.rows["path"].to_list() == found.rows["image_id"].to_list() == files
    assert found.rows["patient_id"].to_list() == ["1"] * (len(files) - 1) + ["2"]
    assert found.rows["A"].to_list() == [1] * (len(files) - 1) + [0]
    assert found.dropped["image_id"].to_list() == ["nothing"] and "no DICOM image" in found.dropped["reason"][0]
    if key != "sop":
        assert found.rows["study_id"].to_list() == [one, one, two]


def test_headers_without_the_element_are_named(studies):
    for path in studies.rglob("*.dcm"):
        path.unlink()
    (studies / "b" / "IM0001").unlink()
    root = table(studies, "image,patient,A,B\nA1,1,1,0\n")
    with pytest.raises(DataError, match="no DICOM image with AccessionNumber"):
        read(root, Options(finding_columns=("A", "B"), image_key="accession"))
