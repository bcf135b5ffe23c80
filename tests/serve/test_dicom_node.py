"""Studies over the DICOM network, sent and received by dcmtk's programs."""

import json
import os

import pydicom
import pytest

pytest.importorskip("pynetdicom", reason="needs the extra `dicom-node`")

from tests.dataset.small_dataset import SPACE
from tests.model.small_run import PATIENT, study_file, write_run
from tests.serve.nodes import archive, arrived, echoes, free_port, needs_dcmtk, noded, send
from tests.serve.serving import until
from trcgl.core.errors import DataError
from trcgl.core.storage import read_json
from trcgl.predict.options import PredictOptions
from trcgl.predict.predict import predict
from trcgl.serve.metrics import resident_bytes

pytestmark = needs_dcmtk


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("node") / "run")


@pytest.fixture
def study(tmp_path):
    """Two radiographs of one study."""
    folder = tmp_path / "study"
    folder.mkdir()
    for image in (1, 2):
        (folder / f"{image}.dcm").write_bytes(study_file(image, 7))
    return folder


def test_a_study_comes_back_as_structured_report_with_the_scores_of_predict(run, study, tmp_path):
    received, out = tmp_path / "received", tmp_path / "out"
    with archive(received) as port, noded(run, send_to=f"ARCHIVE@127.0.0.1:{port}", out=out) as (node, service):
        assert echoes(node.dicom_port)
        assert send(node.dicom_port, *study.iterdir())[0] == 0
        (report,) = arrived(received)
        until(lambda: not service.metrics.text().count(b"trcgl_spool_files 1.0"))
        assert b'trcgl_studies_total{outcome="scored"} 1.0' in service.metrics.text()
    report = pydicom.dcmread(report)
    assert (report.Modality, report.StudyInstanceUID, report.PatientID) == ("SR", "1.2.7", PATIENT["PatientID"])
    scores = predict(run, [study], PredictOptions(by_study=True, workers=1))
    (folder,) = out.iterdir()
    (row,) = read_json(folder / "scores.json")["studies"]
    assert folder.name == row["study_id"] == scores.table["study_id"][0]
    expected = scores.table.row(0, named=True)
    assert row["scores"] == pytest.approx(
        {finding: expected[f"score/{finding}"] for finding in SPACE.findings}, abs=1e-5
    )
    assert len(row["image_ids"]) == 2
    assert "1.2.7" not in json.dumps(read_json(folder / "scores.json"))


def test_nothing_is_kept_after_the_answer_unless_asked(run, study, tmp_path):
    spool, keep, out = tmp_path / "spool", tmp_path / "keep", tmp_path / "out"
    with noded(run, spool=spool, out=out) as (node, _):
        send(node.dicom_port, study / "1.dcm")
        arrived(out, 2)
        until(lambda: not list(spool.rglob("*.dcm")))
    with noded(run, spool=spool, out=out, keep=keep) as (node, _):
        send(node.dicom_port, study / "1.dcm")
        (kept,) = arrived(keep)
    assert pydicom.dcmread(kept).SOPInstanceUID == "1.2.7.1.1"
    assert kept.parent.name == next(out.iterdir()).name.removesuffix("-2")


