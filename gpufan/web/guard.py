"""The guard of the page: checks each request before a route sees it, and adds the security headers to each answer."""

import asyncio
import gzip
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gpufan.errors import GpufanError
from gpufan.web import access

BODY_BYTES = 65536
"""The body of a request may have this many bytes at most."""
BODY_S = 5.0
"""The body of a request must arrive within this time, s."""
_PACKED_BYTES = 2000
"""Answers with more bytes than this are compressed."""

_log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_LOCKED_PAGE = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>gpufan</title><h1>gpufan</h1>"
    "<p>This link was used already, or is too old. The terminal of <code>gpufan web</code> shows the next link;"
    " if the page runs as a service, <code>sudo gpufan web --url</code> prints one.</p>"
    '<p>If you have logged in: <a href="/">open the page</a>.</p></html>'
)


class JsonResponse(Response):
    """An answer in JSON, which no browser stores."""

    media_type = "application/json"

    def __init__(self, content: Any, status_code: int = 200) -> None:
        super().__init__(msgspec.json.encode(content), status_code, {"cache-control": "no-store"})


class PackedJsonResponse(JsonResponse):
    """A large answer in JSON, compressed if the browser accepts that."""

    def __init__(self, content: Any, request: Request) -> None:
        super().__init__(content)
        if len(self.body) > _PACKED_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
            self.body = gzip.compress(self.body, 5)
            self.headers["content-encoding"] = "gzip"
            self.headers["content-length"] = str(len(self.body))


class BodyError(GpufanError):
    """The body of a request is too large or too slow. `status` is the status of the answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Guard:
    """Checks each request before the application sees it, and adds the security headers to each answer."""

    def __init__(self, application: Any, sessions: access.Sessions, hosts: access.AllowedHosts) -> None:
        self._application = application
        self._sessions = sessions
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the application answer it."""
        if scope["type"] != "http":
            return
        connection = scope.get("state", {}).get("connection")
        if connection is not None:
            connection.begin_request()

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in access.SECURITY_HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        try:
            answer = await self._check(scope, receive, connection)
            if isinstance(answer, Response):
                await answer(scope, receive, send_with_headers)
            else:
                await self._application(scope, answer, send_with_headers)
        except BodyError as error:
            answer = JsonResponse({"error": str(error)}, error.status)
            answer.headers["connection"] = "close"  # the rest of the body is not received
            await answer(scope, receive, send_with_headers)
        finally:
            if connection is not None:
                connection.end_request()

    async def _check(self, scope: Scope, receive: Receive, connection: Any) -> Response | Receive:
        """Return the answer to a login, or to a request that is refused. Else return the function that receives it.

        Raises BodyError if the body is too large or too slow.
        """
        headers: dict[str, str] = {}
        for raw_name, raw_value in scope["headers"]:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            separator = "; " if name == "cookie" else ", "
            headers[name] = f"{headers[name]}{separator}{value}" if name in headers else value
        path, method = scope["path"], scope["method"]
        if refusal := access.refusal(method, path, headers, self._hosts):
            return JsonResponse({"error": refusal}, 403)
        if method == "GET" and path == "/" and (token := Request(scope).query_params.get("token")) is not None:
            if (secret := self._sessions.login(token)) is None:
                if self._sessions.has_session(headers.get("cookie", "")):
                    return RedirectResponse("/", 303, {"cache-control": "no-store"})
                return HTMLResponse(_LOCKED_PAGE, 403, {"cache-control": "no-store"})
            cookie = self._sessions.set_cookie(secret)
            return RedirectResponse("/", 303, {"set-cookie": cookie, "cache-control": "no-store"})
        if not self._sessions.has_session(headers.get("cookie", "")):
            if path == "/":
                return HTMLResponse(_LOCKED_PAGE, 403, {"cache-control": "no-store"})
            return JsonResponse({"error": "log in first: open the link that `gpufan web` prints"}, 403)
        if connection is not None:
            connection.is_known = True
        return await _receive_body(headers, receive) if method == "POST" else receive


async def _receive_body(headers: dict[str, str], receive: Receive) -> Receive:
    """Receive the body of a request. Return a function by which the application receives it again.

    Raises BodyError if the body is too large or too slow.
    """
    too_large = BodyError(413, f"the body of a request may have {BODY_BYTES} bytes at most")
    if int(headers.get("content-length", "0")) > BODY_BYTES:
        raise too_large
    body = b""

    async def read() -> None:
        nonlocal body
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > BODY_BYTES:
                raise too_large
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return

    try:
        await asyncio.wait_for(read(), BODY_S)
    except asyncio.TimeoutError:
        raise BodyError(408, f"the body of a request must arrive within {BODY_S:g} s") from None
    is_given = False

    async def receive_again() -> MutableMapping[str, Any]:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
