# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""When cycles of objects are looked for.

Work that makes hundreds of thousands of objects, none in a cycle: looking through them again and again is a seventh to a half of it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

OBJECTS_BETWEEN: Final = 20_000
"""More objects made than freed, before the youngest are looked through; CPython's own number is 700 to 2,000, which took 2 to 5 %
of a busy collector (docs/wire.md §3)."""


def settle() -> None:
    """Once a service has all that it begins with: none of it is ever looked through again, and what comes is, less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN)


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """In the whole process, while the block runs; as it was afterwards."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
