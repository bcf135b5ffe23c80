"""What the interface answers to well-meant requests, and to mistakes."""

import asyncio
import base64
import hashlib
import io
import json
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from tests.imaging.dicom_files import dicom
from tests.serve.serving import FINDINGS, SIDE, Brightness, form, noise, png, request, serving, until, upload
from trcgl.core.html import png_uri
from trcgl.serve import body, schemas
from trcgl.serve.guards import HEADERS
from trcgl.serve.page_files import PAGE
from trcgl.serve.samples import SAMPLES

NOISE = noise((60, 50))


@pytest.fixture(scope="module")
def network():
    return Brightness()


@pytest.fixture(scope="module")
def address(network):
    with serving(network, max_megapixels=1, max_mib=1) as (address, _):
        yield address


def picture(uri):
    assert uri.startswith(png_uri(b""))
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix(png_uri(b"")))))


def test_findings_come_with_the_highest_score_first_and_their_thresholds(address):
    content = png(102, size=(SIDE, SIDE))
    status, _, result = upload(address, content)
    assert status == 200
    schemas.Prediction.model_validate(result)
    assert [finding["name"] for finding in result["findings"]] == [name for name, _, _ in FINDINGS]
    assert [round(finding["score"], 4) for finding in result["findings"]] == [0.4, 0.2, 0.1]
    assert [finding["called"] for finding in result["findings"]] == [True, False, False]
    assert result["image"] == {
        "width": SIDE,
        "height": SIDE,
        "format": "png",
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert result["picture"] is result["map_kind"] is result["findings"][0]["map"] is None


def test_maps_lie_over_the_picture_with_the_letterbox_undone(address):
    status, _, result = upload(address, png(200, size=(1500, 600)), query="?maps=true")
    assert status == 200
    schemas.Prediction.model_validate(result)
    assert result["map_kind"] == "grad_cam"
    radiograph = picture(result["picture"])
    assert radiograph.mode == "L"
    assert radiograph.size == (1024, 410)
    heat = np.asarray(picture(result["findings"][0]["map"]).convert("RGBA"))
    assert heat.shape[1] / heat.shape[0] == pytest.approx(2.5, abs=0.05)
    assert heat[:, -1, 3].max() <= 1  # the map ends where the radiograph does, and not where the square does
    assert heat[:, 0, 3].min() > 100


def test_a_dicom_file_is_read_as_predict_reads_it(address, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4096, (30, 20), dtype=np.uint16)
    content = dicom(pixels, PatientName="Noether^Amalie", PatientID="MRN-4711")
    status, _, result = upload(address, content)
    assert (status, result["image"]["format"], result["image"]["height"]) == (200, "dicom", 30)
    assert "Noether" not in json.dumps(result)
    from trcgl.imaging.radiograph import read_bytes

    mean = read_bytes(content, "x", size=SIDE).pixels.mean() / 255
    assert result["findings"][0]["score"] == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 422, "unreadable"),
        (b"GIF89a no radiograph", 415, "unsupported"),
        (NOISE[: len(NOISE) // 2], 422, "unreadable"),
        (png(size=(1200, 1000)), 413, "too_large"),
        (b"\x89PNG\r\n\x1a\n" + bytes(2**20), 413, "too_large"),
        (b"\xff\xd8\xff" + bytes(200), 422, "unreadable"),
    ],
    ids=["empty", "no image", "cut off", "too many pixels", "too many bytes", "no JPEG after all"],
)
def test_a_file_that_is_no_radiograph_is_refused_with_a_reason(address, content, status, code):
    got, _, result = upload(address, content)
    assert (got, result["error"]["code"]) == (status, code)
    schemas.ErrorAnswer.model_validate(result)
    assert result["error"]["message"].endswith(".")
    assert upload(address, png())[0] == 200


