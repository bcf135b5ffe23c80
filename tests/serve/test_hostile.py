"""Clients that lie, stall, flood or try to look like somebody else; the server keeps answering the others."""

import io
import json
import logging
import os
import signal
import socket
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.serve.serving import Brightness, answer, form, png, request, serving, until, upload
from trcgl.core.errors import DataError, RecipeError
from trcgl.imaging.file_process import FileProcess
from trcgl.serve import guards, protocol
from trcgl.serve.guards import Access
from trcgl.serve.launch import access_of
from trcgl.serve.options import ServeOptions

GIB = 2**30
NAMES = frozenset({"127.0.0.1", "localhost"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def served(folder):
    """A server with short patience, whose temporary files would lie in `folder`."""
    patched = pytest.MonkeyPatch()
    patched.setenv("TMPDIR", str(folder))
    patched.setattr(tempfile, "tempdir", None)
    patched.setattr(protocol, "HEADER_SECONDS", 1.0)
    with serving(max_mib=1, upload_seconds=6.0) as served:
        yield served
    patched.undo()


@pytest.fixture
def address(served, folder):
    """Its address; nothing that a test sends may be left anywhere."""
    yield served[0]
    assert upload(served[0], png())[0] == 200
    assert not list(folder.iterdir())
    assert served[1].uploads.held == 0


def head(address, *lines):
    result = ["POST /v1/predict HTTP/1.1", f"Host: 127.0.0.1:{address[1]}", f"Content-Type: {form(b'')[1]}", *lines]
    return "\r\n".join(result).encode() + b"\r\n\r\n"


def sent(connection, content, seconds=30.0):
    """How many bytes of endless content a server takes."""
    total, end = 0, time.monotonic() + seconds
    while time.monotonic() < end and total < GIB:
        try:
            total += connection.send(content)
        except OSError:
            break
    return total


def test_a_claimed_gigabyte_is_refused_before_a_byte_of_it_is_read(address):
    with socket.create_connection(address, timeout=120) as connection:
        connection.sendall(head(address, f"Content-Length: {GIB}"))
        status, headers, body = answer(connection)
    assert (status, json.loads(body)["error"]["code"]) == (413, "too_large")
    assert headers["connection"] == "close"


def test_a_streamed_gigabyte_of_unknown_length_is_refused_and_the_connection_closed(address, monkeypatch):
    monkeypatch.setattr(guards, "LINGER_SECONDS", 0.3)
    chunk = b"10000\r\n" + bytes(2**16) + b"\r\n"
    start = form(b"")[0].removesuffix(b"\r\n--xx--\r\n")
    with socket.create_connection(address, timeout=120) as connection:
        connection.sendall(head(address, "Transfer-Encoding: chunked") + b"%x\r\n%s\r\n" % (len(start), start))
        connection.sendall(chunk * 17)
        assert sent(connection, chunk) < GIB
        status, _, body = answer(connection)
    assert (status, json.loads(body)["error"]["code"]) == (413, "too_large")


def test_a_client_that_goes_on_sending_still_reads_why_it_was_refused(address):
    body, kind = form(bytes(6 * 2**20))
    status, _, answered = request(address, "POST", "/v1/predict", body, {"Content-Type": kind})
    assert (status, json.loads(answered)["error"]["code"]) == (413, "too_large")


def test_a_length_that_is_too_small_leaves_half_a_form_and_no_second_request(address):
    body, _ = form(png())
    with socket.create_connection(address, timeout=120) as connection:
        connection.sendall(head(address, "Content-Length: 60") + body)
        status, _, answered = answer(connection)
        assert (status, json.loads(answered)["error"]["code"]) == (400, "bad_request")
        assert answer(connection)[0] == 400  # the rest is no HTTP
        assert connection.recv(1) == b""


def test_a_length_that_is_too_large_ends_when_nothing_more_comes(address):
    body, _ = form(png())
    start = time.monotonic()
    with socket.create_connection(address, timeout=120) as connection:
        connection.sendall(head(address, f"Content-Length: {len(body) + 1000}") + body)
        status, _, answered = answer(connection)
    assert (status, json.loads(answered)["error"]["code"]) == (408, "timeout")
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    "lines", [("Content-Length: -1",), ("Content-Length: x",), ("Content-Length: 5", "Content-Length: 6"), ("Bad",)]
)
def test_headers_that_are_none_get_the_same_kind_of_answer(address, lines):
    with socket.create_connection(address, timeout=120) as connection:
        connection.sendall(head(address, *lines))
        status, headers, body = answer(connection)
    assert (status, headers["content-type"]) == (400, "application/json")
    assert json.loads(body)["error"]["code"] == "bad_request"


def test_clients_that_trickle_headers_or_bodies_are_dropped_while_others_are_answered(address):
    body, _ = form(png())
    slow = [socket.create_connection(address, timeout=60) for _ in range(20)]
    try:
        for number, connection in enumerate(slow):
            started = head(address, f"Content-Length: {len(body)}")
            connection.sendall(started + body[:50] if number % 2 else started[:30])
        assert upload(address, png())[0] == 200
        for connection in slow:
            status, _, answered = answer(connection)
            assert (status, json.loads(answered)["error"]["code"]) == (408, "timeout")
            assert connection.recv(1) == b""
    finally:
        for connection in slow:
            connection.close()


def test_sixty_four_connections_at_once_are_all_answered(address):
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda value: upload(address, png(value)), range(64)))
    assert [status for status, _, _ in answers] == [200] * 64


