"""Reading an upload from the network: one file, held in memory, bounded in bytes and in time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NoReturn

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from trcgl.serve.problem import Problem

FIELD = b"file"
OVERHEAD = 16 * 1024
"""Bytes that boundaries and headers around a file may take."""
UPLOADS_AT_ONCE = 8
"""How many uploads of the largest size are held at once, read or waiting; smaller ones are more."""
_ADVICE = 'Send one radiograph as the multipart field "file", for instance: curl -F file=@radiograph.dcm ADDRESS.'


@dataclass
class Uploads:
    """How much may be sent, and how much is held.

    Args:
        largest: bytes of one file, at most.
        seconds: for one file, at most; a client that sends nothing is dropped after a sixth of it.
    """

    largest: int
    seconds: float
    held: int = field(default=0, init=False)
    """Bytes of all uploads that are not answered yet."""

    @asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[bytes]:
        """The content of the one file of a request, whose bytes are held until the answer is made.

        Raises:
            Problem: it is too large, takes too long, or is not one file; or too much is held for others.
        """
        if int(request.headers.get("content-length", 0)) > self.largest + OVERHEAD:
            self._refuse_size()
        form = _Form(request.headers.get("content-type"))
        try:
            await self._feed(request, form)
            content = form.content()
            if len(content) > self.largest:
                self._refuse_size()
            yield content
        finally:
            self.held -= form.received

    async def _feed(self, request: Request, form: "_Form") -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self.seconds
        try:
            async with asyncio.timeout_at(loop.time() + self.seconds / 6) as deadline:
                async for chunk in request.stream():
                    deadline.reschedule(min(end, loop.time() + self.seconds / 6))
                    if form.received + len(chunk) > self.largest + OVERHEAD:
                        self._refuse_size()
                    if self.held + len(chunk) > UPLOADS_AT_ONCE * self.largest:
                        raise Problem(503, "busy", "Too much was sent at once. Try again in a few seconds.")
                    form.received += len(chunk)
                    self.held += len(chunk)
                    form.feed(chunk)
        except TimeoutError as error:
            message = f"The upload stalled, or took more than {self.seconds:g} s. Send it again."
            raise Problem(408, "timeout", message) from error
        except ClientDisconnect as error:
            raise Problem(400, "bad_request", "The connection was closed before the upload was complete.") from error

    def _refuse_size(self) -> NoReturn:
        limit = f"{self.largest / 2**20:g} MiB"
        raise Problem(413, "too_large", f"The file is larger than the limit of {limit}. Send a smaller one.")


class _Form:
    """A multipart body of exactly one part, whose field is `file`. Its file name is not even looked at."""

    def __init__(self, content_type: str | None) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise Problem(400, "bad_request", f"The body is not multipart/form-data. {_ADVICE}")
        self.received = 0
        self._content, self._parts, self._complete = bytearray(), 0, False
        self._header, self._value, self._field = b"", b"", b""
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._part,
                    "on_header_begin": self._begin_header,
                    "on_header_field": self._add_header,
                    "on_header_value": self._add_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._check_field,
                    "on_part_data": self._add,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise Problem(400, "bad_request", f"The multipart boundary is not one. {_ADVICE}") from error

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the body."""
        try:
            if chunk:
                self._parser.write(chunk)
        except FormParserError as error:
            raise Problem(400, "bad_request", f"The multipart body is damaged. {_ADVICE}") from error

    def content(self) -> bytes:
        """The file, after the last bytes; it is handed over, and the form is empty."""
        if not self._complete:
            raise Problem(400, "bad_request", f"The multipart body ends too early, or is empty. {_ADVICE}")
        if not self._parts:
            raise Problem(400, "bad_request", f"No file was sent. {_ADVICE}")
        content, self._content = bytes(self._content), bytearray()
        return content

    def _part(self) -> None:
        self._parts += 1
        self._field = b""
        if self._parts > 1:
            raise Problem(400, "bad_request", f"More than one field was sent. {_ADVICE}")

    def _begin_header(self) -> None:
        self._header = self._value = b""

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._field = parse_options_header(self._value)[1].get(b"name", b"")

    def _check_field(self) -> None:
        if self._field != FIELD:
            raise Problem(400, "bad_request", f"The field is not called file. {_ADVICE}")

    def _add(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]

    def _end(self) -> None:
        self._complete = True
