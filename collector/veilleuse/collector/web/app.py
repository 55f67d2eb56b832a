# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the Starlette application: routes, security headers, error pages.

It only reads, on one thread and connection. The Host header and access are checked before every route.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from importlib.resources import files
from typing import Final
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from prometheus_client import Summary
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from veilleuse.collector.clock import unix_seconds
from veilleuse.collector.documents.text import words
from veilleuse.collector.errors import CollectorError
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.prometheus import CONTENT_TYPE
from veilleuse.collector.ports.directory import OpenReadStore
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.web.access import (
    GUARDS,
    NO_ROUTE_GUARD,
    STATE,
    UNLISTED_GUARD,
    AccessControl,
    Guard,
    MetricsAuth,
    caller_of,
)
from veilleuse.collector.web.api.description import api_page
from veilleuse.collector.web.api.handlers import ApiContext
from veilleuse.collector.web.desk import RETRY_SECONDS
from veilleuse.collector.web.metrics.samples import hosts_exposition
from veilleuse.collector.web.metrics.scrape import MetricsWriter
from veilleuse.collector.web.metrics.snapshot import SnapshotCache
from veilleuse.collector.web.pages.frame import Look, PageContext, WebPage
from veilleuse.collector.web.pages.preparation import LastLook, Preparation, keep_warm
from veilleuse.collector.web.pages.table import PAGES
from veilleuse.collector.web.problems import Problem, problem_of_status, words_of
from veilleuse.collector.web.sign_in import SIGN_IN, SIGN_OUT, local_path, sign_in_routes

log = logging.getLogger(__name__)

