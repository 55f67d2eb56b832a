# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The Starlette application: routes, headers, clean errors. It only reads, on one thread with one connection."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    Summary,
    disable_created_metrics,
)
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from veilleuse.collector.errors import CollectorError
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.prometheus import CONTENT_TYPE, render_registry
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.web.auth import Door
from veilleuse.collector.web.look import Look, Outlook
from veilleuse.collector.web.metrics import fleet_exposition, hosts_exposition, series_bound
from veilleuse.collector.web.pages import first_page
from veilleuse.collector.web.words import Words, choose_language, words

log = logging.getLogger(__name__)

STATIC: Final = {"veilleuse.css": "text/css", "favicon.svg": "image/svg+xml"}
OPEN_ROUTES: Final = frozenset({"/healthz"})
"""Answered without a token: it says ok or not, nothing else."""
HEADERS: Final = (
    (
        b"content-security-policy",
        (
            b"default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
            b"frame-ancestors 'none'"
        ),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)


@dataclass(slots=True)
class Outlets:
    """What the handlers share."""

    outlook: Outlook
    settings: CollectorSettings
    version: str
    reading: Executor
    templates: Environment
    registry: CollectorRegistry
    render_seconds: float | None = None

    async def look(self) -> Look:
        """In the reading thread."""
        return await asyncio.get_running_loop().run_in_executor(self.reading, self.outlook.look)


def make_app(outlook: Outlook, settings: CollectorSettings, door: Door, version: str) -> ASGIApp:
    """The whole application, closed by `door`."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # the client leaves it untyped
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    outlets = Outlets(
        outlook,
        settings,
        version,
        ThreadPoolExecutor(1, "reading"),
        _templates(),
        registry,
    )
    routes = [
        Route("/", _first(outlets)),
        Route("/metrics", _metrics(outlets)),
        Route("/healthz", _healthz(outlets)),
        Route("/static/{name}", _static),
    ]
    if settings.http.hosts_metrics:
        routes.append(Route("/metrics/hosts", _hosts_metrics(outlets)))
    app = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: _http_error(outlets),
            CollectorError: _unreadable(outlets),
            Exception: _failed(outlets),
        },
    )
    durations = Summary(c.HTTP_DURATION.name, c.HTTP_DURATION.help, c.HTTP_DURATION.labels, registry=registry)
    return Gate(app, door, durations, _error_page(outlets))


Handler = Callable[[Request], Awaitable[Response]]


def _first(outlets: Outlets) -> Handler:
    async def first(request: Request) -> Response:
        """The day's energy and states."""
        look = await outlets.look()
        w = _words(request)
        return _html(
            outlets,
            "first.html",
            w,
            page=first_page(look, w),
            k=outlets.settings.reporting.k_anonymity,
            zone=outlets.settings.reporting.time_zone,
        )

    return first


def _metrics(outlets: Outlets) -> Handler:
    def render(began: float) -> str:
        look = outlets.outlook.look()
        out = fleet_exposition(look, outlets.version, outlets.settings.reporting.k_anonymity)
        out.add(c.SERIES_BOUND, (), series_bound(look.fleet))
        if outlets.render_seconds is not None:
            out.add(c.RENDER, (), outlets.render_seconds)
        text = out.render() + render_registry(outlets.registry)
        outlets.render_seconds = time.perf_counter() - began
        return text

    async def metrics(_request: Request) -> Response:
        """The catalogue, then this process."""
        loop = asyncio.get_running_loop()
        text = await loop.run_in_executor(outlets.reading, render, time.perf_counter())
        return Response(text, media_type=CONTENT_TYPE)

    return metrics


def _hosts_metrics(outlets: Outlets) -> Handler:
    async def hosts_metrics(_request: Request) -> Response:
        """Servers, one by one."""
        look = await outlets.look()
        return Response(hosts_exposition(look).render(c.PER_HOST), media_type=CONTENT_TYPE)

    return hosts_metrics


def _healthz(outlets: Outlets) -> Handler:
    async def healthz(_request: Request) -> Response:
        """Whether the store can be read."""
        try:
            await outlets.look()
        except CollectorError as error:
            log.warning("store unreadable", extra={"reason": str(error)})
            return PlainTextResponse("unreadable\n", 503)
        return PlainTextResponse("ok\n")

    return healthz


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        raise HTTPException(404)
    body = files("veilleuse.collector.web").joinpath("static", name).read_bytes()
    return Response(body, media_type=STATIC[name], headers={"cache-control": "max-age=3600"})


def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("veilleuse.collector.web", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _words(request: Request) -> Words:
    accept = request.headers.get("accept-language", "")
    return words(choose_language(request.query_params.get("lang"), accept))


def _html(outlets: Outlets, template: str, w: Words, code: int = 200, **values: object) -> Response:
    body = outlets.templates.get_template(template).render(w=w, version=outlets.version, code=code, **values)
    headers = {
        "content-language": w("lang"),
        "vary": "Accept-Language",
        "cache-control": "no-store",
    }
    return HTMLResponse(body, code, headers)


ErrorPage = Callable[[Request, int], Response]


def _error_page(outlets: Outlets) -> ErrorPage:
    def page(request: Request, code: int) -> Response:
        w = _words(request)
        key = f"error.{code}" if w.has(f"error.{code}") else "error.400"
        if request.url.path.startswith("/metrics"):
            return PlainTextResponse(words("en")(key) + "\n", code)
        return _html(outlets, "error.html", w, code, text=w(key))

    return page


def _http_error(outlets: Outlets) -> Callable[[Request, Exception], Response]:
    page = _error_page(outlets)

    def handle(request: Request, error: Exception) -> Response:
        code = error.status_code if isinstance(error, HTTPException) else 500
        response = page(request, code)
        if isinstance(error, HTTPException) and error.headers:
            response.headers.update(error.headers)  # Allow, on 405
        return response

    return handle


def _unreadable(outlets: Outlets) -> Callable[[Request, Exception], Response]:
    page = _error_page(outlets)

    def handle(request: Request, error: Exception) -> Response:
        log.error("store unreadable", extra={"reason": str(error)})
        return page(request, 503)

    return handle


def _failed(outlets: Outlets) -> Callable[[Request, Exception], Response]:
    page = _error_page(outlets)

    def handle(request: Request, error: Exception) -> Response:
        log.error("request failed", exc_info=error, extra={"path": request.url.path})
        return page(request, 500)

    return handle


class Gate:
    """Before every route: the Host header, the token; after it: the security headers and the duration."""

    def __init__(self, app: Starlette, door: Door, durations: Summary, page: ErrorPage) -> None:
        self._app = app
        self._door = door
        self._durations = durations
        self._page = page
        self._routes = {route.path for route in app.routes if isinstance(route, Route)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return
        began, status = time.perf_counter(), 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        refused = self._refuse(Request(scope))
        try:
            await (refused or self._app)(scope, receive, send_with_headers)
        finally:
            route = self._route(scope["path"])
            self._durations.labels(route, str(status)).observe(time.perf_counter() - began)

    def _refuse(self, request: Request) -> Response | None:
        if not self._door.knows_host(request.headers.get("host", "")):
            return self._page(request, 400)
        if request.url.path in OPEN_ROUTES or self._door.admits(request.headers.get("authorization")):
            return None
        response = self._page(request, 401)
        for challenge in ('Basic realm="veilleuse", charset="UTF-8"', "Bearer"):
            response.headers.append("www-authenticate", challenge)
        return response

    def _route(self, path: str) -> str:
        """A label from our own list, whatever was asked for."""
        if path.startswith("/static/"):
            return "/static/{name}"
        return path if path in self._routes else c.OTHER
