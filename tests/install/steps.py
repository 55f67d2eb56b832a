# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Times the steps of the installation tests; conftest.py prints them as a table at the end of the run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final


@dataclass
class Step:
    """One row of the table."""

    system: str
    name: str
    result: str = "ok"
    """The block of the step may set a figure, e.g. "0 of 312 records lost"."""
    seconds: float = 0.0


TAKEN: Final[list[Step]] = []
"""The steps of this run, in their order."""


@contextmanager
def step(system: str, name: str) -> Iterator[Step]:
    """Time a block of a test, and note whether it raised: `with step("Debian 13", "install agent"):`."""
    taken = Step(system, name)
    TAKEN.append(taken)
    began = time.monotonic()
    try:
        yield taken
    except BaseException as error:
        first_line = (str(error).splitlines() or [""])[0]
        taken.result = f"FAILED: {type(error).__name__}: {first_line}"
        raise
    finally:
        taken.seconds = time.monotonic() - began


def table(steps: Sequence[Step] = TAKEN) -> str:
    """Return the steps as aligned text: system, step, seconds, result."""
    rows = [("system", "step", "seconds", "result")]
    rows += [(one.system, one.name, f"{one.seconds:.1f}", one.result) for one in steps]
    system, name, seconds = (max(len(row[column]) for row in rows) for column in range(3))
    return "\n".join(f"{row[0]:{system}}  {row[1]:{name}}  {row[2]:>{seconds}}  {row[3]}" for row in rows)
