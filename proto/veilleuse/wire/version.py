# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Version of the distribution, which both sides report. A test holds it equal to pyproject.toml's.

It is a constant because importlib.metadata would slow each start of the sender by 20 ms.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.2.0"
