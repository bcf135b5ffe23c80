"""Errors of the HTTP interface: a status, a code and a message."""

from typing import Literal

from starlette.responses import JSONResponse

Code = Literal[
    "too_large",
    "unreadable",
    "not_accepted",
    "unsupported",
    "busy",
    "timeout",
    "bad_request",
    "unauthorized",
    "forbidden",
    "not_found",
    "failed",
]
RETRY_SECONDS = 2


class Problem(Exception):
    """A request that is refused; `message` says why and what to do, without anything that the client sent."""

    def __init__(self, status: int, code: Code, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def response(self) -> JSONResponse:
        """The answer to the client."""
        headers = {503: {"retry-after": str(RETRY_SECONDS)}, 401: {"www-authenticate": "Bearer"}}
        content = {"error": {"code": self.code, "message": self.message}}
        return JSONResponse(content, status_code=self.status, headers=headers.get(self.status))


def of_status(status: int) -> Problem:
    """The error for a status that the framework raised."""
    if status == 404:
        return Problem(404, "not_found", "No such address. GET /openapi.json lists all addresses.")
    if status == 405:
        message = "This address does not accept this method. GET /openapi.json lists the methods."
        return Problem(405, "bad_request", message)
    if status >= 500:
        return Problem(status, "failed", "The server failed. This is a defect of trcgl; please report it.")
    return Problem(status, "bad_request", "The request does not match GET /openapi.json.")
