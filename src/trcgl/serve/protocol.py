"""HTTP/1.1 with the limits that uvicorn leaves to a proxy: how long a client may take for its headers, and to read."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from trcgl.serve.guards import HEADERS
from trcgl.serve.problem import Code, Problem

HEADER_SECONDS = 10.0
"""What a client may take for the headers of a request."""
READ_SECONDS = 30.0
"""How long a client may leave an answer unread."""
CONNECTIONS = 512


class BoundedProtocol(H11Protocol):
    """One connection."""

    _headers_due: asyncio.TimerHandle | None = None
    _read_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Answer the connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            self._refuse(503, "busy", "Too many connections are open. Try again in a few seconds.")
        else:
            self._expect_headers()

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._headers_came()
        elif self._headers_due is None:
            self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._headers_came()
        self._client_reads()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read as fast as it is sent to."""
        super().pause_writing()
        self._read_due = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._client_reads()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets the same kind of answer as everything else."""
        self._refuse(400, "bad_request", "This is no HTTP request that the server understands.")

    def _headers_came(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _client_reads(self) -> None:
        if self._read_due is not None:
            self._read_due.cancel()
            self._read_due = None

    def _expect_headers(self) -> None:
        self._headers_due = self.loop.call_later(HEADER_SECONDS, self._late)

    def _late(self) -> None:
        if not self.transport.is_closing() and self.conn.their_state is h11.IDLE:
            self._refuse(408, "timeout", "The headers of the request took too long. Send it again.")

    def _refuse(self, status: int, code: Code, message: str) -> None:
        response = Problem(status, code, message).response()
        response.headers.update({**HEADERS, "connection": "close"})
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            start = h11.Response(status_code=status, headers=response.raw_headers)
            for event in (start, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
