"""The server behind `livelist ui`: the page, and the JSON that it is made of. It writes nothing.

`ENDPOINTS` documents what other programs can call; `GET /api` answers the same.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.text import pseudonym
from pipeline.cli.parsing import one_line
from pipeline.ui import lists
from pipeline.ui.overview import overview, standing
from pipeline.ui.tables import Tables

#: Path -> what it answers. Every answer is JSON in UTF-8, times RFC 3339 in UTC; a path's user id is
#: percent-encoded. Failures are {"error": code, "message": ...}.
ENDPOINTS: Final[dict[str, str]] = {
    "/api/users?q=&order=match|recent|random&limit=20": (
        "users with a current list: those whose id begins with or holds q (default with q), the most "
        "recently refreshed (default without), or any one; with how many match and how many there are"
    ),
    "/api/users/{id}/list": (
        "the current list: items with rank, title, score and reasons, the events that the reasons cite, "
        "versions of model, index and state, times and freshness. 404 unknown_user with the nearest ids, "
        "410 erased_user"
    ),
    "/api/users/{id}/history?limit=20&before=": (
        "versions of the list, the newest first, numbered from 1: each with its items, what entered, left "
        "and moved since the one before, and the events that triggered it; `before` a number pages back"
    ),
    "/api/overview": (
        "the books, lists over time, freshness in seconds (null in a bounded run), tone by topic, alerts, "
        "rejected records by error code, rows of every table"
    ),
    "/api/changes": (
        "server-sent events: `tables`, at first and whenever a table changed, with a stamp for each table"
    ),
    "/healthz": "200 while the server answers; whether there are tables, of which run, published when",
}

POLL_SECONDS: Final = 1.0
_KEEP_ALIVE_SECONDS: Final = 15.0
_MOST: Final = 100
_LIMIT: Final = 20
_PAGE: Final = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class _Refused(Exception):
    def __init__(self, status: int, error: str, message: str, **more: object) -> None:
        super().__init__(message)
        self.status = status
        self.content = {"error": error, "message": message, **more}


def make_app(
    output: Path,
    user_id_key: bytes | None = None,
    hosts: tuple[str, ...] = ("*",),
    stopping: Callable[[], bool] = lambda: False,
) -> Starlette:
    """The application over the tables of one folder.

    With `user_id_key` a user can be asked for by the raw id. Requests whose Host header is none of
    `hosts` are refused, so that no web site can point a name of its own at this machine. Streams end
    when `stopping()` does.
    """
    tables = Tables(output)
    names = _Names(user_id_key)

    def about(request: Request) -> Response:
        return JSONResponse({"endpoints": ENDPOINTS})

    def users(request: Request) -> Response:
        return JSONResponse(_users(tables, names, request))

    def current_list(request: Request) -> Response:
        return _of_user(tables, request, lambda user: lists.current_list(tables, user), names)

    def history(request: Request) -> Response:
        limit, before = _whole(request, "limit", _LIMIT, _MOST), _whole(request, "before", None, 1 << 53)
        assert limit is not None  # it has a default
        return _of_user(tables, request, lambda user: lists.history(tables, user, limit, before), names)

    def at_a_glance(request: Request) -> Response:
        return JSONResponse(overview(tables))

    def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", **standing(tables)})

    async def changes(request: Request) -> Response:
        return StreamingResponse(_changes(tables, stopping), media_type="text/event-stream")

    return Starlette(
        routes=[
            *(Route(path, _page(*named)) for path, named in _PAGE.items()),
            Route("/api", about),
            Route("/api/users", users),
            Route("/api/users/{user_id:path}/list", current_list),
            Route("/api/users/{user_id:path}/history", history),
            Route("/api/overview", at_a_glance),
            Route("/api/changes", changes),
            Route("/healthz", health),
        ],
        middleware=[Middleware(_Headers), Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={
            _Refused: _refuse,
            404: _not_found,
            OSError: _unreadable,
            pa.ArrowInvalid: _unreadable,
        },
    )


class _Names:
    """Users as they are asked for: by the id in the tables or, with the key of the run, by the raw one."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key

    def candidates(self, asked: str) -> list[str]:
        """Ids in the tables that may be meant, the likelier first."""
        return [asked] if self._key is None else [pseudonym(asked, self._key), asked]


def _users(tables: Tables, names: _Names, request: Request) -> lists.Json:
    query = request.query_params.get("q", "")
    order = request.query_params.get("order", "match" if query else "recent")
    limit = _whole(request, "limit", _LIMIT, _MOST)
    assert limit is not None  # it has a default
    if order == "recent":
        return lists.recent_users(tables, limit)
    if order == "random":
        return lists.random_user(tables)
    if order != "match":
        raise _Refused(400, "bad_parameter", f"order: expected match, recent or random, got {order!r}")
    for asked in names.candidates(query):
        found = lists.find_users(tables, asked, limit)
        if found["users"]:
            break
    return found


def _of_user(
    tables: Tables, request: Request, answer: Callable[[str], lists.Json], names: _Names
) -> Response:
    asked = request.path_params["user_id"]
    if not tables.exist():
        raise _Refused(503, "no_tables", "no run has published its tables in this folder yet")
    unknown: lists.UnknownUser | None = None
    for user_id in names.candidates(asked):
        try:
            return JSONResponse(answer(user_id))
        except lists.UnknownUser as error:
            unknown = error if unknown is None or error.erased else unknown
    assert unknown is not None  # there is a candidate
    if unknown.erased:
        raise _Refused(410, "erased_user", "this user was erased: there is no list and no evidence any more")
    raise _Refused(404, "unknown_user", "no list of this user is in these tables", nearest=unknown.nearest)


def _whole(request: Request, name: str, default: int | None, most: int) -> int | None:
    text = request.query_params.get(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 17 and 1 <= int(text) <= most):
        raise _Refused(
            400, "bad_parameter", f"{name}: expected a whole number from 1 to {most}, got {text[:40]!r}"
        )
    return int(text)


def _page(name: str, kind: str) -> Callable[[Request], Response]:
    content = (files("pipeline.ui") / "page" / name).read_bytes()

    def page(request: Request) -> Response:
        return Response(content, media_type=kind)

    return page


async def _changes(tables: Tables, stopping: Callable[[], bool]) -> AsyncIterator[str]:
    """Looks at the folder once a second, and speaks when a table has changed."""
    told: Mapping[str, str] | None = None
    quiet = 0.0
    while not stopping():
        stamps = await asyncio.to_thread(tables.stamps)
        if stamps != told:
            told, quiet = stamps, 0.0
            yield f"event: tables\ndata: {json.dumps(stamps)}\n\n"
        elif quiet >= _KEEP_ALIVE_SECONDS:
            quiet = 0.0
            yield ": nothing new\n\n"
        await asyncio.sleep(POLL_SECONDS)
        quiet += POLL_SECONDS


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, _Refused)
    return JSONResponse(error.content, error.status)


async def _unreadable(request: Request, error: Exception) -> Response:
    told = {"error": "unreadable_tables", "message": f"a table cannot be read: {one_line(error)}"}
    return JSONResponse(told, 500)


async def _not_found(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "not_found", "message": "see /api for what there is"}, 404)


class _Headers:
    """Nothing is cached, and the page may load and run what is this server's own, nothing else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added: list[Any] = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)