def test_connections_beyond_the_limit_are_told_so(address, monkeypatch, served):
    monkeypatch.setattr(protocol, "CONNECTIONS", 3)
    idle = [socket.create_connection(address, timeout=120) for _ in range(3)]
    try:
        with socket.create_connection(address, timeout=120) as connection:
            status, headers, body = answer(connection)
        assert (status, json.loads(body)["error"]["code"]) == (503, "busy")
        assert "retry-after" in headers
    finally:
        for connection in idle:
            connection.close()
    monkeypatch.undo()
    until(lambda: request(address, path="/healthz")[0] == 200)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1", "10.0.0.1"])
def test_a_host_name_of_somebody_else_is_refused(address, host):
    status, _, body = request(address, path="/v1/model", headers={"Host": host})
    assert (status, json.loads(body)["error"]["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_post_that_another_site_caused_is_refused(address, headers):
    status, _, result = upload(address, png(), headers=headers)
    assert (status, result["error"]["code"]) == (403, "forbidden")


def test_the_own_page_may_post(address):
    own = {"Origin": f"http://127.0.0.1:{address[1]}", "Sec-Fetch-Site": "same-origin"}
    assert upload(address, png(), headers=own)[0] == 200


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/tmp/x.png", "<script>alert(1)</script>.png", "Noether^Amalie.dcm"]
)
def test_a_file_name_is_neither_used_nor_repeated(address, name, caplog, folder):
    with caplog.at_level(logging.DEBUG):
        for content in (png(), b"no radiograph"):
            status, headers, result = upload(address, content, name=name)
            assert status == (200 if content == png() else 415)
            assert name not in json.dumps(result) + json.dumps(headers) + caplog.text


def test_a_log_line_is_the_method_the_route_the_status_and_the_time(address):
    log, stream = logging.getLogger("trcgl.serve"), io.StringIO()
    handler = logging.StreamHandler(stream)
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.INFO)
    try:
        for query in ("?maps=false", "?patient=Noether"):
            upload(address, png(), query=query, name="Noether.png")
        request(address, "BREW", "/Noether")
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    lines = stream.getvalue().splitlines()
    result = [["POST", "/v1/predict", "200"], ["POST", "/v1/predict", "400"], ["OTHER", "other", "404"]]
    assert [line.split()[:3] for line in lines] == result
    assert all(line.split()[4] == "ms" and len(line.split()) == 5 for line in lines)