def test_the_temporary_spool_is_gone_after_the_stop(run, study, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    with noded(run, out=tmp_path / "out", quiet_seconds=60.0) as (node, _):
        send(node.dicom_port, study / "1.dcm")
        assert list((tmp_path / "tmp").rglob("*.dcm"))
    assert not list((tmp_path / "tmp").iterdir())


def test_a_study_in_the_spool_is_scored_after_a_restart(run, study, tmp_path):
    spool, out = tmp_path / "spool", tmp_path / "out"
    with noded(run, spool=spool, out=out, quiet_seconds=60.0) as (node, _):
        send(node.dicom_port, *study.iterdir())
    assert len(list(spool.rglob("*.dcm"))) == 2
    with noded(run, spool=spool, out=out):
        arrived(out, 2)
    (folder,) = out.iterdir()
    assert len(read_json(folder / "scores.json")["studies"][0]["image_ids"]) == 2


def test_a_radiograph_that_is_sent_twice_counts_once(run, study, tmp_path):
    with noded(run, out=tmp_path / "out") as (node, _):
        send(node.dicom_port, study / "1.dcm", study / "1.dcm")
        arrived(tmp_path / "out", 2)
    (folder,) = (tmp_path / "out").iterdir()
    assert len(read_json(folder / "scores.json")["studies"][0]["image_ids"]) == 1


def test_an_image_that_comes_late_is_answered_beside_the_first_answer(run, study, tmp_path):
    out = tmp_path / "out"
    with noded(run, out=out) as (node, _):
        for image in ("1.dcm", "2.dcm"):
            send(node.dicom_port, study / image)
            until(lambda: len(list(out.glob("*/scores.json"))) == int(image[0]))  # noqa: B023
    first, second = sorted(folder.name for folder in out.iterdir())
    assert second == f"{first}-2"


def test_a_file_that_cannot_be_read_is_named_and_the_rest_of_the_study_scored(run, study, tmp_path):
    cut = pydicom.dcmread(study / "2.dcm")
    cut.PixelData = cut.PixelData[:100]
    cut.save_as(study / "2.dcm")
    with noded(run, out=tmp_path / "out") as (node, service):
        send(node.dicom_port, *study.iterdir())
        arrived(tmp_path / "out", 2)
        send(node.dicom_port, study / "2.dcm")
        arrived(tmp_path / "out", 3)
        until(lambda: b'trcgl_studies_total{outcome="unreadable"} 1.0' in service.metrics.text())
    first, second = sorted((tmp_path / "out").glob("*/scores.json"))
    assert len(read_json(first)["unreadable"]) == len(read_json(first)["studies"]) == 1
    assert (len(read_json(second)["unreadable"]), read_json(second)["studies"]) == (1, [])


def test_identifiers_are_in_the_answer_where_asked(run, study, tmp_path):
    with noded(run, out=tmp_path / "out", identifiers=True) as (node, _):
        send(node.dicom_port, *study.iterdir())
        arrived(tmp_path / "out", 2)
    (row,) = read_json(next((tmp_path / "out").glob("*/scores.json")))["studies"]
    assert row["identifiers"]["study_instance_uid"] == "1.2.7"
    assert row["identifiers"]["accession_number"] == "ACC-99"
    assert set(row["identifiers"]["sop_instance_uid"].split("|")) == {"1.2.7.1.1", "1.2.7.1.2"}


def test_maps_come_back_as_secondary_capture_in_the_study(run, study, tmp_path):
    received = tmp_path / "received"
    with archive(received) as port, noded(run, send_to=f"ARCHIVE@127.0.0.1:{port}", maps=2) as (node, _):
        send(node.dicom_port, study / "1.dcm")
        documents = [pydicom.dcmread(path) for path in arrived(received, 3)]
    captures = [document for document in documents if document.SOPClassUID.name == "Secondary Capture Image Storage"]
    assert len(captures) == 2
    assert len({capture.SeriesInstanceUID for capture in captures}) == 1
    for capture in captures:
        assert (capture.StudyInstanceUID, capture.PatientID) == ("1.2.7", PATIENT["PatientID"])
        assert capture.SeriesDescription == "Research use only. Not a medical device."
        assert any(finding in capture.ImageComments for finding in SPACE.findings)
        pixels = capture.pixel_array
        assert pixels.shape[2] == 3 and (pixels[..., 0] != pixels[..., 1]).any()


def test_another_ae_title_is_rejected_and_the_right_one_served(run, study, tmp_path):
    with noded(run, out=tmp_path / "out", allow_ae=("MODALITY", "PACS 2")) as (node, _):
        code, said = send(node.dicom_port, study / "1.dcm", calling="STRANGER")
        assert code and "Calling AE Title Not Recognized" in said
        code, said = send(node.dicom_port, study / "1.dcm", called="OTHER")
        assert code and "Called AE Title Not Recognized" in said
        assert send(node.dicom_port, study / "1.dcm", calling="PACS 2")[0] == 0


def test_a_full_spool_refuses_with_status_a700_until_there_is_space(run, study, tmp_path):
    with noded(run, out=tmp_path / "out", spool_files=1, quiet_seconds=3.0) as (node, _):
        assert send(node.dicom_port, study / "1.dcm")[0] == 0
        _, said = send(node.dicom_port, study / "2.dcm")
        assert "0xa700" in said
        assert echoes(node.dicom_port)
        arrived(tmp_path / "out", 2)
        until(lambda: "0xa700" not in send(node.dicom_port, study / "2.dcm")[1])


def test_a_file_without_study_is_refused_with_status_c000(run, tmp_path):
    (tmp_path / "bare.dcm").write_bytes(study_file(1, 7, StudyInstanceUID=None))
    with noded(run, out=tmp_path / "out") as (node, _):
        assert "0xc000" in send(node.dicom_port, tmp_path / "bare.dcm")[1]


def test_an_answer_waits_while_the_destination_is_down(run, study, tmp_path):
    port = free_port()
    with noded(run, send_to=f"ARCHIVE@127.0.0.1:{port}") as (node, service):
        send(node.dicom_port, *study.iterdir())
        until(lambda: b'trcgl_studies_total{outcome="scored"} 1.0' in service.metrics.text())
        with archive(tmp_path / "received", port):
            assert len(arrived(tmp_path / "received")) == 1
        until(lambda: b'trcgl_sent_total{outcome="sent"} 1.0' in service.metrics.text())


def test_a_destination_without_explicit_value_representations_gets_the_report(run, study, tmp_path):
    received = tmp_path / "received"
    with archive(received, None, "+xi") as port, noded(run, send_to=f"ARCHIVE@127.0.0.1:{port}") as (node, _):
        send(node.dicom_port, study / "1.dcm")
        (report,) = arrived(received)
    assert pydicom.dcmread(report).file_meta.TransferSyntaxUID.is_implicit_VR


def test_a_folder_for_received_files_that_cannot_be_made_is_named(run, tmp_path):
    (tmp_path / "keep").write_text("in the way")
    refused = pytest.raises(DataError, match="keep: cannot be written")
    with refused, noded(run, out=tmp_path / "out", keep=tmp_path / "keep"):
        pass


def test_an_answer_that_was_not_sent_is_sent_after_a_restart(run, study, tmp_path):
    port, spool = free_port(), tmp_path / "spool"
    settings = {"send_to": f"ARCHIVE@127.0.0.1:{port}", "spool": spool}
    with noded(run, **settings) as (node, service):
        send(node.dicom_port, *study.iterdir())
        until(lambda: b'trcgl_studies_total{outcome="scored"} 1.0' in service.metrics.text())
    assert len(list((spool / "outbox").iterdir())) == 1
    with archive(tmp_path / "received", port), noded(run, **settings):
        assert len(arrived(tmp_path / "received")) == 1
        until(lambda: not list((spool / "outbox").iterdir()))


def test_an_answer_that_cannot_be_sent_for_too_long_is_dropped(run, study, tmp_path):
    settings = {"send_to": f"ARCHIVE@127.0.0.1:{free_port()}", "retry_hours": 0.5 / 3600}
    with noded(run, **settings) as (node, service):
        send(node.dicom_port, study / "1.dcm")
        until(lambda: b'trcgl_sent_total{outcome="dropped"} 1.0' in service.metrics.text())


def test_one_spool_serves_one_server(run, tmp_path):
    settings = {"out": tmp_path / "out", "spool": tmp_path / "spool"}
    with (
        noded(run, **settings),
        pytest.raises(DataError, match="another server uses this spool"),
        noded(run, **settings),
    ):
        pass


def test_a_study_whose_header_allows_no_report_is_answered_with_its_scores(run, tmp_path, caplog):
    (tmp_path / "odd.dcm").write_bytes(study_file(1, 7, SeriesInstanceUID=None))
    with noded(run, out=tmp_path / "out", maps=1) as (node, service):
        send(node.dicom_port, tmp_path / "odd.dcm")
        assert [path.name for path in arrived(tmp_path / "out")] == ["scores.json"]
        until(lambda: b'trcgl_studies_total{outcome="scored"} 1.0' in service.metrics.text())
    assert "no SR without SeriesInstanceUID" in caplog.text


@pytest.mark.slow
def test_memory_stays_flat_over_two_hundred_studies(run, tmp_path):
    received = tmp_path / "received"
    paths = [tmp_path / f"{number}.dcm" for number in range(200)]
    for number, path in enumerate(paths):
        path.write_bytes(study_file(number, 1000 + number, shape=(1024, 1024)))
    sizes = []
    with archive(received) as port, noded(run, send_to=f"ARCHIVE@127.0.0.1:{port}", maps=1) as (node, _):
        for done, path in enumerate(paths, 1):
            assert send(node.dicom_port, path)[0] == 0
            if done % 20 == 0:
                arrived(received, 2 * done, 120)
                sizes.append(resident_bytes(os.getpid()) / 2**20)
    print("MiB after every 20 studies:", [round(size) for size in sizes])
    assert sizes[-1] - sizes[1] < 24