def test_what_a_damaged_file_holds_is_not_in_the_reason(address):
    content = dicom(np.eye(8, dtype=np.uint16), WindowCenter="1", WindowWidth="1").replace(
        b"MONOCHROME2", b"Noether^Amy"
    )
    status, _, result = upload(address, content)
    assert (status, result["error"]["code"]) == (422, "unreadable")
    assert "Noether" not in json.dumps(result)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{}", "application/json"),
        (b"x", "multipart/form-data"),
        (b"x", "multipart/form-data; boundary=" + "b" * 300),
        (b"--yy\r\n", "multipart/form-data; boundary=xx"),
        (b"--xx--\r\n", "multipart/form-data; boundary=xx"),
        (form(png())[0][:90], form(png())[1]),
        (form(png(), field="image")[0], form(png())[1]),
        (form(png())[0].removesuffix(b"--\r\n") + b"\r\n" + form(png())[0], form(png())[1]),
    ],
    ids=["json", "no boundary", "long boundary", "other boundary", "no part", "cut off", "other field", "two files"],
)
def test_what_is_not_one_file_is_refused_with_advice(address, body, kind):
    status, _, answered = request(address, "POST", "/v1/predict", body, {"Content-Type": kind})
    result = json.loads(answered)
    assert (status, result["error"]["code"]) == (400, "bad_request")
    assert "curl -F file=@" in result["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/page/../options.py", 404),
        ("GET", "/page/%2e%2e%2foptions.py", 404),
        ("GET", "/v1/samples/7", 404),
        ("GET", "/docs", 404),
        ("DELETE", "/v1/model", 405),
        ("GET", "/v1/predict", 405),
        ("POST", "/v1/predict?maps=%3Cscript%3E", 400),
    ],
)
def test_every_error_is_json_and_repeats_nothing(address, method, path, status):
    got, headers, body = request(address, method, path)
    assert (got, headers["content-type"]) == (status, "application/json")
    schemas.ErrorAnswer.model_validate_json(body)
    assert b"script" not in body


