# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The collector's own certificate, looked at again now and then: a long-lived process never shows an old one."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from veilleuse.collector.enrolment.ca import Authority, ServerIdentity
from veilleuse.collector.errors import CollectorError

log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 3600.0


class ServerCertificate:
    """Made again by the authority when its end is near; shown on :8641, and by the door on :8642. Thread-safe."""

    def __init__(self, authority: Authority) -> None:
        """Raises DataDirectoryError."""
        self._authority = authority
        self._holdings = authority.holdings
        self._identity = authority.server_identity()
        self._checked = time.monotonic()
        self._lock = threading.Lock()

    def present(self) -> ServerIdentity:
        """What to show now. A step of a rotation is noticed at once, the end of the certificate within the hour."""
        with self._lock:
            rotated = self._authority.holdings is not self._holdings
            if rotated or time.monotonic() - self._checked >= CHECK_SECONDS:
                self._checked = time.monotonic()
                self._holdings = self._authority.holdings
                try:
                    self._identity = self._authority.server_identity()
                except CollectorError as error:  # the present one is good for weeks yet
                    log.warning("server certificate not renewed", extra={"error": str(error)})
            return self._identity
