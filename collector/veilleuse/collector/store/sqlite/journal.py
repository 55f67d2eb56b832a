# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The access journal of identity.db: what operators did and looked at. Beside what Registry reads of it."""

from __future__ import annotations

from typing import Any, Final

from veilleuse.collector.model.records import AgentId
from veilleuse.collector.store.sqlite.connection import Database

_COLUMNS: Final = ("unix_milliseconds", "who", "what", "why")
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM journal"


def of_machine(identity: Database, agent_id: AgentId) -> list[dict[str, str | int]]:
    """Lines that name a machine, the oldest first."""
    return _lines(identity, f"{_SELECT} WHERE instr(what, ?) ORDER BY journal_id", agent_id.hex())


def between(
    identity: Database, since: int, until: int, *, who: str | None, limit: int
) -> list[dict[str, str | int]]:
    """Lines of [since, until), Unix milliseconds; of one operator if asked; the newest first, at most `limit`."""
    return _lines(
        identity,
        f"{_SELECT} WHERE unix_milliseconds >= ? AND unix_milliseconds < ? AND who = coalesce(?, who)"
        " ORDER BY unix_milliseconds DESC, journal_id DESC LIMIT ?",
        since,
        until,
        who,
        limit,
    )


def write(identity: Database, *line: str | int) -> None:
    """One line: Unix milliseconds, who, what, why."""
    with identity.transaction() as connection:
        connection.execute(
            f"INSERT INTO journal ({', '.join(_COLUMNS)}) VALUES (?, ?, ?, ?)",
            line,
        )


def _lines(identity: Database, sql: str, *values: Any) -> list[dict[str, str | int]]:
    with identity.translated():
        rows = identity.connection.execute(sql, values).fetchall()
    return [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
