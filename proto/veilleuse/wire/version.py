# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The version of the distribution: both sides say it. A test holds it equal to pyproject.toml's.

Written down rather than asked of importlib.metadata, which costs a start of the sender 20 ms.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.2.0"