def test_a_token_is_asked_for_where_one_is_set_but_not_for_the_page():
    token = "0123456789abcdef"
    with serving(access=Access(NAMES, False, token)) as (address, _):
        for path in ("/v1/model", "/metrics", "/nothing"):
            for given in ({}, {"Authorization": f"Bearer {token}x"}, {"Authorization": f"Basic {token}"}):
                status, headers, body = request(address, path=path, headers=given)
                assert (status, headers["www-authenticate"]) == (401, "Bearer")
                assert json.loads(body)["error"]["code"] == "unauthorized"
        assert upload(address, png())[0] == 401
        right = {"Authorization": f"Bearer {token}"}
        assert request(address, path="/v1/model", headers=right)[0] == 200
        assert upload(address, png(), headers=right)[0] == 200
        for path in ("/", "/page/page.css", "/healthz"):
            assert request(address, path=path)[0] == 200


def test_any_address_but_the_loopback_needs_a_token_of_some_length(tmp_path, monkeypatch):
    monkeypatch.delenv("TRCGL_TOKEN", raising=False)
    with pytest.raises(RecipeError, match=r"--host 0\.0\.0\.0: .* --token-file"):
        access_of(ServeOptions(host="0.0.0.0"))
    for host in ("127.0.0.1", "::1", "localhost", "127.0.0.2"):
        assert access_of(ServeOptions(host=host)).token is None
    file = tmp_path / "token"
    with pytest.raises(DataError, match="token cannot be read"):
        access_of(ServeOptions(token_file=file))
    file.write_text("short\n")
    with pytest.raises(RecipeError, match="less than 16 characters"):
        access_of(ServeOptions(token_file=file))
    file.write_text("0123456789abcdef\n")
    access = access_of(ServeOptions(host="0.0.0.0", token_file=file, names=("Radiology.example",)))
    assert access.token == "0123456789abcdef"
    assert {"radiology.example", socket.gethostname().lower()} <= access.names
    assert access.any_address
    monkeypatch.setenv("TRCGL_TOKEN", " " + "x" * 20 + "\n")
    assert access_of(ServeOptions(host="0.0.0.0")).token == "x" * 20


@pytest.mark.parametrize("token", ["0123456789abcdeé", "0123456789abcdeŁ", "01234567\t89abcdef"])
def test_a_token_that_a_browser_cannot_send_is_refused_at_the_start(token, tmp_path, monkeypatch):
    monkeypatch.setenv("TRCGL_TOKEN", token)
    with pytest.raises(RecipeError, match="TRCGL_TOKEN: .*printable ASCII"):
        access_of(ServeOptions())
    (tmp_path / "token").write_text(token, encoding="utf-8")
    with pytest.raises(RecipeError, match="printable ASCII"):
        access_of(ServeOptions(token_file=tmp_path / "token"))


def test_a_decoder_that_dies_or_hangs_costs_one_file(monkeypatch):
    with serving() as (address, service):
        assert upload(address, png())[0] == 200
        read = FileProcess.read_content

        def disturbed(process, content, *args, **settings):
            if content in (png(1), png(2)):
                os.kill(process.pid, signal.SIGSTOP)  # as if it computed for ever
            if content == png(1):
                threading.Timer(0.5, os.kill, (process.pid, signal.SIGKILL)).start()
            patience, process.seconds = process.seconds, 1.0 if content == png(2) else process.seconds
            try:
                return read(process, content, *args, **settings)
            finally:
                process.seconds = patience

        monkeypatch.setattr(FileProcess, "read_content", disturbed)
        for value, status, code in ((1, 422, "unreadable"), (2, 504, "timeout")):
            got, _, result = upload(address, png(value))
            assert (got, result["error"]["code"]) == (status, code)
            assert upload(address, png())[0] == 200
        assert b"\ntrcgl_decoder_restarts_total 2.0" in request(address, path="/metrics")[2]
        children = service.decoders.running
        assert len(children) == 1
    until(lambda: not Path(f"/proc/{children[0]}").exists())


def test_a_client_that_leaves_costs_nothing():
    network = Brightness()
    with serving(network) as (address, service):
        network.go.clear()
        body, _ = form(png())
        with socket.create_connection(address, timeout=120) as connection:
            connection.sendall(head(address, f"Content-Length: {len(body)}") + body)
            until(lambda: service._waiting == 1)
        network.go.set()
        until(lambda: service._waiting == 0)
        assert upload(address, png())[0] == 200
