"""The outermost layer of the application: access checks, security headers, log lines and counters.

A log line has the method, the route, the status and the time, and nothing that a client sent.
"""

import asyncio
import hmac
import ipaddress
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trcgl.serve.metrics import Metrics
from trcgl.serve.problem import Problem, of_status

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
LINGER_SECONDS = 2.0
"""How long the rest of a refused upload is read and discarded, so that the client sees the reason."""
OPEN = ("/", "/healthz", "/openapi.json")
OPEN_BELOW = ("/page/", "/v1/samples/")
"""Addresses that need no token: their content depends neither on the model nor on a patient."""
_METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH")
_log = logging.getLogger("trcgl.serve")


@dataclass(frozen=True)
class Access:
    """Decides which requests are answered."""

    names: frozenset[str]
    """Host names that the server answers to."""
    any_address: bool
    """Answer to any IP address as well; DNS rebinding needs a name."""
    token: str | None
    """Token that clients must send, or None."""

    def check(self, scope: Scope) -> None:
        """Check the host name, the origin and the token of a request.

        Raises:
            Problem: The request is refused.
        """
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._answers_to(host):
            message = "The server does not answer to this host name. Use its own address, or start it with --names."
            raise Problem(403, "forbidden", message)
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            _check_origin(headers, host)
        path = scope["path"]
        if self.token is not None and path not in OPEN and not path.startswith(OPEN_BELOW):
            _check_token(headers.get("authorization", ""), self.token)

    def _answers_to(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self.names:
            return True
        with suppress(ValueError):
            return self.any_address and bool(ipaddress.ip_address(name))
        return False


def _check_token(given: str, expected: str) -> None:
    kind, _, token = given.partition(" ")
    if kind.lower() != "bearer" or not hmac.compare_digest(token.strip().encode("latin-1"), expected.encode()):
        message = "The token is missing or wrong. Send the header: Authorization: Bearer TOKEN."
        raise Problem(401, "unauthorized", message)


def _check_origin(headers: Headers, host: str) -> None:
    """Refuse requests that a page of another site makes a browser send; other programs send neither header."""
    site, origin = headers.get("sec-fetch-site", "none"), headers.get("origin")
    if site not in ("same-origin", "none") or (origin is not None and origin.partition("://")[2] != host):
        raise Problem(403, "forbidden", "A page of another site may not send files here. Use the server's own page.")


class Guard:
    """ASGI middleware: checks access, adds security headers, logs and counts."""

    def __init__(self, app: ASGIApp, access: Access, metrics: Metrics) -> None:
        self._app, self._access, self._metrics = app, access, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or the start and end of the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        exchange, start = _Exchange(scope, receive, send), time.perf_counter()
        if method == "HEAD":  # answered as GET is, without the body
            scope = {**scope, "method": "GET"}
        try:
            self._access.check(scope)
            await self._app(scope, exchange.receive, exchange.send)
        except Problem as problem:
            await problem.response()(scope, exchange.receive, exchange.send)
        except Exception as error:  # a defect; its message may quote the request, so only its type is logged
            _log.error("defect of trcgl: %s", type(error).__name__)
            if not exchange.status:
                await of_status(500).response()(scope, exchange.receive, exchange.send)
        seconds, route = time.perf_counter() - start, getattr(scope.get("route"), "path", "other")
        self._metrics.requests.labels(route, str(exchange.status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        _log.info("%s %s %d %.0f ms", method, route, exchange.status, 1000 * seconds)


class _Exchange:
    """One request and its answer, which carries the security headers.

    An answer to a half-read upload closes the connection after the rest was discarded for a while.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.status = 0
        self._receive, self._send, self._without_body = receive, send, scope["method"] == "HEAD"
        headers = Headers(scope=scope)
        self._unread = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers

    async def receive(self) -> Message:
        message = await self._receive()
        if not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=list(message.get("headers", ())))
            headers.update(HEADERS)
            if self._unread:
                headers["connection"] = "close"
            message = {**message, "headers": headers.raw}
        elif self._without_body:
            message = {**message, "body": b""}
        elif self._unread and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _linger(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while self._unread:
                    await self.receive()
