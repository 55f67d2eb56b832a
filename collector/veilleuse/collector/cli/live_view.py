# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Shows `veilleuse top` on a terminal: draws a screen at each interval, and follows the keys."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from veilleuse.collector.cli import keyboard as keys
from veilleuse.collector.cli.fleet_screen import Choice, Screen, ServerRow, SortKey
from veilleuse.collector.documents.text import Words

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

SORT_KEYS: Final = {
    "p": SortKey.POWER,
    "c": SortKey.CPU,
    "e": SortKey.ENERGY,
    "t": SortKey.CONTACT,
    "n": SortKey.ENTITY,
}
LEAST_ROWS: Final = 3
"""Servers for which lines about the fleet make room."""
WIDE, WIDEST = 100, 150
"""Columns of a terminal from which the states of today, and the whole path of an entity, are shown."""
SILENT: Final = "yellow"
_ON_THE_LEFT: Final = frozenset({"host", "state", "entity"})


@dataclass(frozen=True, slots=True)
class View:
    """A View is what a person has chosen with the keys."""

    choice: Choice
    is_typing: bool = False
    """True while the person types a filter."""

    def press(self, key: str, page: int) -> View | None:
        """Return the view after a key; None = the person quits. `page`: number of servers shown."""
        if self.is_typing:
            return self._type(key)
        choice, moved = self.choice, _MOVES.get(key)
        if key == "q":
            return None
        if key in SORT_KEYS:
            sort = SORT_KEYS[key]
            turned = sort is choice.sort and not choice.is_reversed
            return View(replace(choice, sort=sort, is_reversed=turned, first=0))
        if key == "/":
            return View(choice, is_typing=True)
        if key == keys.ESCAPE:
            return View(replace(choice, text="", first=0))
        if moved is not None:
            return View(replace(choice, first=max(0, moved(choice.first, page))))
        return self

    def _type(self, key: str) -> View:
        choice = self.choice
        if key == keys.ENTER:
            return View(choice)
        if key == keys.ESCAPE:
            return View(replace(choice, text="", first=0))
        if key == keys.BACKSPACE:
            return View(replace(choice, text=choice.text[:-1], first=0), is_typing=True)
        if len(key) == 1 and key.isprintable():
            return View(replace(choice, text=choice.text + key, first=0), is_typing=True)
        return self


_MOVES: Final[dict[str, Callable[[int, int], int]]] = {
    keys.UP: lambda first, page: first - 1,
    keys.DOWN: lambda first, page: first + 1,
    keys.PAGE_UP: lambda first, page: first - page,
    keys.PAGE_DOWN: lambda first, page: first + page,
    " ": lambda first, page: first + page,
    keys.HOME: lambda first, page: 0,
    keys.END: lambda first, page: 1 << 30,
}


def show_live(
    take: Callable[[Choice, int], Screen],
    w: Words,
    choice: Choice,
    interval_seconds: float,
    until: float | None,
) -> None:
    """Draw until the end, `q` or Ctrl-C. The last screen stays on the terminal."""
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    view: View | None = View(choice)
    last: RenderableType = ""
    try:
        with keys.Keyboard() as keyboard, Live(console=console, screen=True, auto_refresh=False) as live:
            while view is not None:
                width, height = console.size
                shown = take(view.choice, height)
                view = replace(view, choice=replace(view.choice, first=shown.first))
                last = render(shown, view, w, width, height)
                live.update(last, refresh=True)
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return
                page = room_for_rows(shown, height)
                for key in keyboard.wait(interval_seconds if left is None else min(interval_seconds, left)):
                    if key == keys.SUSPEND:
                        live.stop()
                        keyboard.suspend()
                        live.start()
                    elif view is not None:
                        view = view.press(key, page)
    finally:
        console.print(last)


def room_for_rows(one: Screen, height: int) -> int:
    """Return the number of servers that fit, when the lines about the fleet are cut to leave LEAST_ROWS."""
    return max(1, height - _fixed_lines(one) - len(_notes(one, height)))


def _fixed_lines(one: Screen) -> int:
    """Return the number of lines but servers and notes: title, headline, head, count and keys."""
    return 5 + len(one.headline)


def _notes(one: Screen, height: int) -> list[tuple[str, str]]:
    """Return (line, style) of what is said about the fleet, as far as there is room; warnings first."""
    told = [(line, SILENT) for line in one.warnings] + [(line, "") for line in one.others]
    return told[: max(0, height - _fixed_lines(one) - LEAST_ROWS)]


def render(one: Screen, view: View, w: Words, width: int, height: int) -> RenderableType:
    """Render exactly `height` lines, none wrapped: servers that do not fit are counted."""
    from rich.console import Group
    from rich.text import Text

    room = room_for_rows(one, height)
    rows = one.rows[:room]
    pairs = (("Veilleuse", f"{one.time}  {one.page_url}"), *one.headline)
    left = max(len(name) for name, _ in pairs)
    lines = [Text.assemble((f"{name:<{left}}", "bold"), f"  {text}") for name, text in pairs]
    lines += [Text(), *_table(rows, view.choice, w, width)]
    lines += [Text()] * (room - len(rows))
    lines.append(Text(_count_line(one, len(rows), view, w), style="dim"))
    lines += [Text(line, style=style) for line, style in _notes(one, height)]
    typing = w("top.enter_filter", text=view.choice.text)
    lines.append(Text(f"{typing if view.is_typing else w('top.keys'):<{width}}", style="reverse"))
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(*lines)


def _count_line(one: Screen, shown: int, view: View, w: Words) -> str:
    text = w("top.none_fits") if view.choice.text and not shown else ""
    if shown and shown < one.servers:
        first, last = one.first + 1, one.first + shown
        text = w("top.shown", first=w.number(first), last=w.number(last), servers=w.number(one.servers))
    filtered = w("top.filtered", text=view.choice.text) if view.choice.text else ""
    return "   ".join(filter(None, (text, filtered)))


def _table(rows: Sequence[ServerRow], choice: Choice, w: Words, width: int) -> list[Text]:
    """Return a head and one line per server; the column that a terminal may cut off is the last."""
    from rich.cells import cell_len
    from rich.text import Text

    names = ["host", "power", "cpu", "energy", "contact", "entity"]
    if width >= WIDE:
        names.insert(3, "state")
    columns = []
    for name in names:
        place = "place" if width >= WIDEST else "short_place"
        cells = [getattr(row, place if name == "entity" else name) for row in rows]
        head = w(f"top.columns.{name}")
        if name == choice.sort:
            rises = (name in ("entity", "contact")) is not choice.is_reversed
            head += "▴" if rises else "▾"
        size = max(map(cell_len, (head, *cells)))
        side = "left" if name in _ON_THE_LEFT else "right"
        columns.append([_padded(cell, size, side) for cell in (head, *cells)])
    heads, *body = zip(*columns, strict=True)
    titles = Text()
    for name, title in zip(names, heads, strict=True):
        titles.append(title, style="bold underline" if name == choice.sort else "bold").append("  ")
    return [
        titles,
        *(
            Text("  ".join(line).rstrip(), style=SILENT if row.is_silent else "")
            for line, row in zip(body, rows, strict=True)
        ),
    ]


def _padded(cell: str, size: int, side: str) -> str:
    from rich.cells import cell_len

    space = " " * (size - cell_len(cell))
    return cell + space if side == "left" else space + cell
