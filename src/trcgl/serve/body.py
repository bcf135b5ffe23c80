"""Reading an upload: one file, held in memory, bounded in bytes and in time."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NoReturn

from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from trcgl.serve.problem import Problem

OVERHEAD = 16 * 1024
"""Bytes that boundaries and headers around a file may take."""
UPLOADS_AT_ONCE = 8
"""Uploads of the largest size that may be held at once; more of them if they are smaller."""
_ADVICE = 'Send one radiograph as the multipart field "file", for instance: curl -F file=@radiograph.dcm ADDRESS.'


@dataclass
class Uploads:
    """The limits of uploads, and how many bytes are held."""

    largest: int
    """Largest file, in bytes."""
    seconds: float
    """Longest time for one upload; a client that sends nothing is dropped after a sixth of it."""
    held: int = field(default=0, init=False)
    """Bytes of all uploads that are not answered yet."""

    @asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[bytes]:
        """Read the one file of a request; its bytes count as held until the context ends.

        Raises:
            Problem: The upload is too large, takes too long, or is not one file; or too many bytes are held for other
                requests.
        """
        if int(request.headers.get("content-length", 0)) > self.largest + OVERHEAD:
            self._refuse_size()
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
            raise Problem(400, "bad_request", f"The body is not multipart/form-data. {_ADVICE}")
        received = [0]
        try:
            content = await self._file(request, received)
            if len(content) > self.largest:
                self._refuse_size()
            yield content
        finally:
            self.held -= received[0]

    async def _file(self, request: Request, received: list[int]) -> bytes:
        parser = MultiPartParser(request.headers, self._chunks(request, received), max_files=1, max_fields=0)
        parser.spool_max_size = self.largest + OVERHEAD + 1  # nothing is written to disk
        try:
            form = await parser.parse()
        except (MultiPartException, FormParserError) as error:
            message = f"The multipart body does not hold exactly one file. {_ADVICE}"
            raise Problem(400, "bad_request", message) from error
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise Problem(400, "bad_request", f"No whole file was sent in the field file. {_ADVICE}")
        content = await upload.read()
        await form.close()
        return content

    async def _chunks(self, request: Request, received: list[int]) -> AsyncGenerator[bytes, None]:
        """The body as it arrives; `received[0]` counts its bytes."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.seconds
        try:
            async with asyncio.timeout_at(loop.time() + self.seconds / 6) as deadline:
                async for chunk in request.stream():
                    deadline.reschedule(min(end, loop.time() + self.seconds / 6))
                    if received[0] + len(chunk) > self.largest + OVERHEAD:
                        self._refuse_size()
                    if self.held + len(chunk) > UPLOADS_AT_ONCE * self.largest:
                        raise Problem(503, "busy", "Too much was sent at once. Try again in a few seconds.")
                    received[0] += len(chunk)
                    self.held += len(chunk)
                    yield chunk
        except TimeoutError as error:
            message = f"The upload stalled, or took more than {self.seconds:g} s. Send it again."
            raise Problem(408, "timeout", message) from error
        except ClientDisconnect as error:
            raise Problem(400, "bad_request", "The connection was closed before the upload was complete.") from error

    def _refuse_size(self) -> NoReturn:
        limit = f"{self.largest / 2**20:g} MiB"
        raise Problem(413, "too_large", f"The file is larger than the limit of {limit}. Send a smaller one.")
