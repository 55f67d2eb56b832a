# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The cells that wait for derive in memory are those of the stored records."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.filled import Filled
from tests.support.pushes import MONDAY_10H, Stream, realistic
from veilleuse.collector.store.sqlite.batch import UnreadCells


@pytest.mark.parametrize("most", [0, 1, 2])
def test_records_take_the_numbers_of_undone_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int):
    """A group is undone after it was stored, and other records take its numbers. Derive reads the cells of
    those, also where memory holds none, or only the first."""
    monkeypatch.setattr(UnreadCells, "_REMEMBERED", most)
    with Filled(tmp_path / "data") as filled:
        host_id, store = filled.add_host(), filled.store
        undone, stream = Stream(host_id), Stream(host_id)
        first, second = ([realistic(MONDAY_10H, milliwatts=n * watts) for n in (1, 2)] for watts in (20, 35))
        with suppress(RuntimeError), store.transaction():
            store.ingest.append([undone.send(*first)])
            raise RuntimeError
        store.ingest.append([stream.send(*second)])
        (period,) = store.derive.dirty(2)
        read = [record.cells for record in store.derive.record_cells(period)]
        assert read == [record.cells for record in stream.push().records]
