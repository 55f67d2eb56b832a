# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Shows the progress of a long command on a terminal, with the time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from veilleuse.collector.cli.language import translate

ShowStep = Callable[[str, int, int], None]
"""Takes (step, done, total). Total 0: nobody knows how much there is to do; the step is shown as running."""


def no_progress(step: str, done: int, total: int) -> None:
    """Show nothing."""


@contextmanager
def shown_progress(*, is_shown: bool = True) -> Iterator[ShowStep]:
    """Yield a function that shows a bar for each step, while the block runs.

    Nothing is shown unless standard error is a terminal. `is_shown`: False for --json.
    """
    if not (is_shown and sys.stderr.isatty()):
        yield no_progress
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TaskID,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        tasks: dict[str, TaskID] = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                for task in shown.tasks:  # a new step begins when the one before has ended
                    shown.update(task.id, total=task.total or 1, completed=task.total or 1)
                tasks[step] = shown.add_task(translate(step), total=None)
            shown.update(tasks[step], completed=done, total=total or None)

        yield show


@contextmanager
def shown_step(step: str, *, is_shown: bool = True) -> Iterator[None]:
    """Show a step as running, while the block runs."""
    with shown_progress(is_shown=is_shown) as show:
        show(step, 0, 0)
        yield
