# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Watch a collector with a real Prometheus and Alertmanager, with the rules and routes of grafana/rules.

Two things differ from an installation: alerts do not wait (`for` and group_wait), and mails go to a web hook.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from tests.architecture.tree import ROOT
from tests.support.peers import peer
from tests.support.ports import free_ports
from tests.support.stack import Stack, get
from tests.support.waiting import PATIENCE_SECONDS, until

RULES = ROOT / "grafana/rules"
_MAILS = re.compile(r"    email_configs:\n(?: {6,}.*\n)+")


@dataclass(frozen=True)
class Notice:
    """One alert that Alertmanager sent."""

    at: float
    """Value of time.monotonic."""
    receiver: str
    name: str
    severity: str
    firing: bool
    labels: dict[str, str]
    annotations: dict[str, str]


class Watch:
    """A context manager: both programs, and a web hook that keeps every notice."""

    def __init__(self, folder: Path, url: str) -> None:
        """`url`: of the collector's pages."""
        self._folder = folder
        self._target = url.removeprefix("http://").rstrip("/")
        self.notices: list[Notice] = []
        self._cleanup = ExitStack()
        hook, alertmanager, cluster, prometheus = free_ports(4)
        self.prometheus = f"http://127.0.0.1:{prometheus}/"
        self._ports = hook, alertmanager, cluster, prometheus
        self.second = f"127.0.0.1:{prometheus}"
        """A second target of the job, which answers: Prometheus itself."""
        self._discovered = folder / "targets.json"

    def __enter__(self) -> Self:
        folder, (hook, alertmanager, _, prometheus) = self._folder, self._ports
        rules = re.sub(
            r"^ +(keep_firing_)?for: .*\n",
            "",
            (RULES / "veilleuse.yml").read_text("utf-8"),
            flags=re.MULTILINE,
        )
        (folder / "rules.yml").write_text(rules, encoding="utf-8")
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 5s, scrape_timeout: 5s, evaluation_interval: 1s}\n"
            f"rule_files: [{folder / 'rules.yml'}]\n"
            f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{alertmanager}']}}]}}]}}\n"
            "scrape_configs: [{job_name: veilleuse, file_sd_configs:"
            f" [{{files: [{self._discovered}], refresh_interval: 1s}}]}}]\n"
        )
        self.discover()
        (folder / "alertmanager.yml").write_text(self._routes(hook), encoding="utf-8")
        server = self._listen(hook)
        self._cleanup.callback(server.server_close)
        self._cleanup.callback(server.shutdown)
        self._start(
            "prometheus-alertmanager",
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{alertmanager}",
            "--cluster.listen-address=",
        )
        self._start(
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{prometheus}",
            "--log.level=warn",
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def firing(self) -> dict[tuple[str, str], Notice]:
        """Return (alert, severity) → last notice, of those that fire."""
        last = {(one.name, one.severity, json.dumps(one.labels, sort_keys=True)): one for one in self.notices}
        return {(one.name, one.severity): one for one in last.values() if one.firing}

    def wait_for(
        self, name: str, severity: str, seconds: float = PATIENCE_SECONDS, *, fires: bool = True
    ) -> float:
        """Wait until the alert fires, or does not any more; return the seconds since this call."""
        began = time.monotonic()
        what = f"{name} ({severity}) {'fires' if fires else 'ends'}; firing: {sorted(self.firing())}"
        until(lambda: ((name, severity) in self.firing()) is fires, what, seconds, every=0.1)
        return time.monotonic() - began

    def discover(self, *, both: bool = True) -> None:
        """Let service discovery find the collector, and the second target where asked."""
        targets = [self._target, self.second] if both else [self._target]
        new = self._discovered.with_suffix(".new")
        new.write_text(json.dumps([{"targets": targets}]), encoding="utf-8")
        new.replace(self._discovered)

    def _routes(self, hook: int) -> str:
        """Return the example's configuration with a web hook for each team's mails, and without waits."""
        text = (RULES / "alertmanager.yml").read_text("utf-8")
        hooks = f"    webhook_configs:\n      - url: http://127.0.0.1:{hook}/\n"
        text, mails = _MAILS.subn(hooks, text)
        assert mails == 2
        return re.sub(r"group_(wait|interval): .*", r"group_\1: 1s", text)

    def _listen(self, port: int) -> ThreadingHTTPServer:
        watch = self

        class Hook(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                watch.take(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", port), Hook)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def take(self, told: dict[str, Any]) -> None:
        """Keep the alerts of one message."""
        for one in told["alerts"]:
            labels = one["labels"]
            self.notices.append(
                Notice(
                    time.monotonic(),
                    told["receiver"],
                    labels["alertname"],
                    labels["severity"],
                    one["status"] == "firing",
                    labels,
                    one["annotations"],
                )
            )

    def _start(self, program: str, *arguments: str) -> None:
        with (self._folder / f"{program}.log").open("wb") as log:
            process = subprocess.Popen(
                [str(peer(program)), *arguments], stdout=log, stderr=subprocess.STDOUT, cwd=self._folder
            )

        def stop() -> None:
            process.terminate()
            process.wait(PATIENCE_SECONDS)

        self._cleanup.callback(stop)

    def ready(self) -> bool:
        """Tell whether Prometheus has scraped the collector."""
        try:
            asked = urllib.parse.urlencode({"query": f'up{{instance="{self._target}"}} == 1'})
            return '"1"' in get(f"{self.prometheus}api/v1/query?{asked}")
        except OSError:
            return False


@dataclass
class AlertScene:
    """A real collector, and who watches it."""

    stack: Stack
    pid: int
    watch: Watch


@contextmanager
def alert_scene(
    folder: Path,
    fill: Callable[[Path], None] = lambda _: None,
    settings: Mapping[str, str] | None = None,
    data: Path | None = None,
) -> Iterator[AlertScene]:
    """Run a collector on a directory that `fill` has filled. `data`: directory on another disk."""
    with Stack(folder, settings) as stack:
        if data is not None:
            stack.data = data
            stack.environment["VEILLEUSE__DATA_DIR"] = str(data)
        stack.must("veilleuse", "init")
        fill(stack.data)
        process = stack.start_collector()
        with Watch(folder, stack.url) as watch:
            stack.wait_for(watch.ready, "Prometheus reads the collector", process=process)
            yield AlertScene(stack, process.pid, watch)
