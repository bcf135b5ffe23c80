"""The DICOM port: receives radiographs by C-STORE, answers C-ECHO, and assembles studies.

pynetdicom speaks the protocol. What it does not bound is bounded here: the bytes and the time of one message, the
connections that never become an association, and the files that wait.
"""

import hashlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from socketserver import TCPServer
from typing import Any, cast

from pynetdicom import AE, _config, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.transport import AssociationSocket, ThreadedAssociationServer

from trcgl.core.errors import DataError
from trcgl.core.write_errors import writing
from trcgl.imaging.dicom import study_digest
from trcgl.serve.options import NodeOptions
from trcgl.serve.spool import Full, Spool
from trcgl.serve.studies import Assembly, Study

RECEIVED = "received"
SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
"""Status of a C-STORE (PS3.4 B.2.3)."""
ACSE_SECONDS = 10.0
"""Longest time from a connection to its association request."""
MESSAGE_SECONDS = 120.0
"""Longest time for one message of a client."""
IDLE_SECONDS = 60.0
"""An association without messages is aborted after this time."""
OVERHEAD = 2**20
"""Bytes of a message besides the pixels."""
_CLASSES = (
    "1.2.840.10008.1.1",  # Verification: C-ECHO
    "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography
    "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray, for presentation
    "1.2.840.10008.5.1.4.1.1.1.1.1",  # Digital X-Ray, for processing
)
_SYNTAXES = [
    *("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"),  # uncompressed
    *("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"),  # JPEG
    *("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"),  # JPEG-LS
    *("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"),  # JPEG 2000
    "1.2.840.10008.1.2.5",  # run lengths
]
"""Deflated files are not accepted: their size is unknown before they are inflated."""
_log = logging.getLogger("trcgl.serve")


class Received:
    """Studies of received files, which wait in the spool.

    Args:
        keep: folder that files are moved to after the answer; None deletes them.

    Raises:
        DataError: `keep` cannot be made.
    """

    def __init__(self, spool: Spool, quiet_seconds: float, keep: Path | None) -> None:
        self._spool, self._keep, self._assembly = spool, keep, Assembly(quiet_seconds)
        if keep is not None:
            with writing(keep):
                keep.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in spool.waiting(RECEIVED):  # of an earlier server
            _, study, image = path.stem.split(".")
            self._add(study, image, path)

    def put(self, content: bytes, instance: str) -> None:
        """Store a file of the instance with this UID.

        Raises:
            Full: the spool is full.
            DataError: the disk is full.
            ValueError: the file names no study.
        """
        try:
            study = study_digest(content)
        except Exception:  # of any kind: pydicom parses what a client sent
            study = None
        if study is None:
            raise ValueError("no StudyInstanceUID")
        image = hashlib.sha256(instance.encode()).hexdigest()[:16]
        self._add(study, image, self._spool.put(f"{RECEIVED}/{time.time_ns()}.{study}.{image}.dcm", content))

    def take(self) -> Study | None:
        """See `Source`."""
        return self._assembly.take()

    def finish(self, study: Study) -> None:
        """See `Source`."""
        for image, path in study.files.items():
            if self._keep is None:
                self._spool.remove(path)
            else:
                self._spool.move(path, self._keep / study.name / f"{image}.dcm")

    def postpone(self, study: Study) -> None:
        """See `Source`."""
        for image, path in study.files.items():
            self._add(study.name, image, path)

    def _add(self, study: str, image: str, path: Path) -> None:
        before = self._assembly.add(study, image, path)
        if before is not None and before > path:  # a postponed study meets a file that was sent again
            self._assembly.add(study, image, before)
            before = path
        if before is not None:
            self._spool.remove(before)


