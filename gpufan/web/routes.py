"""The addresses of the page, and the answer to each. Before that, `guard` checks each request."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from typing import TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from gpufan.core.number import read_number
from gpufan.errors import GpufanError, InputError
from gpufan.web import access
from gpufan.web.assets import Assets
from gpufan.web.box import WebBox
from gpufan.web.guard import Guard, JsonResponse, PackedJsonResponse, Receive, Scope, Send
from gpufan.web.helper import ApplyRequest, DiffRequest, HelperRequest, UndoRequest
from gpufan.web.history_charts import POINTS, density_chart, history_chart
from gpufan.web.live import Live
from gpufan.web.page_settings import read_page_settings

STREAMS = 32
"""At most this many browsers receive events at the same time."""
_CHUNK_BYTES = 32768
"""Files are sent in pieces of this size, so that a slow client needs no more memory."""

_log = logging.getLogger(__name__)


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
            Route("/api/history", routes.history),
            Route("/api/density", routes.density),
            Route("/api/settings", routes.settings),
            Route("/api/model", routes.model),
            Route("/api/predict", routes.predict, methods=["POST"]),
            Route("/api/text", routes.text, methods=["POST"]),
            Route("/api/diff", routes.diff, methods=["POST"]),
            Route("/api/apply", routes.apply, methods=["POST"]),
            Route("/api/undo", routes.undo, methods=["POST"]),
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
        self.streams = 0
        """How many browsers receive events now."""

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
        """Answer with the cards, and whether the page can change settings."""
        return JsonResponse(self._box.description())

    async def recent(self, request: Request) -> Response:
        """Answer with the readings of the last ten minutes."""
        return PackedJsonResponse({"cards": self._box.live.recent.columns()}, request)

    async def events(self, _request: Request) -> Response:
        """Answer with a stream of events, until the browser or the server ends."""
        if self.streams >= STREAMS:
            return JsonResponse({"error": f"{STREAMS} pages are open already: close some"}, 503)
        return _EventResponse(self, self._box.live)

    async def history(self, request: Request) -> Response:
        """Answer with the history of all cards over a time."""
        query = _numbers_of(request, "begin_s", "end_s", "points")
        points = int(query.pop("points", POINTS))
        found = await asyncio.to_thread(history_chart, await self._box.history_folder(), points=points, **query)
        return PackedJsonResponse(found, request)

    async def density(self, request: Request) -> Response:
        """Answer with the time that each card had each temperature and duty."""
        query = _numbers_of(request, "begin_s", "end_s")
        found = await asyncio.to_thread(density_chart, await self._box.history_folder(), **query)
        return PackedJsonResponse(found, request)

    async def settings(self, _request: Request) -> Response:
        """Answer with the present settings."""
        return JsonResponse(await asyncio.to_thread(self._box.shown_settings))

    async def model(self, _request: Request) -> Response:
        """Answer with the state of the model of each card."""
        return JsonResponse(await asyncio.to_thread(self._box.model_states))

    async def predict(self, request: Request) -> Response:
        """Answer with the prediction: the last day with the settings of the page."""
        wanted = read_page_settings(await request.body())
        return JsonResponse(await asyncio.to_thread(self._box.prediction, wanted))

    async def text(self, request: Request) -> Response:
        """Answer with the text of a settings file that has the settings of the page."""
        wanted = read_page_settings(await request.body())
        return JsonResponse({"toml": await asyncio.to_thread(self._box.text_with, wanted), "error": ""})

    async def diff(self, request: Request) -> Response:
        """Answer with the difference that the settings of the page would make."""
        return await self._ask_helper(DiffRequest(read_page_settings(await request.body())))

    async def apply(self, request: Request) -> Response:
        """Make a change that `diff` has shown."""
        return await self._ask_helper(await _decode(request, ApplyRequest))

    async def undo(self, request: Request) -> Response:
        """Undo a change."""
        return await self._ask_helper(await _decode(request, UndoRequest))

    async def _ask_helper(self, request: HelperRequest) -> Response:
        """Answer with the answer of the helper. Raises GpufanError if there is none, or if it refuses."""
        applier = self._box.applier
        if applier is None:
            raise GpufanError(self._box.options.why_not_apply)
        return JsonResponse(await asyncio.to_thread(applier.answer, request))


class _EventResponse(StreamingResponse):
    """A stream of events. It is counted in `Routes.streams` from its beginning to its end."""

    def __init__(self, routes: Routes, live: Live) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(_events(live), headers=headers, media_type="text/event-stream")
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events. A browser that receives slowly misses some, and then receives the newest."""
        if connection := scope.get("state", {}).get("connection"):
            connection.limit_waiting_data()
        self._routes.streams += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._routes.streams -= 1


async def _events(live: Live) -> AsyncIterator[bytes]:
    """Yield each event as the browser receives it, until the server ends."""
    yield b"retry: 1000\n\n"
    number = 0
    while (event := await live.next_event(number)) is not None:
        number, data = event
        yield b"event: now\ndata: " + data + b"\n\n"


_T = TypeVar("_T")


async def _decode(request: Request, kind: type[_T]) -> _T:
    """Return the body of `request`, a JSON object of texts, as a value of `kind`. Raises InputError if it is none."""
    try:
        return kind(**msgspec.json.decode(await request.body(), type=dict[str, str]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError) as error:
        raise InputError(f"the request is wrong: {error}") from error


def _numbers_of(request: Request, *names: str) -> dict[str, float]:
    """Return the numbers in the query of `request`. Raises InputError for another name than `names`, or no number."""
    found: dict[str, float] = {}
    for name, value in request.query_params.multi_items():
        if name not in names or name in found:
            raise InputError(f"{name[:40]}: write only {', '.join(names)}, and each of them once")
        found[name] = read_number(value)
        if math.isnan(found[name]):
            raise InputError(f"{name}: '{value[:40]}' is not a number")
    return found


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    """Yield `content` in pieces."""
    for start in range(0, len(content), _CHUNK_BYTES):
        yield content[start : start + _CHUNK_BYTES]
