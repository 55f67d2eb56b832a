# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Get a page of the application as one file, for a real browser."""

from __future__ import annotations

import asyncio
import re

import httpx
from starlette.types import ASGIApp


def body(app: ASGIApp, path: str) -> str:
    """Return the body of the application's answer to GET `path`, without a socket."""

    async def ask() -> str:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8640") as client:
            return (await client.get(path)).text

    return asyncio.run(ask())


def standalone(page: str, css: str, scripts: str = "") -> str:
    """Return the page with the style sheet embedded and the scripts at its end."""
    page = re.sub(r'<link rel="stylesheet"[^>]*>', lambda _: f"<style>{css}</style>", page)
    return page.replace("</body>", f"{scripts}</body>")
