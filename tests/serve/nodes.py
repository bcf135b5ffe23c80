"""A server with a DICOM port, and dcmtk's programs around it."""

import shutil
import socket
import subprocess
from contextlib import contextmanager

import pytest

from tests.serve.serving import until
from trcgl.serve.engine import open_network
from trcgl.serve.node import Node
from trcgl.serve.options import NodeOptions, ServeOptions
from trcgl.serve.service import Service

QUIET = 0.5

needs_dcmtk = pytest.mark.skipif(shutil.which("storescu") is None, reason="no dcmtk; on Debian: apt-get install dcmtk")


@contextmanager
def noded(run, *, identifiers=False, **options):
    """A running node without the HTTP interface, and its service."""
    network = open_network(run)
    service = Service(network, ServeOptions(workers=1, seconds=60.0, identifiers=identifiers))
    try:
        node = Node(service, network, NodeOptions(**{"dicom_port": 0, "quiet_seconds": QUIET, **options}))
        try:
            yield node, service
        finally:
            node.close()
    finally:
        service.decoders.close()
        service.batcher.close()


@contextmanager
def archive(folder, port=None, *settings):
    """dcmtk's storescp, which writes what it receives into `folder`: its port."""
    folder.mkdir(exist_ok=True)
    port = port or free_port()
    command = ["storescp", "--fork", "-aet", "ARCHIVE", *settings, "-od", str(folder), str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: listens(port))
            yield port
        finally:
            process.terminate()


def send(port, *paths, called="TRCGL", calling="MODALITY"):
    """Exit code and output of dcmtk's storescu."""
    command = ["storescu", "-d", "-R", "-aet", calling, "-aec", called, "127.0.0.1", str(port), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def echoes(port, called="TRCGL", calling="MODALITY"):
    """Whether dcmtk's echoscu gets an answer."""
    command = ["echoscu", "-aet", calling, "-aec", called, "127.0.0.1", str(port)]
    return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0


def free_port():
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def listens(port):
    """Whether a port accepts connections."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def arrived(folder, count=1, seconds=60.0):
    """Wait until `folder` holds so many files."""
    files = lambda: sorted(path for path in folder.rglob("*") if path.is_file())  # noqa: E731
    until(lambda: len(files()) >= count, seconds)
    return files()
