# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Closed years as files: `closed/YEAR-rN.json` with its `.sig`, and the public key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from veilleuse.collector.closed_years.signatures import public_pem
from veilleuse.collector.errors import CollectorError
from veilleuse.collector.model.closed_years import ClosedFile, ClosedYear
from veilleuse.wire.files import make_own_folder, replace_owned

FOLDER: Final = "closed"
"""Of the data directory."""
KEY_NAME: Final = "key.pem"
FILE_NAME: Final = re.compile(r"(?P<year>\d{4})-r(?P<revision>[1-9]\d{0,5})\.json")


def signature_path(path: Path) -> Path:
    """Where the signature of a file lies."""
    return path.with_name(f"{path.name}.sig")


def export(folder: Path, told: ClosedYear, file: ClosedFile, public_key: str, *, give: bool = True) -> Path:
    """Write a revision, each file whole or not at all, 0600: sums of few servers are in it. Raises CollectorError.

    `give`: what root writes belongs to whom the folder belongs to, as in the data directory.
    """
    path = folder / f"{told.report_id}.json"
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_own_folder(folder)
        replace_owned(path, file.content, give=give)
        replace_owned(signature_path(path), file.signature, give=give)
        replace_owned(folder / KEY_NAME, public_pem(public_key), give=give)
    except OSError as error:
        raise CollectorError(f"cannot write {path}: {error.strerror or error}") from error
    return path
