"""A server with a network that anybody can compute, on a free port of this machine."""

import http.server
import io
import json
import socket
import threading
import time
from contextlib import contextmanager

import numpy as np
from PIL import Image

from trcgl.serve.guards import Access
from trcgl.serve.launch import Listening, access_of, bound
from trcgl.serve.options import ServeOptions
from trcgl.serve.service import Service

SIDE = 16
FINDINGS = (("Mass", "head", 0.2), ("Edema", "medium", 0.5), ("Hernia", "tail", 0.9))


class Brightness:
    """Scores are the mean gray value, and its half and quarter; maps are bright at the left."""

    accept = frozenset()

    def __init__(self):
        self.about = {
            "schema": "trcgl.served-model/1",
            "research_use": "Research use only. Not a medical device.",
            "trcgl": "0",
            "name": "brightness",
            "weights_sha256": "0" * 64,
            "image_size": SIDE,
            "stored_size": SIDE,
            "fit": "letterbox",
            "head": "linear",
            "calibrated": True,
            "temperature": 1.0,
            "map_kind": "grad_cam",
            "license": "none",
            "phantom": False,
            "findings": [{"name": name, "group": group, "threshold": cut} for name, group, cut in FINDINGS],
        }
        self.sizes = []
        self.entered = threading.Event()
        """Set once a batch has reached the network."""
        self.go = threading.Event()
        """A batch waits in the network until this is set."""
        self.go.set()

    def scores(self, images):
        self.entered.set()
        assert self.go.wait(180)
        self.sizes.append(len(images))
        mean = images.mean((1, 2)) / 255
        return np.stack([mean, mean / 2, mean / 4], axis=1).astype(np.float32)

    def maps(self, images):
        return np.tile(np.linspace(1, 0, 4, dtype=np.float32), (len(images), 3, 4, 1))


@contextmanager
def serving(network=None, *, access: Access | None = None, **settings):
    """The address of a running server and its service."""
    options = ServeOptions(**{"port": 0, "workers": 1, "seconds": 60.0, **settings})
    service = Service(network or Brightness(), options)
    listening = Listening(service, access or access_of(options), bound(options.host, 0), options.host)
    server = listening.server()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening.address]}, daemon=True)
    thread.start()
    try:
        yield listening.address.getsockname(), service
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


@contextmanager
def proxied(address, prefix):
    """The address of a proxy that has the server below a path, which it does not pass on."""

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if not self.path.startswith(prefix):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "accept-encoding"}
            path = self.path.removeprefix(prefix.rstrip("/"))
            status, got, content = request(address, self.command, path, body, headers)
            self.send_response(status)
            for name, value in got.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *_):
            """Keep the output of the tests clean."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{prefix}"
    finally:
        server.shutdown()
        server.server_close()


def png(value=128, size=(24, 20), mode="L"):
    """A picture of one gray value but for two pixels, for a blank picture is refused; its mean is the value."""
    pixels = np.array(Image.new(mode, size, value))
    pixels[0, 0] -= pixels[0, 0] > 0
    pixels[-1, -1] += pixels[-1, -1] < 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def noise(size):
    """A picture that does not compress."""
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, size[::-1], dtype=np.uint8)).save(stream, format="PNG")
    return stream.getvalue()


def form(content, name="a.png", field="file"):
    """Body and content type of an upload."""
    head = f'--xx\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n--xx--\r\n", "multipart/form-data; boundary=xx"


def request(address, method="GET", path="/", body=b"", headers=None, seconds=180):
    """Status, headers and body of one request."""
    result = {"Host": f"127.0.0.1:{address[1]}", **(headers or {})}
    if body:
        result.setdefault("Content-Length", str(len(body)))
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in result.items()) + "\r\n"
    with socket.create_connection(address[:2], timeout=seconds) as connection:
        connection.sendall(head.encode() + body)
        return answer(connection, has_body=method != "HEAD")


def upload(address, content, *, query="", headers=None, **how):
    """One upload: status, headers, and the JSON of the answer."""
    body, kind = form(content, **how)
    status, result, answered = request(
        address, "POST", f"/v1/predict{query}", body, {"Content-Type": kind, **(headers or {})}
    )
    return status, result, json.loads(answered)


def answer(connection, *, has_body=True):
    """Read one answer from a connection, and nothing of the next."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += _received(connection, 1)
    lines = head.decode("latin-1").rstrip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, _received(connection, int(headers["content-length"]) if has_body else 0)


def _received(connection, length):
    content = b""
    while len(content) < length:
        part = connection.recv(length - len(content))
        if not part:
            raise ConnectionError("closed before the answer was complete")
        content += part
    return content


def until(condition, seconds=60.0):
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)
