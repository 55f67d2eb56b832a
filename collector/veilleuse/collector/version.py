# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Which version of the product this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def product_version() -> str:
    """Version of the installed distribution; 0+source when it runs from a bare source tree."""
    try:
        return version("veilleuse")
    except PackageNotFoundError:
        return "0+source"
