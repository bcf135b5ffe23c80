"""Sending of answers to a DICOM node by C-STORE, with retries while the node cannot be reached or refuses them."""

import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pynetdicom import AE

from trcgl.serve.metrics import Metrics
from trcgl.serve.options import NodeOptions
from trcgl.serve.spool import Spool

if TYPE_CHECKING:
    from pynetdicom.association import Association

OUTBOX = "outbox"
FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0
"""Seconds until a failed transmission is repeated; doubled after each failure."""
_CONNECT_SECONDS, _ANSWER_SECONDS = 10, 30
_CLASSES = ("1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.7")  # Comprehensive SR, Secondary Capture
_SYNTAXES = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]  # explicit and implicit VR, little endian
_NOT_SUPPORTED = 0x0122
_log = logging.getLogger("trcgl.serve")


class Forwarder:
    """The thread that sends the files of the outbox; a file leaves the outbox when the destination has accepted it."""

    def __init__(self, spool: Spool, metrics: Metrics, options: NodeOptions) -> None:
        if options.destination is None:
            raise ValueError("no destination")
        self._title, self._host, self._port = options.destination
        self._spool, self._metrics, self._seconds = spool, metrics, 3600 * options.retry_hours
        self._entity = AE(options.ae_title)
        for uid in _CLASSES:
            self._entity.add_requested_context(uid, _SYNTAXES)
        self._entity.connection_timeout = self._entity.acse_timeout = _CONNECT_SECONDS
        self._entity.dimse_timeout = self._entity.network_timeout = _ANSWER_SECONDS
        self._stop, self._news = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="forward", daemon=True)
        self._thread.start()

    def put(self, content: bytes) -> None:
        """Queue a DICOM file; it is on disk when this returns.

        Raises:
            DataError: the disk is full.
        """
        self._spool.put(f"{OUTBOX}/{time.time_ns()}.dcm", content, bounded=False)
        self._news.set()

    @property
    def waiting(self) -> int:
        """Number of files that are not sent yet."""
        return len(self._spool.waiting(OUTBOX))

    def close(self) -> None:
        """Stop after the file in transmission."""
        self._stop.set()
        self._news.set()
        self._thread.join()

    def _work(self) -> None:
        wait = FIRST_WAIT
        while not self._stop.is_set():
            self._news.clear()
            before = self.waiting
            try:
                self._send_all()
                self._drop_old()
            except Exception as error:  # its message may quote a file
                _log.error("defect of trcgl: %s", type(error).__name__)
            if left := self.waiting:
                wait = FIRST_WAIT if left < before else min(2 * wait, LONGEST_WAIT)
                self._stop.wait(wait)
            else:
                wait = FIRST_WAIT
                self._news.wait()

    def _send_all(self) -> None:
        """Send what waits, over one association; a file that is refused does not hold up those behind it."""
        files = self._spool.waiting(OUTBOX)
        if not files or self._stop.is_set():
            return
        association = self._entity.associate(self._host, self._port, ae_title=self._title)
        if not association.is_established:
            why = "rejected the association" if association.is_rejected else "cannot be reached"
            _log.warning("destination %s; %d files wait", why, len(files))
            return
        try:
            for path in files:
                if self._stop.is_set() or not association.is_established:
                    return
                self._send(association, path)
        finally:
            association.release()

    def _send(self, association: "Association", path: Path) -> None:
        """Send a file, and remove it if the destination has accepted it, possibly with a warning (status B0xx)."""
        try:
            status = association.send_c_store(path).get("Status")
        except ValueError:  # no presentation context
            status = _NOT_SUPPORTED
        if status is None:
            _log.warning("destination gave no answer; the file waits")
        elif status == 0 or status & 0xF000 == 0xB000:
            self._spool.remove(path)
            self._metrics.sent.labels("sent").inc()
        else:
            _log.warning("destination refused a file with status %04X; it waits", status)
            self._metrics.sent.labels("refused").inc()

    def _drop_old(self) -> None:
        for path in self._spool.waiting(OUTBOX):
            if time.time_ns() - int(path.stem) > 1e9 * self._seconds:
                self._spool.remove(path)
                self._metrics.sent.labels("dropped").inc()
                _log.error("an answer could not be sent for %g hours and was dropped", self._seconds / 3600)
