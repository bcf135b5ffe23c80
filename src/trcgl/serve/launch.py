"""Open a model and start the server."""

import logging
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from trcgl.core.errors import DataError, Interrupted, RecipeError
from trcgl.core.notice import RESEARCH_USE
from trcgl.serve.app import create_app
from trcgl.serve.guards import Access
from trcgl.serve.options import NodeOptions, ServeOptions, is_loopback
from trcgl.serve.protocol import BoundedProtocol
from trcgl.serve.service import Service

if TYPE_CHECKING:
    from trcgl.serve.engine import TrainedNetwork
    from trcgl.serve.node import Node

SCHEMA = "trcgl.listening/1"
TOKEN_VARIABLE = "TRCGL_TOKEN"
SHORTEST_TOKEN = 16
GRACE_SECONDS = 15
"""How long a stopping server waits for requests in progress."""
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Listening:
    """A server whose address is bound; clients wait until `serve` is called."""

    service: Service
    access: Access
    address: socket.socket
    host: str
    node: "Node | None" = None
    """Handles studies beside the HTTP interface."""

    @property
    def url(self) -> str:
        """Address of the page."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.address.getsockname()[1]}/"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON value of schema `trcgl.listening/1`."""
        return {
            "schema": SCHEMA,
            "url": self.url,
            "host": self.host,
            "port": self.address.getsockname()[1],
            "dicom_port": None if self.node is None else self.node.dicom_port,
            "token": self.access.token is not None,
            **{name: self.service.card[name] for name in ("name", "weights_sha256")},
            "research_use": RESEARCH_USE,
        }

    def server(self) -> uvicorn.Server:
        """The uvicorn server, not yet running."""
        config = uvicorn.Config(
            create_app(self.service, self.access, self.node),
            http=BoundedProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        return uvicorn.Server(config)

    def serve(self) -> None:
        """Answer requests until a signal arrives, which becomes `Interrupted`; requests in progress are answered."""
        _log_to_stderr()
        try:
            self.server().run(sockets=[self.address])
        except (Interrupted, KeyboardInterrupt) as stop:
            raise Interrupted(getattr(stop, "signal", signal.SIGINT), "stopped.") from stop
        finally:
            if self.node is not None:
                self.node.close()
            self.address.close()


def listen(run: Path, options: ServeOptions, node_options: NodeOptions | None = None) -> Listening:
    """Bind the addresses and open the model.

    Raises:
        DataError: an address, the token, the spool or the watched folder cannot be used.
        RecipeError: settings contradict each other, or a library is missing.
        CheckpointError: the model is missing or damaged.
    """
    access = access_of(options)
    address = bound(options.host, options.port)
    try:
        from trcgl.serve.engine import open_network  # torch imports slowly; wrong settings are reported first

        network = open_network(run)
        service = Service(network, options)
        service.decoders.start()
        node = None
        if node_options is not None and node_options.wanted:
            node = _node(service, network, node_options)
        return Listening(service, access, address, options.host, node)
    except BaseException:
        address.close()
        raise


def _node(service: Service, network: "TrainedNetwork", options: NodeOptions) -> "Node":
    try:
        from trcgl.serve.node import Node
    except ModuleNotFoundError as error:
        needed = "pip install 'trcgl-net[serve,dicom,dicom-node]'"
        raise RecipeError(f"receiving studies needs {error.name}. Run: {needed}") from error
    return Node(service, network, options)


def access_of(options: ServeOptions) -> Access:
    """The access rules of a server with these options.

    Raises:
        RecipeError: the address needs a token, or the token is too short or not of printable ASCII.
    """
    token, loopback = _token(options.token_file), is_loopback(options.host)
    if token is None and not loopback:
        raise RecipeError(
            f"--host {options.host}: anyone who reaches this address could send files. Give a token with --token-file "
            f"FILE or {TOKEN_VARIABLE}, or leave --host out."
        )
    names = {options.host, *options.names, *_LOOPBACK_NAMES}
    if not loopback:
        names |= {socket.gethostname(), socket.getfqdn()}
    return Access(frozenset(map(str.lower, names)), not loopback, token)


def _token(file: Path | None) -> str | None:
    if file is None:
        token = os.environ.get(TOKEN_VARIABLE)
    else:
        try:
            token = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file}: the token cannot be read ({error}). Write it into the file as text.") from error
    if token is None:
        return None
    token, where = token.strip(), file or TOKEN_VARIABLE
    if len(token) < SHORTEST_TOKEN:
        raise RecipeError(f"{where}: the token has less than {SHORTEST_TOKEN} characters. Use: openssl rand -hex 32")
    if not (token.isascii() and token.isprintable()):
        why = "the token has characters that a browser cannot send: only printable ASCII goes"
        raise RecipeError(f"{where}: {why}. Use: openssl rand -hex 32")
    return token


def bound(host: str, port: int) -> socket.socket:
    """Bind a listening socket."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        raise DataError(
            f"{host} port {port} cannot be listened on: {error.strerror or error}. Choose another --port (0 takes a "
            "free one) or --host."
        ) from error


def _log_to_stderr() -> None:
    # Messages of the frameworks may quote a request.
    for framework in ("uvicorn", "python_multipart", "asyncio"):
        logging.getLogger(framework).setLevel(logging.CRITICAL)
    log = logging.getLogger("trcgl.serve")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
