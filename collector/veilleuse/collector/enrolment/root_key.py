# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Finds keys of roots that are still beside the collector: its web process asks, without cryptography."""

from __future__ import annotations

from pathlib import Path
from typing import Final

FOLDER: Final = "ca"
"""Folder of the certificate authority in the data directory."""


def root_key_files(data_dir: Path) -> list[Path]:
    """Return the keys of old, present and next roots that were not moved off-line yet."""
    return sorted((data_dir / FOLDER).glob("*root.key"))
