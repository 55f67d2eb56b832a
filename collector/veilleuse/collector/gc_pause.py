# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Controls when Python's garbage collector searches for cycles.

Some work creates hundreds of thousands of objects, none in a cycle: repeated searches take a seventh to a
half of its time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

OBJECTS_BETWEEN: Final = 20_000
"""Objects created minus freed before a search of the youngest.

CPython's own number is 700 to 2,000, which took 2 to 5 % of a busy collector (docs/wire.md §3).
"""


def settle() -> None:
    """Exclude all present objects from later searches, and search less often.

    Call it when a service has started.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN)


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Pause garbage collection in the whole process while the block runs; then restore its state."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
