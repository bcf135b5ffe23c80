"""HTTP/1.1 with limits that uvicorn does not have: time for the request headers, time to read, open connections."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from trcgl.serve.guards import HEADERS
from trcgl.serve.problem import Code, Problem

HEADER_SECONDS = 10.0
"""Longest time for the headers of a request."""
READ_SECONDS = 30.0
"""Longest time that a client may leave an answer unread."""
CONNECTIONS = 512


class BoundedProtocol(H11Protocol):
    """One connection of a client."""

    _headers_due: asyncio.TimerHandle | None = None
    _read_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection unless too many are open."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            self._refuse(503, "busy", "Too many connections are open. Try again in a few seconds.")
        else:
            self._expect_headers()

    def data_received(self, data: bytes) -> None:
        """Handle bytes that the client sent."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._headers_came()
        elif self._headers_due is None:
            self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers of a closed connection."""
        self._headers_came()
        self._client_reads()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the read timer: the client reads more slowly than the server writes."""
        super().pause_writing()
        self._read_due = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the read timer."""
        self._client_reads()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP with the same JSON error as everything else."""
        self._refuse(400, "bad_request", "This is not a valid HTTP request.")

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