class DicomNode:
    """The listening DICOM port.

    Args:
        put: stores a file, given its content and its SOPInstanceUID; see `Received.put`.
        largest: largest file, in bytes.

    Raises:
        DataError: the port cannot be listened on.
    """

    def __init__(self, options: NodeOptions, put: Callable[[bytes, str], None], largest: int) -> None:
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)  # its messages quote what clients send
        _config.LOG_HANDLER_LEVEL = "none"
        self._put = put
        entity = AE(options.ae_title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(options.allow_ae)
        entity.maximum_associations = options.max_associations
        entity.acse_timeout, entity.dimse_timeout, entity.network_timeout = ACSE_SECONDS, IDLE_SECONDS, IDLE_SECONDS
        for uid in _CLASSES:
            entity.add_supported_context(uid, _SYNTAXES)
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_ACSE_SENT, lambda event: _accept(event, largest + OVERHEAD)),
            (evt.EVT_DIMSE_SENT, _renew),
            (evt.EVT_REJECTED, lambda event: _log.warning("an association was rejected")),
        ]
        address = (options.dicom_host, options.dicom_port or 0)
        try:
            self._server = _Server(entity, address, options.ae_title, entity.supported_contexts, evt_handlers=handlers)
        except OSError as error:
            raise DataError(
                f"{address[0]} port {address[1]} cannot be listened on: {error.strerror or error}. Choose another "
                "--dicom-port (0 takes a free one) or --dicom-host."
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="dicom", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close the port and all connections; what was not acknowledged is sent again by its sender."""
        TCPServer.shutdown(self._server)
        self._server.server_close()
        for association in self._server.active_associations:
            connection = association.dul.socket
            if connection is not None and connection.socket is not None:
                with suppress(OSError):  # closed by the client
                    connection.socket.shutdown(socket.SHUT_RDWR)
            association.join(ACSE_SECONDS)

    def _store(self, event: Event) -> int:
        """Handle a C-STORE in the thread of its association; the file is on disk before the answer."""
        try:
            self._put(event.encoded_dataset(), str(cast(C_STORE, event.request).AffectedSOPInstanceUID))
        except Full:
            _log.warning("C-STORE A700: the spool is full")
            return OUT_OF_RESOURCES
        except DataError as error:
            _log.error("C-STORE A700: %s", error)
            return OUT_OF_RESOURCES
        except ValueError:
            _log.warning("C-STORE C000: the file names no study")
            return CANNOT_UNDERSTAND
        return SUCCESS


class _Connection(socket.socket):
    """The socket of a client, which may send so many bytes in so many seconds until it is answered."""

    def allow(self, size: int, seconds: float) -> None:
        """Set the limits of the next messages."""
        self._size, self._seconds = size, seconds
        self.renew()

    def renew(self) -> None:
        """Begin a new message."""
        self._received = 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        """See `socket.socket`; a timeout and an excess are errors, after which pynetdicom closes the connection."""
        now = time.monotonic()
        if not self._received:
            self._until = now + self._seconds
        if self._received > self._size or now >= self._until:
            raise OSError("too many bytes, or too slow")
        self.settimeout(self._until - now)
        content = super().recv(size, flags)
        self._received += len(content)
        return content

    def send(self, content: Any, flags: int = 0) -> int:
        """See `socket.socket`; a client that does not read its answer is dropped."""
        self.settimeout(ACSE_SECONDS)
        return super().send(content, flags)


class _Server(ThreadedAssociationServer):
    """The listening socket, with bounded connections."""

    request_queue_size = 64

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; until it is an association, it may send little."""
        accepted, address = super().get_request()
        connection = _Connection(fileno=accepted.detach())
        connection.allow(OVERHEAD, ACSE_SECONDS)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Refuse connections beyond a multiple of the associations: silent ones hold a thread until they time out."""
        return len(self.active_associations) < 4 * self.ae.maximum_associations


def _connection(event: Event) -> _Connection:
    return cast(_Connection, cast(AssociationSocket, event.assoc.dul.socket).socket)


def _accept(event: Event, size: int) -> None:
    """Let a client send files, just before it learns that its association is accepted."""
    primitive = getattr(event, "primitive", None)
    if isinstance(primitive, A_ASSOCIATE) and primitive.result == 0:
        _connection(event).allow(size, MESSAGE_SECONDS)


def _renew(event: Event) -> None:
    """Begin a new message after an answer, unless the client has already sent further messages without waiting."""
    if event.assoc.dimse.msg_queue.empty() and (connection := _connection(event)) is not None:
        connection.renew()
