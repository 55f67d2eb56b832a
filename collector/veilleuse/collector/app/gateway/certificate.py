# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Which certificate the door shows: the collector's present one, asked for again while handshakes come."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any, Final

import grpc

from veilleuse.collector.app.gateway.messages import Opening, Unanswered, ask, certificate_from

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2.0
"""What was missed in between is seen so long afterwards."""
PATIENCE_SECONDS: Final = 1.0
"""A handshake in so many seconds waits for the answer; it goes on with what there is."""


class Showing:
    """Asked by gRPC at each handshake, from any thread."""

    def __init__(self, opening: Opening, data_dir: Path) -> None:
        """Shows the opening's certificate at first."""
        self._certificate = opening.certificate
        self._folder = Path(opening.folder)
        self._changed = self._last_change()
        self._data_dir = data_dir
        self._looked = time.monotonic()
        self._lock = threading.Lock()

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """The certificate as gRPC wants it; nothing is asked of those who call."""
        pair = (self._certificate.key_pem.encode(), self._certificate.chain_pem.encode())
        return grpc.ssl_server_certificate_configuration([pair])

    def renewed(self) -> Any:
        """A new one, or None to keep the present one. Only one handshake waits for the answer, the others go on."""
        changed = self._last_change()
        recent = changed == self._changed and time.monotonic() - self._looked < LOOK_SECONDS
        if recent or not self._lock.acquire(blocking=False):
            return None
        try:
            return self._look()
        finally:
            self._changed, self._looked = changed, time.monotonic()
            self._lock.release()

    def _last_change(self) -> int:
        """Of the authority's folder; 0 when it cannot be told."""
        try:
            return self._folder.stat().st_mtime_ns
        except OSError:
            return 0

    def _look(self) -> grpc.ServerCertificateConfiguration | None:
        question = {"op": "certificate", "sha256": self._certificate.sha256}
        try:
            head, _ = ask(self._data_dir, question, seconds=PATIENCE_SECONDS)
            if not head:
                return None
            self._certificate = certificate_from(head)
        except Unanswered as error:
            log.warning("certificate not asked for", extra={"error": str(error)})
            return None
        return self.configuration()
