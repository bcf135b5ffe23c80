"""Clients of the DICOM port that lie, stall, flood or speak no DICOM; the port keeps answering the others."""

import io
import os
import socket
import struct
import threading
import time

import pydicom
import pytest

pytest.importorskip("pynetdicom", reason="needs the extra `dicom-node`")

from pynetdicom import AE
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation

from tests.model.small_run import study_file, write_run
from tests.serve.nodes import arrived, noded
from tests.serve.serving import until
from trcgl.serve import dicom_node
from trcgl.serve.metrics import resident_bytes


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("node") / "run")


@pytest.fixture
def port(run, tmp_path, monkeypatch):
    """A node with short patience, which must answer and score after each test."""
    monkeypatch.setattr(dicom_node, "ACSE_SECONDS", 1.0)
    monkeypatch.setattr(dicom_node, "MESSAGE_SECONDS", 2.0)
    monkeypatch.setattr(dicom_node, "IDLE_SECONDS", 3.0)
    with noded(run, out=tmp_path / "out", max_associations=3) as (node, _):
        yield node.dicom_port
        until(lambda: stored(node.dicom_port), 20)
        arrived(tmp_path / "out", 2)
        until(lambda: not acceptors())


def entity():
    client = AE("MODALITY")
    client.add_requested_context(DigitalXRayImageStorageForPresentation, "1.2.840.10008.1.2.1")
    client.add_requested_context("1.2.840.10008.1.1")
    return client


def associated(port, **how):
    return entity().associate("127.0.0.1", port, **{"ae_title": "TRCGL", **how})


def stored(port):
    """Whether a radiograph is accepted."""
    association = associated(port)
    if not association.is_established:
        return False
    try:
        return association.send_c_store(pydicom.dcmread(io.BytesIO(study_file(1, 7)))).Status == 0
    finally:
        association.release()


def acceptors():
    """Threads of the node's associations."""
    return [thread for thread in threading.enumerate() if "AcceptorThread" in thread.name]


def closed(connection, seconds=20):
    """Wait until the other side has closed, and return what it sent."""
    connection.settimeout(seconds)
    content = b""
    try:
        while part := connection.recv(4096):
            content += part
    except ConnectionResetError:
        pass
    return content


def test_a_client_that_says_nothing_is_dropped(port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        start = time.monotonic()
        closed(connection)
        assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    "content",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(1000),
        b"\x01\x00" + struct.pack(">L", 68) + bytes(68),  # an association request of zeros
        b"\x04\x00" + struct.pack(">L", 12) + bytes(12),  # data before the association
        b"\x01\x00\xff",  # cut off in the length
        b"\x01\x00" + struct.pack(">L", 500) + b"x",  # cut off in the content
    ],
)
def test_bytes_that_are_no_association_end_the_connection(port, content):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(content)
        closed(connection)


def test_a_message_that_announces_gigabytes_is_not_read(port):
    before = resident_bytes(os.getpid())
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"\x01\x00" + struct.pack(">L", 0xFFFFFFFF))
        with pytest.raises(OSError):
            for _ in range(1000):
                connection.sendall(bytes(2**20))
    assert resident_bytes(os.getpid()) - before < 64 * 2**20


def test_a_file_larger_than_the_limit_ends_the_association(port):
    large = pydicom.dcmread(io.BytesIO(study_file(1, 7)))
    large.PixelData = bytes(66 * 2**20)
    association = associated(port)
    assert "Status" not in association.send_c_store(large)
    association.abort()


def test_a_client_that_aborts_in_the_middle_of_a_file_leaves_nothing_behind(port, tmp_path):
    association = associated(port)
    raw = association.dul.socket.socket
    raw.sendall(b"\x04\x00" + struct.pack(">L", 2**20) + bytes(1000))
    raw.close()
    association.abort()


def test_a_client_that_stalls_in_the_middle_of_a_file_is_dropped(port):
    association = associated(port)
    raw = association.dul.socket.socket
    raw.sendall(b"\x04\x00" + struct.pack(">L", 2**20) + bytes(1000))
    until(lambda: not acceptors(), 20)
    association.abort()


def test_a_client_that_drips_is_dropped(port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"\x01\x00" + struct.pack(">L", 10_000))
        start = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - start < 20:
                connection.sendall(b"x")
                time.sleep(0.1)
        assert time.monotonic() - start < 10


def test_idle_associations_are_ended_and_more_than_the_limit_rejected(port):
    idle = [associated(port) for _ in range(4)]
    assert [association.is_established for association in idle] == [True, True, True, False]
    assert idle[3].is_rejected
    until(lambda: not acceptors(), 20)
    for association in idle:
        association.abort()


def test_silent_connections_do_not_keep_a_client_out_for_long(port):
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
    assert len(acceptors()) <= 12
    until(lambda: not acceptors(), 20)
    for connection in silent:
        connection.close()


def test_a_connection_is_bounded_until_it_is_answered():
    ours, theirs = socket.socketpair()
    connection = dicom_node._Connection(fileno=ours.detach())
    with connection, theirs:
        connection.allow(100, 5.0)
        theirs.sendall(bytes(300))
        assert len(connection.recv(90)) == 90
        connection.renew()
        assert len(connection.recv(90) + connection.recv(90)) == 180
        with pytest.raises(OSError, match="too many bytes"):
            connection.recv(1)