def test_a_misspelt_parameter_is_refused_and_not_passed_over(address):
    status, _, result = upload(address, png(), query="?map=true")
    assert (status, result["error"]["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    "path", ["/", "/page/page.css", "/v1/model", "/v1/samples/1", "/healthz", "/metrics", "/openapi.json", "/nothing"]
)
def test_head_is_answered_as_get_is_without_the_body(address, path):
    status, headers, body = request(address, path=path)
    of_head = request(address, "HEAD", path)
    assert (of_head[0], of_head[2]) == (status, b"")
    assert of_head[1].keys() == headers.keys()
    if path != "/metrics":  # it counts the requests
        assert of_head[1]["content-length"] == str(len(body))


def test_head_of_an_address_for_uploads_is_refused(address):
    assert request(address, "HEAD", "/v1/predict")[0] == 405


@pytest.mark.parametrize("path", ["/", "/v1/model", "/nothing", "/healthz", "/metrics", "/openapi.json"])
def test_every_answer_forbids_what_a_page_does_not_need(address, path):
    _, headers, _ = request(address, path=path)
    assert {name: headers[name] for name in HEADERS} == HEADERS
    assert "set-cookie" not in headers


def test_the_page_is_served_whole_and_nothing_else_of_its_folder(address):
    folder = Path(__file__).parents[2] / "src" / "trcgl" / "serve" / "page"
    assert set(PAGE) == {path.name for path in folder.iterdir() if path.is_file()}
    for name, kind in PAGE.items():
        status, headers, body = request(address, path=f"/page/{name}")
        assert (status, headers["content-type"]) == (200, kind)
        assert body == (folder / name).read_bytes()
    assert request(address)[2] == (folder / "index.html").read_bytes()


def test_the_description_of_the_interface_holds_what_is_answered(address):
    described = json.loads(request(address, path="/openapi.json")[2])
    assert set(described["paths"]) == {"/v1/model", "/v1/samples/{number}", "/v1/predict", "/healthz", "/metrics"}
    upload = described["paths"]["/v1/predict"]["post"]
    assert "multipart/form-data" in upload["requestBody"]["content"]
    assert {"200", "400", "401", "403", "408", "413", "415", "422", "503", "504"} <= set(upload["responses"])
    result = json.loads(request(address, path="/v1/model")[2])
    schemas.ServedModel.model_validate(result)
    assert result["limits"] == {"bytes": 2**20, "pixels": 1_000_000, "seconds": 60.0}
    assert request(address, path="/healthz")[2] == b'{"status":"ok"}'


def test_samples_are_phantoms_that_the_model_can_score(address):
    result = json.loads(request(address, path="/v1/model")[2])["samples"]
    assert [sample["id"] for sample in result] == list(SAMPLES)
    assert all("hantom" in sample["title"] and sample["labels"] for sample in result)
    status, headers, content = request(address, path="/v1/samples/2")
    assert (status, headers["content-type"]) == (200, "image/png")
    assert "Phantom" in Image.open(io.BytesIO(content)).info["Description"]
    assert upload(address, content)[0] == 200


def test_uploads_that_come_together_are_scored_together_and_each_gets_its_own():
    network = Brightness()
    values = [10 * value for value in range(1, 13)]
    with serving(network, batch_size=8) as (address, service), ThreadPoolExecutor(12) as pool:
        network.go.clear()
        answers = [pool.submit(upload, address, png(values[0], size=(SIDE, SIDE)))]
        assert network.entered.wait(60)  # the first upload holds the network, so all others meet in the queue
        answers += [pool.submit(upload, address, png(value, size=(SIDE, SIDE))) for value in values[1:]]
        until(lambda: service.batcher._queue.qsize() == len(values) - 1)
        network.go.set()
        for value, pending in zip(values, answers, strict=True):
            status, _, result = pending.result()
            assert status == 200
            assert result["findings"][0]["score"] == pytest.approx(value / 255, abs=1e-6)
    assert max(network.sizes) == 8
    assert sum(network.sizes) == 12


def test_more_uploads_than_the_queue_holds_are_told_to_come_again():
    network = Brightness()
    with serving(network, queue=2) as (address, service), ThreadPoolExecutor(2) as pool:
        network.go.clear()
        waiting = [pool.submit(upload, address, png()) for _ in range(2)]
        until(lambda: service._waiting == 2)
        status, headers, result = upload(address, png())
        assert (status, result["error"]["code"]) == (503, "busy")
        assert int(headers["retry-after"]) > 0
        assert request(address, path="/healthz")[0] == 200
        network.go.set()
        assert [pending.result()[0] for pending in waiting] == [200, 200]


def test_the_bytes_of_uploads_that_wait_are_bounded():
    network = Brightness()
    largest = noise((900, 900))
    assert 0.7 * 2**20 < len(largest) < 2**20
    with serving(network, queue=100, max_mib=1) as (address, service), ThreadPoolExecutor(30) as pool:
        network.go.clear()
        waiting = [pool.submit(upload, address, largest) for _ in range(30)]
        until(lambda: any(pending.done() for pending in waiting))
        assert len(largest) < service.uploads.held <= body.UPLOADS_AT_ONCE * 2**20
        network.go.set()
        statuses = [pending.result()[0] for pending in waiting]
        assert set(statuses) == {200, 503}
        assert service.uploads.held == 0


def test_an_upload_is_held_once():
    content = bytes(2**20)
    sent, kind = form(content)

    async def receive():
        return {"type": "http.request", "body": sent, "more_body": False}

    async def held():
        post = Request({"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]}, receive)
        async with body.Uploads(2**21, 60.0).receive(post) as read:
            assert read == content
            return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        assert asyncio.run(held()) < 1.5 * len(content)
    finally:
        tracemalloc.stop()


def test_answers_with_unknown_fields_do_not_pass_as_answers():
    health = schemas.Health.model_validate({"status": "ok"})
    with pytest.raises(ValidationError, match="Extra inputs"):
        schemas.Health.model_validate({**health.model_dump(), "more": 1})
    models = [model for model in vars(schemas).values() if isinstance(model, type) and issubclass(model, BaseModel)]
    assert all(model.model_config.get("extra") == "forbid" for model in models if model is not BaseModel)


def test_a_defect_of_the_network_costs_its_batch_and_is_told_without_its_message(caplog):
    class Broken(Brightness):
        def scores(self, images):
            if images.max() == 78:
                raise ValueError("secret")
            return super().scores(images)

    with serving(Broken()) as (address, _):
        status, _, result = upload(address, png(77))
        assert (status, result["error"]["code"]) == (500, "failed")
        assert "secret" not in json.dumps(result) + caplog.text
        assert upload(address, png())[0] == 200


def test_metrics_count_by_route_and_do_not_grow_with_unknown_paths(address):
    upload(address, png())
    for number in range(3):
        request(address, path=f"/unknown-{number}")
        request(address, path=f"/page/unknown-{number}")
    text = request(address, path="/metrics")[2].decode()
    assert 'trcgl_requests_total{route="/v1/predict",status="200"}' in text
    assert 'route="other",status="404"' in text
    assert "unknown" not in text
    for name in ("trcgl_request_seconds_bucket", "trcgl_batch_images_bucket", "trcgl_queue_images"):
        assert f"\n{name}" in text
    assert float(text.partition("\ntrcgl_decoder_resident_bytes ")[2].split()[0]) > 2**20
    assert "\nprocess_resident_memory_bytes" in text
    assert "\ntrcgl_decoder_restarts_total 0.0" in text
