# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Stores actions and imported lines of the REEN sheet.

Rows are added, never changed. Implements ports.ActionStore; data_0015.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from typing import Final, TypeVar

from veilleuse.collector.errors import AdminError
from veilleuse.collector.model.actions import Action, ActionLine, ActionTable, LineChange, StoredAction
from veilleuse.collector.store.sqlite.connection import DataTables, damaged
from veilleuse.collector.store.sqlite.migrations import BesideReader

T = TypeVar("T")

_ADD_ACTION: Final = (
    "INSERT INTO actions (action_id, unix_milliseconds, who, why, sites_json, from_day, what)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_ACTIONS: Final = (
    "SELECT action_id, unix_milliseconds, who, why, sites_json, from_day, what FROM actions ORDER BY row_id"
)
_LINES: Final = (
    "SELECT key, cells_json FROM follow_lines WHERE line_id IN"
    " (SELECT max(line_id) FROM follow_lines WHERE kind = ? GROUP BY key) AND cells_json IS NOT NULL ORDER BY key"
)


class SqliteFollows(DataTables):
    """Reads and writes actions. Each write is a transaction, or part of the caller's."""

    def actions(self) -> tuple[StoredAction, ...]:
        """Return all actions, also ended ones. A later row of the same id ends the one before."""
        found: list[StoredAction] = []
        standing: dict[str, int] = {}
        for name, at, who, why, sites, from_day, what in self._data.rows(_ACTIONS):
            before = standing.pop(name, None)
            if before is not None:
                found[before] = replace(
                    found[before],
                    withdrawn_unix_milliseconds=at,
                    withdrawn_by=who,
                    withdrawn_why=why,
                )
            touched = self._made(_sites, sites)
            if touched:
                standing[name] = len(found)
                found.append(
                    StoredAction(Action(name, touched, date.fromordinal(from_day), what), at, who, why)
                )
        return tuple(found)

    def lines(self, table: ActionTable) -> tuple[ActionLine, ...]:
        """Return the lines in force, in the order of their keys."""
        return tuple(
            ActionLine(key, self._made(_cells, cells)) for key, cells in self._data.rows(_LINES, table.value)
        )

    def enter(self, actions: Sequence[Action], who: str, why: str, now_unix_milliseconds: int) -> None:
        """Add new actions, or new versions of known ones."""
        rows = [
            (
                one.action_id,
                now_unix_milliseconds,
                who,
                why,
                json.dumps(one.sites, ensure_ascii=False),
                one.from_day.toordinal(),
                one.what,
            )
            for one in actions
        ]
        with self._data.transaction() as connection:
            connection.executemany(_ADD_ACTION, rows)

    def withdraw(self, action_id: str, who: str, why: str, now_unix_milliseconds: int) -> None:
        """End an action now. Raises AdminError when none of this id is in force."""
        kept = next(
            (
                one
                for one in self.actions()
                if one.action.action_id == action_id and one.withdrawn_unix_milliseconds is None
            ),
            None,
        )
        if kept is None:
            raise AdminError(f"no action '{action_id}' is in force: see 'veilleuse action list'")
        values = (action_id, now_unix_milliseconds, who, why, "[]", kept.action.from_day.toordinal(), "")
        self._data.write(_ADD_ACTION, *values)

    def put(
        self,
        table: ActionTable,
        changes: Sequence[LineChange],
        file_name: str,
        who: str,
        why: str,
        now_unix_milliseconds: int,
    ) -> None:
        """Add lines that are in force from now on, and end the lines of the given keys."""
        with self._data.transaction() as connection:
            made = connection.execute(
                "INSERT INTO follow_imports (unix_milliseconds, file_name, who, why) VALUES (?, ?, ?, ?)",
                (now_unix_milliseconds, file_name, who, why),
            ).lastrowid
            connection.executemany(
                "INSERT INTO follow_lines (import_id, kind, key, cells_json) VALUES (?, ?, ?, ?)",
                [
                    (
                        made,
                        table.value,
                        one.key,
                        None
                        if one.cells is None
                        else json.dumps(dict(one.cells), ensure_ascii=False, sort_keys=True),
                    )
                    for one in changes
                ],
            )

    def _made(self, make: Callable[[str], T], text: str) -> T:
        try:
            return make(text)
        except (ValueError, TypeError, AttributeError) as error:
            raise damaged(self._data.path, f"an action or a line in it: {error}") from error


class SqliteFollowReader(BesideReader, SqliteFollows):
    """Reads actions on a connection of its own, beside the writer; for one thread."""


def _sites(text: str) -> tuple[str, ...]:
    return tuple(map(str, json.loads(text)))


def _cells(text: str) -> dict[str, str]:
    return {str(name): str(cell) for name, cell in json.loads(text).items()}