HEADERS: Final = (
    (
        b"content-security-policy",
        (
            b"default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; "
            b"frame-ancestors 'none'"
        ),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)

ErrorPage = Callable[[Request, int], Response]
"""Builds the page of a status code, in the reader's language."""


class SecurityMiddleware:
    """Checks requests before every route, then adds the security headers and observes the duration."""

    def __init__(
        self,
        app: Starlette,
        metrics_auth: MetricsAuth,
        durations: Summary,
        page: ErrorPage,
        access_control: AccessControl | None = None,
    ) -> None:
        """Take the access rules; without `access_control` there are no accounts."""
        self._app = app
        self._metrics_auth = metrics_auth
        self._access_control = access_control or AccessControl(metrics_auth)
        self._durations = durations
        self._page = page
        self._routes = {route.path for route in app.routes if isinstance(route, Route)}

    @property
    def application(self) -> Starlette:
        """Return the wrapped application."""
        return self._app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI request."""
        if scope["type"] != "http":
            return
        began, status = time.perf_counter(), 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        try:
            refused = await self._refuse(Request(scope))
            await (refused or self._app)(scope, receive, send_with_headers)
        finally:
            route = self._route(scope["path"])
            self._durations.labels(route, str(status)).observe(time.perf_counter() - began)

    async def _refuse(self, request: Request) -> Response | None:
        """Return the error page of a refused request; None when it may pass."""
        if not self._metrics_auth.knows_host(request.headers.get("host", "")):
            return self._page(request, 400)
        route = self._route(request.scope["path"])  # the router's path, whatever the Host header is
        guard = NO_ROUTE_GUARD if route == c.OTHER else _GUARDS.get(route, UNLISTED_GUARD)
        is_open = guard is Guard.OPEN
        if is_open and not _is_page(request.scope["path"], route):
            return None
        try:
            # an open page has the menu of who signed in
            is_page = _is_page(request.scope["path"], route)
            caller = await self._access_control.caller(request, is_page=is_page)
        except CollectorError as error:
            log.error("accounts unreadable", extra={"reason": str(error)})
            return None if is_open else self._page(request, 503)
        request.scope.setdefault("state", {})[STATE] = caller
        if caller.may(guard):
            return None
        if caller.account is not None:
            return self._page(request, 403)
        if caller.wrong_token and not self._access_control.has_tries_left(request):
            response = self._page(request, 429)
            response.headers["retry-after"] = "60"
            return response
        response = self._page(request, 401)
        response.headers.append("www-authenticate", "Bearer")
        if (
            route not in _PAGES_BY_PATH and route != c.OTHER
        ):  # there our form asks, not the browser's dialogue
            response.headers.append("www-authenticate", 'Basic realm="veilleuse", charset="UTF-8"')
        return response

    def _route(self, path: str) -> str:
        """Return the route's label, from our own closed list whatever the path is."""
        if path.startswith("/static/"):
            return "/static/{name}"
        return path if path in self._routes else c.OTHER


SCRAPE_HEADER: Final = "x-prometheus-scrape-timeout-seconds"
"""Sent by Prometheus and the agents that scrape like it, and by no browser."""
STATIC: Final = {"veilleuse.css": "text/css", "favicon.svg": "image/svg+xml"}


_PAGES_BY_PATH: Final = {page.path: page for page in PAGES}
_GUARDS: Final = {
    **GUARDS,
    SIGN_IN: Guard.OPEN,
    SIGN_OUT: Guard.OPEN,
    **{page.path: page.guard for page in PAGES},
}


def _is_page(path: str, route: str) -> bool:
    """Tell whether a path is for people: a page, the form, or one that does not exist outside the API."""
    return route in _PAGES_BY_PATH or route == SIGN_IN or (route == c.OTHER and not path.startswith("/api/"))


@dataclass(frozen=True, slots=True)
class HandlerContext:
    """Objects that the handlers share."""

    pages: PageContext
    version: str
    templates: Environment
    metrics: MetricsWriter
    preparation: Preparation = field(default_factory=Preparation)

    @property
    def settings(self) -> CollectorSettings:
        """Return the collector's settings."""
        return self.pages.settings


def make_app(
    snapshots: SnapshotCache,
    settings: CollectorSettings,
    metrics_auth: MetricsAuth,
    version: str,
    api_context: ApiContext | None = None,
    access_control: AccessControl | None = None,
    open_store: OpenReadStore | None = None,
    clock: Callable[[], float] = unix_seconds,
    writer: MetricsWriter | None = None,
) -> SecurityMiddleware:
    """Build the application. Without `api_context` it has no figures; without `access_control`, no accounts.

    `clock`: Unix seconds. `writer` answers /metrics; None makes one.
    """
    desk = None if api_context is None else api_context.desk
    pages = PageContext(snapshots, settings, ThreadPoolExecutor(1, "reading"), desk, open_store, clock)
    writer = writer or MetricsWriter(snapshots, version, settings.reporting.k_anonymity)
    context = HandlerContext(pages, version, _templates(), writer)
    access_control = access_control or AccessControl(metrics_auth)
    routes = [
        *(Route(page.path, _page(context, page)) for page in PAGES),
        *sign_in_routes(access_control, partial(_sign_in_page, context)),
        Route("/metrics", _metrics(context)),
        Route("/healthz", _healthz(context)),
        Route("/static/{name}", _static),
    ]
    if settings.http.hosts_metrics:
        routes.append(Route("/metrics/hosts", _hosts_metrics(context)))
    if api_context is not None:
        routes += [Route("/api", _api(context)), *api_context.routes()]
    app = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: _http_error(context),
            ClientDisconnect: _hung_up,
            CollectorError: _log_failure(context),
            Exception: _log_failure(context),
        },
    )
    app.state.preparation = context.preparation
    app.state.keep_warm = partial(keep_warm, pages, context.preparation)
    app.router.redirect_slashes = False  # behind a proxy a redirect would leave TLS, with the token
    return SecurityMiddleware(
        app, metrics_auth, context.metrics.durations, _error_page(context), access_control
    )


Handler = Callable[[Request], Awaitable[Response]]


def _page(context: HandlerContext, page: WebPage) -> Handler:
    async def show(request: Request) -> Response:
        """Answer a page of the table."""
        look = _look(context, request)

        async def make() -> Response | dict[str, object]:
            built = await page.build(look)
            if isinstance(built, Response):
                return built
            return {**built, "simulated": page.guard is not Guard.OPEN and await look.is_simulated()}

        try:
            built = await context.preparation.build(look, make)
        except Problem as problem:
            return _html(context, "error.html", look, problem.status, text=problem.sentence(look.w))
        if built is None:
            return _come_back(_html(context, "not_ready.html", look, 503))  # what a probe sees
        if isinstance(built, LastLook):
            zone = ZoneInfo(context.settings.reporting.time_zone)
            time = f"{datetime.fromtimestamp(built.unix_seconds, zone):%H:%M}"
            return _come_back(_html(context, f"{page.name}.html", look, as_of=time, **built.built))
        return built if isinstance(built, Response) else _html(context, f"{page.name}.html", look, **built)

    return show


def _come_back(response: Response) -> Response:
    """Let the browser come back by itself for what is being prepared."""
    response.headers.update({"retry-after": str(RETRY_SECONDS), "refresh": str(RETRY_SECONDS)})
    return response


def _sign_in_page(context: HandlerContext, request: Request, code: int, error: str) -> Response:
    """Answer the form that takes a token."""
    look = _look(context, request)
    is_form = request.url.path == SIGN_IN
    asked = request.query_params.get("next") or look.link("/") if is_form else _path_and_query(request)
    return _html(context, "sign_in.html", look, code, error=error, next=local_path(asked))


