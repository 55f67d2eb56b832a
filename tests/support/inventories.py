# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Read inventory files in tests as the command reads them."""

from __future__ import annotations

import json

from veilleuse.collector.inventory import read_files
from veilleuse.collector.inventory.mapping import InventoryMapping
from veilleuse.collector.inventory.rows import InventoryReading, from_document, to_document

WORDS = InventoryMapping(sites=frozenset({"Lyon", "Bron"}))


def read(
    data: bytes | str, name: str = "parc", words: InventoryMapping = WORDS, **more: str
) -> InventoryReading:
    """Read one file; its reading is converted to JSON and back, as on its way to the collector."""
    raw = data.encode() if isinstance(data, str) else data
    return from_document(json.loads(json.dumps(to_document(read_files([(name, raw)], words, **more)))))
