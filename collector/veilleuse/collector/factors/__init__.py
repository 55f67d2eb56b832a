# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Where emission factors come from: one file per provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

BUILTIN: Final[Mapping[str, str]] = {
    "ademe": "veilleuse.collector.factors.static:AdemeFactors",
    "owid": "veilleuse.collector.factors.static:OwidFactors",
}
"""Name → class; nothing is imported until chosen. Entry points of the group veilleuse.factors join it later."""
