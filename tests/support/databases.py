# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run Debian's VictoriaMetrics on loopback, and query it or a Prometheus."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
from pathlib import Path
from typing import Any, Self

from tests.support.peers import peer
from tests.support.ports import free_port
from tests.support.stack import get
from tests.support.waiting import PATIENCE_SECONDS, until


class VictoriaMetrics:
    """One single-node VictoriaMetrics; a context manager that stops it."""

    def __init__(self, folder: Path, *options: str) -> None:
        """`folder` holds its data and its log, and outlives a restart."""
        self._folder = folder
        self._options = options
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}/"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [
            str(peer("victoria-metrics")),
            f"-storageDataPath={self._folder / 'victoria-metrics'}",
            f"-httpListenAddr=127.0.0.1:{self._port}",
            "-retentionPeriod=10y",
            "-search.latencyOffset=0s",  # what was written a moment ago is found
            "-loggerLevel=WARN",
            *self._options,
        ]
        with (self._folder / "victoria-metrics.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        until(self._answers, "VictoriaMetrics does not start")

    def stop(self) -> None:
        """Stop it; its data stays."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    def flush(self) -> None:
        """Make all that was written visible to queries."""
        get(f"{self.url}internal/force_flush")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "victoria-metrics.log").read_text()
        try:
            return get(f"{self.url}health") == "OK"
        except OSError:
            return False


def ask(url: str, expression: str) -> list[dict[str, Any]]:
    """Return the result of an instant query on a Prometheus or VictoriaMetrics at `url`."""
    answer = json.loads(get(f"{url}api/v1/query?{urllib.parse.urlencode({'query': expression})}"))
    assert answer["status"] == "success", answer
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found
