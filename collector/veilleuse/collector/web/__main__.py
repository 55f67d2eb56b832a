# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`python -m veilleuse.collector.web --config FILE`: builds the web process and runs it.

`veilleuse serve` starts it. Exit codes 0, 1, 2.
"""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from veilleuse.collector.errors import CollectorError, ConfigurationError
from veilleuse.collector.factors.book import KnownFactors
from veilleuse.collector.ipc import send
from veilleuse.collector.logs import configure, product_version
from veilleuse.collector.ports.directory import OpenReadStore, ReadStore
from veilleuse.collector.settings import CollectorSettings, read_settings
from veilleuse.collector.store import open_reader
from veilleuse.collector.web.access import AccessControl, MetricsAuth, read_metrics_auth
from veilleuse.collector.web.api.answers import Figures
from veilleuse.collector.web.api.handlers import ApiContext
from veilleuse.collector.web.app import make_app
from veilleuse.collector.web.connections import Connections
from veilleuse.collector.web.desk import Desk
from veilleuse.collector.web.metrics.indicators_monthly import MonthlyFigures
from veilleuse.collector.web.metrics.otlp import OtlpSender
from veilleuse.collector.web.metrics.scrape import MetricsWriter, series_bound
from veilleuse.collector.web.metrics.snapshot import SnapshotCache
from veilleuse.collector.web.server import SEND_BUFFER_BYTES, BoundedListener, DeadlineProtocol, OneTickServer
from veilleuse.wire.process import finish

log = logging.getLogger("veilleuse.collector.web")

FOLLOW_SECONDS: Final = 2.0
"""Seconds between two readings of the servers that changed: a look reads those of this time at most."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT.

    Return 0 = stopped on request, 1 = cannot serve, 2 = bad configuration.
    """
    return finish("veilleuse web", partial(_main, _parser().parse_args(arguments)))


def _main(options: argparse.Namespace) -> int:
    settings = read_settings(options.config, overrides=_overrides(options))
    return _serve(settings, read_metrics_auth(settings.http))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m veilleuse.collector.web", description="the web process")
    parser.add_argument("--config", type=Path, help="collector's TOML file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting by its dotted name, e.g. --set http.address=127.0.0.1:8640; repeat for more",
    )
    return parser


def _overrides(options: argparse.Namespace) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in options.set:
        key, separator, value = text.partition("=")
        if not separator:
            raise ConfigurationError(f"--set {text!r} must be KEY=VALUE, e.g. http.address=127.0.0.1:8640")
        found[key] = value
    return found


def _serve(settings: CollectorSettings, metrics_auth: MetricsAuth) -> int:
    configure(settings)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # we log start and stop ourselves
    with ExitStack() as cleanup:
        open_store = partial(open_reader, settings.data_dir)
        # Two connections: an answer of the API and the indicators' thread must not wait for each other.
        store, api_store = cleanup.enter_context(open_store()), cleanup.enter_context(open_store())
        api_context, access_control = build_api(
            settings, metrics_auth, product_version(), api_store, open_store
        )
        indicators = MonthlyFigures(settings, open_store, store.publications)
        cleanup.callback(indicators.stop)
        snapshots = SnapshotCache(
            store.data,
            settings,
            machine_figures=indicators.figures,
            month=indicators.month,
            month_is_of_older_rule=indicators.is_of_older_rule,
            month_facts=indicators.month_facts,
            balance=indicators.balance,
            grid=indicators.grid,
            fleet_emissions=indicators.fleet_emissions,
        )
        bound = series_bound(snapshots.take_snapshot().fleet)
        listener = _listen(metrics_auth)
        host, port = listener.getsockname()[:2]
        log.info("web ready", extra={"host": host, "port": port, "series_bound": bound})
        version = product_version()
        writer = MetricsWriter(snapshots, version, settings.reporting.k_anonymity)
        sender = writer.make_sender(settings.otlp) if settings.otlp.endpoint else None
        app = make_app(
            snapshots,
            settings,
            metrics_auth,
            version,
            api_context,
            access_control,
            open_store,
            writer=writer,
        )
        bounds = Connections(metrics_auth.is_proxy)
        server = OneTickServer(_server_options(app), bounds, app.application.state.keep_warm)
        listener.connections = server.bounds
        # uvicorn raises the signal again after it stops: the signal must not kill us before we close.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        indicators.start()
        _start_threads(cleanup, snapshots, sender)
        server.run(sockets=[listener])
        return 0 if server.started else 1


def _start_threads(cleanup: ExitStack, snapshots: SnapshotCache, sender: OtlpSender | None) -> None:
    stop = threading.Event()
    cleanup.callback(stop.set)
    threading.Thread(target=_follow, args=(snapshots, stop), name="servers", daemon=True).start()
    if sender is not None:
        threading.Thread(target=sender.run, args=(stop,), name="otlp", daemon=True).start()


def _server_options(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        http=DeadlineProtocol,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,  # seconds; `serve` kills after 2 s
        h11_max_incomplete_event_size=16 * 1024,
    )


def _follow(snapshots: SnapshotCache, stop: threading.Event) -> None:
    while not stop.wait(FOLLOW_SECONDS):
        with suppress(CollectorError):  # a look reports it
            snapshots.follow()


def _listen(metrics_auth: MetricsAuth) -> BoundedListener:
    """Bind the socket.

    Raises CollectorError with one line when the port is in use or the address is not this machine's.
    """
    try:
        family = socket.getaddrinfo(metrics_auth.host, metrics_auth.port, type=socket.SOCK_STREAM)[0]
        # Set the protocol: asyncio sets TCP_NODELAY only on connections of such a socket.
        listener = BoundedListener(family[0], socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # connections inherit it
        listener.bind(family[4])
    except OSError as error:
        raise CollectorError(
            f"cannot listen on {metrics_auth.host}:{metrics_auth.port}: {error.strerror or error}; "
            "stop what uses it, or set http.address"
        ) from error
    listener.set_inheritable(False)
    return listener


def build_api(
    settings: CollectorSettings,
    metrics_auth: MetricsAuth,
    version: str,
    store: ReadStore,
    open_store: OpenReadStore,
) -> tuple[ApiContext, AccessControl]:
    """Build the handlers and the access control of /api.

    `store` stays open as long as /api runs; `open_store` opens one for one answer. Raises DataDirectoryError,
    StoreTooNew, StoreDamaged.
    """
    reader = store.bounded

    def note_access(account_id: int, route: str, query: str, status: int, rows: int) -> None:
        send(
            settings.data_dir,
            "account_access",
            account_id=account_id,
            route=route,
            query=query,
            status=status,
            rows=rows,
        )

    def note_use(account_id: int) -> None:
        send(settings.data_dir, "account_use", account_id=account_id)

    figures = Figures(
        reader,
        open_store,
        settings,
        KnownFactors(reader.factor_versions).latest,
    )
    context = ApiContext(Desk(figures, settings, note_access), version)
    header = settings.http.account_header
    return context, AccessControl(metrics_auth, store.accounts, note_use, account_header=header)


if __name__ == "__main__":
    sys.exit(main())
