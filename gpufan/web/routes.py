"""The addresses of the page, and the answer to each. The guard before them checks who asks."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from gpufan import __version__
from gpufan.errors import GpufanError
from gpufan.web import access
from gpufan.web.assets import Assets
from gpufan.web.box import WebBox

BODY_BYTES = 65536
"""The body of a request may have this many bytes."""
BODY_S = 5.0
"""The body of a request must arrive within this time, s."""
STREAMS = 32
"""At most this many browsers receive events at the same time."""
_CHUNK_BYTES = 32768
"""Files are sent in pieces of this size, so that a slow client needs no more memory."""

_log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_LOCKED_PAGE = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>gpufan</title><h1>gpufan</h1>"
    "<p>This link was used already, or is too old. Run <code>gpufan web</code> again for a new link,"
    " or <code>sudo gpufan web --url</code> if the page runs as a service.</p>"
    '<p>If you have logged in: <a href="/">open the page</a>.</p></html>'
)


class JsonResponse(Response):
    """An answer in JSON, which no browser stores."""

    media_type = "application/json"

    def __init__(self, content: Any, status_code: int = 200) -> None:
        super().__init__(msgspec.json.encode(content), status_code, {"cache-control": "no-store"})


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
        except GpufanError as error:
            status = error.status if isinstance(error, BodyError) else 400
            await JsonResponse({"error": str(error)}, status)(scope, receive, send_with_headers)
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
                return HTMLResponse(_LOCKED_PAGE, 403, {"cache-control": "no-store"})
            cookie = self._sessions.set_cookie(secret)
            return RedirectResponse("/", 303, {"set-cookie": cookie, "cache-control": "no-store"})
        if not self._sessions.has_session(headers.get("cookie", "")):
            if path == "/":
                return HTMLResponse(_LOCKED_PAGE, 403, {"cache-control": "no-store"})
            return JsonResponse({"error": "log in first: open the link that `gpufan web` prints"}, 403)
        if connection is not None:
            connection.is_known = True
        return await _receive_whole(headers, receive) if method == "POST" else receive


async def _receive_whole(headers: dict[str, str], receive: Receive) -> Receive:
    """Receive the body of a request. Return a function that gives it to the application.

    Raises BodyError if the body is too large or too slow.
    """
    too_large = BodyError(413, f"the body of a request may have {BODY_BYTES} bytes")
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


def make_application(box: WebBox, assets: Assets, sessions: access.Sessions, hosts: access.AllowedHosts) -> Guard:
    """Return the ASGI application of the page."""
    routes = Routes(box, assets)
    application = Starlette(
        routes=[
            Route("/", routes.page),
            Route("/static/{name}", routes.static),
            Route("/static/{digest}/{name}", routes.static),
            Route("/api/box", routes.box),
            Route("/api/events", routes.events),
            Route("/api/recent", routes.recent),
        ],
        exception_handlers={404: _not_found, 405: _not_found, GpufanError: _bad_request, Exception: _failed},
    )
    return Guard(application, sessions, hosts)


async def _not_found(_request: Request, _error: Exception) -> Response:
    return JsonResponse({"error": "there is nothing at this address"}, 404)


async def _bad_request(_request: Request, error: Exception) -> Response:
    return JsonResponse({"error": str(error)}, 400)


async def _failed(request: Request, error: Exception) -> Response:
    _log.error("%s: %s: %s (this is a bug)", request.url.path, type(error).__name__, error)
    return JsonResponse({"error": "this is a bug: the terminal of `gpufan web` shows more"}, 500)


class Routes:
    """The answers to requests of browsers that have logged in."""

    def __init__(self, box: WebBox, assets: Assets) -> None:
        self._box = box
        self._assets = assets
        self._streams = 0

    async def page(self, _request: Request) -> Response:
        """Answer with the page itself."""
        return HTMLResponse(self._assets.index(), headers={"cache-control": "no-store"})

    async def static(self, request: Request) -> Response:
        """Answer with a file of the page."""
        asset = self._assets.files.get(request.path_params["name"])
        digest = request.path_params.get("digest", self._assets.digest)
        if asset is None or digest != self._assets.digest:
            return await _not_found(request, Exception())
        headers = {"etag": f'"{digest}"', "vary": "accept-encoding"}
        is_for_ever = "digest" in request.path_params
        headers["cache-control"] = "private, max-age=31536000, immutable" if is_for_ever else "no-cache"
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
            content = await asyncio.to_thread(asset.packed)
        else:
            content = await asyncio.to_thread(asset.content)
        headers["content-length"] = str(len(content))
        return StreamingResponse(_pieces(content), headers=headers, media_type=asset.media_type)

    async def box(self, _request: Request) -> Response:
        """Answer with the cards and the abilities of the page."""
        return JsonResponse({"version": __version__, **self._box.description()})

    async def recent(self, _request: Request) -> Response:
        """Answer with the readings of the last ten minutes."""
        return JsonResponse({"cards": self._box.live.recent.columns()})

    async def events(self, _request: Request) -> Response:
        """Answer with a stream of events, until the browser or the server ends."""
        if self._streams >= STREAMS:
            return JsonResponse({"error": f"{STREAMS} pages are open already: close some"}, 503)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self._event_stream(), headers=headers, media_type="text/event-stream")

    async def _event_stream(self) -> AsyncIterator[bytes]:
        """Yield the events of the stream."""
        self._streams += 1
        try:
            yield b"retry: 1000\n\n"
            number = 0
            while (event := await self._box.live.next_event(number)) is not None:
                number, data = event
                yield b"event: now\ndata: " + data + b"\n\n"
        finally:
            self._streams -= 1


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    """Yield `content` in pieces."""
    for start in range(0, len(content), _CHUNK_BYTES):
        yield content[start : start + _CHUNK_BYTES]
