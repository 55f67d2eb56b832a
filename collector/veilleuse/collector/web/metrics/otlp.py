# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Sends what /metrics shows to an OTLP endpoint, for sites whose Prometheus cannot reach this collector.

It runs in a thread of the web process. Nothing is kept for later: counters are cumulative, so the next
sending says all that a lost one said.
"""

from __future__ import annotations

import gzip
import logging
import platform
import stat
import threading
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from prometheus_client import Metric as Family

from veilleuse.collector.clock import unix_seconds
from veilleuse.collector.errors import CollectorError, ConfigurationError
from veilleuse.collector.http_client import FetchError, HttpClient, Route
from veilleuse.collector.settings import OtlpSettings
from veilleuse.wire.files import is_secret, read_with_status

log = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS: Final = 300.0
"""Longest wait after failures; each one doubles the wait up to this, or to the interval if that is longer."""
HEADER_BYTES: Final = 16 * 1024
"""Largest size of the file of headers."""
_OURS: Final = frozenset(
    [
        "content-type",
        "content-encoding",
        "content-length",
        "host",
        "connection",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
    ]
)
"""Headers of the connection and of the content: this program writes them."""
_RESOURCE: Final = {"service.name": "veilleuse"}


class OtlpEndpoint:
    """An OtlpEndpoint takes requests of metrics over HTTP."""

    def __init__(self, settings: OtlpSettings) -> None:
        """Raises ConfigurationError without the extra `otlp`, FetchError for settings that cannot be used."""
        if find_spec("opentelemetry") is None:
            raise ConfigurationError(
                "otlp.endpoint needs a package that is not installed: install veilleuse[collector,otlp]"
            )
        self._settings = settings
        route = Route(settings.timeout_seconds, settings.proxy, settings.ca_file)
        self._client = HttpClient(settings.endpoint, route)
        self._headers()  # an unusable file is told at the start

    def send(self, families: Iterable[Family], now_unix_seconds: float) -> None:
        """Send the families. Raises FetchError unless the endpoint took all of them."""
        from veilleuse.collector.exposition.otlp import (
            export_request,
            rejected,
        )  # an extra: only where it is used

        resource = {**_RESOURCE, "service.instance.id": self._settings.instance or platform.node()}
        request = export_request(families, resource, round(now_unix_seconds * 1e9))
        headers = {
            **self._headers(),
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "gzip",
            "Accept": "application/x-protobuf",
        }
        answer = self._client.post("", gzip.compress(request.SerializeToString(), 1, mtime=0), headers)
        server = self._client.server
        if not 200 <= answer.status < 300:
            raise FetchError(
                "refused",
                f"{server} answered {answer.status}: look at otlp.endpoint and otlp.headers_file",
            )
        try:
            left_out = rejected(answer.body)
        except ValueError as error:
            raise FetchError("not_understood", f"{server} speaks no OTLP: look at otlp.endpoint") from error
        if left_out:
            text = "".join(letter for letter in left_out if letter.isprintable())[:200]
            raise FetchError("refused", f"{server} did not take {text}: look at its limits")

    def _headers(self) -> dict[str, str]:
        """Read the file of headers, each time: a token may change while the program runs."""
        return read_headers(self._settings.headers_file) if self._settings.headers_file else {}


def read_headers(path: str) -> dict[str, str]:
    """Read lines `Name: value` of a file that only its owner can read. Raises FetchError, not_configured."""
    try:
        raw, found = read_with_status(Path(path), HEADER_BYTES)
        lines = [line for line in raw.decode("ascii").splitlines() if line.strip()]
    except OSError as error:
        raise FetchError("not_configured", f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FetchError("not_configured", f"{path} is not plain text: write 'Name: value' lines") from error
    if not is_secret(found):
        mode = stat.S_IMODE(found.st_mode)
        raise FetchError(
            "not_configured", f"{path} has mode {mode:04o}: others can read it; chmod 600 {path}"
        )
    headers: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        name, colon, value = line.partition(":")
        is_token = name.replace("-", "").replace("_", "").isalnum()
        if not colon or not is_token or not value.strip().isprintable() or name.lower() in _OURS:
            raise FetchError("not_configured", f"line {number} of {path} is no header: write 'Name: value'")
        headers[name] = value.strip()
    return headers


class OtlpSender:
    """An OtlpSender sends metrics every interval, later after failures."""

    def __init__(
        self,
        settings: OtlpSettings,
        families: Callable[[], Iterable[Family]],
        clock: Callable[[], float] = unix_seconds,
    ) -> None:
        """Take a function that collects the families of /metrics, and a clock in Unix seconds.

        Settings that cannot be used are failures too: they never stop the collector.
        """
        self._settings = settings
        self._interval = float(settings.interval_seconds)
        self._endpoint: OtlpEndpoint | None = None
        self._families = families
        self._clock = clock
        self._reason = ""
        self.failures = 0
        """Sendings that failed in a row."""
        self.sent_unix_seconds: float | None = None
        """Time of the last metrics that the endpoint took."""

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set; the first time at once."""
        wait = 0.0
        while not stop.wait(wait):
            wait = self.send()

    def send(self) -> float:
        """Send once; return the seconds to wait until the next time. Logs a failure once, and its end."""
        now = self._clock()
        try:
            if self._endpoint is None:
                self._endpoint = OtlpEndpoint(self._settings)
            self._endpoint.send(self._families(), now)
        except CollectorError as error:
            self.failures += 1
            if (reason := str(error)) != self._reason:
                log.warning("metrics not sent", extra={"reason": reason})
                self._reason = reason
            longest = max(self._interval, LONGEST_WAIT_SECONDS)
            return min(self._interval * 2.0 ** min(self.failures, 16), longest)
        if self.failures:
            log.info("metrics sent again", extra={"failures": self.failures})
        self.failures, self._reason, self.sent_unix_seconds = 0, "", now
        return self._interval
