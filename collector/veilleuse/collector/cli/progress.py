# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Shows the progress of a long command on a terminal, with the time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ShowStep = Callable[[str, int, int], None]
"""Takes (step, done, total)."""


@contextmanager
def shown_progress(*, is_shown: bool = True) -> Iterator[ShowStep]:
    """Yield a function that shows a bar for each step, while the block runs.

    Nothing is shown unless standard error is a terminal. `is_shown`: False for --json.
    """
    if not (is_shown and sys.stderr.isatty()):
        yield lambda step, done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskID,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        tasks: dict[str, TaskID] = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = shown.add_task(step)
            shown.update(tasks[step], completed=done, total=total)

        yield show