def _look(context: HandlerContext, request: Request) -> Look:
    return Look(request, words_of(request), caller_of(request), context.pages)


def _path_and_query(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _api(context: HandlerContext) -> Handler:
    async def api(request: Request) -> Response:
        """Answer the page /api, which describes the API for people."""
        look = _look(context, request)
        k = context.settings.reporting.k_anonymity
        return _html(context, "api.html", look, page=api_page(look.w), k=k)

    return api


def _metrics(context: HandlerContext) -> Handler:
    async def metrics(request: Request) -> Response:
        """Answer the catalogue's metrics, then those of this process."""
        accept, began = request.headers.get("accept", ""), time.perf_counter()
        if SCRAPE_HEADER in request.headers:
            context.pages.scrape.unix_seconds = context.pages.clock()
        loop = asyncio.get_running_loop()
        text, content_type = await loop.run_in_executor(
            context.pages.reading, context.metrics.write, accept, began
        )
        headers = {"vary": "Accept, Authorization, Cookie", "cache-control": "no-store"}
        return Response(text, media_type=content_type, headers=headers)

    return metrics


def _hosts_metrics(context: HandlerContext) -> Handler:
    async def hosts_metrics(_request: Request) -> Response:
        """Answer the metrics of single servers."""
        loop = asyncio.get_running_loop()
        out = await loop.run_in_executor(context.pages.reading, hosts_exposition, context.pages.snapshots)
        return Response(out.text(c.PER_HOST), media_type=CONTENT_TYPE)

    return hosts_metrics


def _healthz(context: HandlerContext) -> Handler:
    async def healthz(_request: Request) -> Response:
        """Answer 200 when the store can be read."""
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(context.pages.reading, context.pages.snapshots.take_snapshot)
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
    environment = Environment(
        loader=PackageLoader("veilleuse.collector.web", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["once"] = _make_once()
    return environment


def _make_once() -> Callable[..., str]:
    """Return a function that renders a block once for each key, so that strangers may ask for it cheaply."""
    kept: dict[tuple[str, ...], str] = {}

    def once(*key: str, caller: Callable[[], str]) -> str:
        if key not in kept:
            kept[key] = caller()
        return kept[key]

    return once


def _html(context: HandlerContext, template: str, look: Look, code: int = 200, **values: object) -> Response:
    """Render a template. The menu has the pages that the caller may open."""
    w, menu = look.w, [page for page in PAGES if page.in_menu and look.caller.may(page.guard)]
    always = {"w": w, "version": context.version, "code": code, "look": look, "menu": menu}
    body = context.templates.get_template(template).render(
        always | {"simulated": False, "as_of": ""} | values
    )
    headers = {
        "content-language": w("lang"),
        "vary": "Accept-Language, Cookie",
        "cache-control": "no-store",
    }
    return HTMLResponse(body, code, headers)


def _error_page(context: HandlerContext) -> ErrorPage:
    def page(request: Request, code: int) -> Response:
        if request.url.path.startswith("/api/"):
            return problem_of_status(code).response(request)
        look = _look(context, request)
        w = look.w
        key = next((key for key in (f"error.{code}", f"api.error_{code}") if w.has(key)), "error.400")
        if request.url.path.startswith("/metrics"):
            return PlainTextResponse(words("en")(key) + "\n", code)
        if code == 401:
            return _sign_in_page(context, request, code, "")
        return _html(context, "error.html", look, code, text=w(key))

    return page


def _http_error(context: HandlerContext) -> Callable[[Request, Exception], Response]:
    page = _error_page(context)

    def handle(request: Request, error: Exception) -> Response:
        code = error.status_code if isinstance(error, HTTPException) else 500
        response = page(request, code)
        if isinstance(error, HTTPException) and error.headers:
            response.headers.update(error.headers)  # Allow, for 405
        return response

    return handle


def _hung_up(_request: Request, _error: Exception) -> Response:
    """Answer a client that is gone, or that was cut: nobody reads it, and nothing is wrong here."""
    return Response(status_code=400)


def _log_failure(context: HandlerContext) -> Callable[[Request, Exception], Response]:
    page = _error_page(context)

    def handle(request: Request, error: Exception) -> Response:
        if isinstance(error, CollectorError):
            log.error("store unreadable", extra={"reason": str(error)})
            return page(request, 503)
        log.error("request failed", exc_info=error, extra={"path": request.url.path})
        return page(request, 500)

    return handle
