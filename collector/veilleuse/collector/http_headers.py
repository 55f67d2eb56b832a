# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Names the headers by which a reverse proxy proves itself and names an account."""

from __future__ import annotations

import re
from typing import Final

PROXY_SECRET_HEADER: Final = "X-Veilleuse-Proxy-Secret"
"""Header in which a reverse proxy shows the secret of `http.proxy_secret_file`."""
_NAME: Final = re.compile("[A-Za-z0-9](-?[A-Za-z0-9]){0,63}")
_TAKEN: Final = re.compile(
    "(accept|access-control|cache|content|cookie|if|proxy|sec|x-prometheus)(-.*)?"
    "|authorization|connection|date|dnt|expect|forwarded|from|host|keep-alive|max-forwards|origin|pragma|range"
    "|referer|set-cookie2?|te|trailer|transfer-encoding|upgrade.*|user-agent|via|x-real-ip|x-requested-with"
    f"|x-forwarded-(by|for|host|port|prefix|proto|scheme|server|ssl)|{PROXY_SECRET_HEADER.lower()}"
)
"""Names that mean something to browsers, proxies or this service."""


def check_account_header(name: str) -> None:
    """Raise ValueError unless a header of this name can mean an account and nothing else."""
    if not _NAME.fullmatch(name):
        raise ValueError("it must be letters, digits and single hyphens, e.g. X-Veilleuse-Account")
    if _TAKEN.fullmatch(name.lower()):
        raise ValueError("this header means something else: use one of your own, e.g. X-Veilleuse-Account")
