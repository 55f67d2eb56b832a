# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Imports actions and lines of the REEN sheet. Old versions stay: docs/reen.md."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from veilleuse.collector.admin.context import WHY_CHARACTERS, AdminContext, one_line, who_and_why
from veilleuse.collector.errors import UsageError
from veilleuse.collector.inventory.actions_csv import ACTIONS, KINDS, MAXIMUM_LINES, action_of, checked
from veilleuse.collector.model.actions import ActionLine, ActionTable, LineChange

log = logging.getLogger(__name__)


def import_lines(
    context: AdminContext,
    *,
    kind: str,
    lines: Sequence[Mapping[str, str]],
    name: str,
    who: str,
    why: str = "",
    replace: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Put the lines of a file of one kind into force; lines already in force stay. Raises UsageError.

    `replace`: end the lines in force whose key the file does not name; without it these stay, and are
    reported.
    """
    if kind not in KINDS:
        raise UsageError(f"no file '{str(kind)[:64]}': use {', '.join(KINDS)}")
    if len(lines) > MAXIMUM_LINES:
        raise UsageError(f"{len(lines)} lines: at most {MAXIMUM_LINES} at once")
    brought = {line.key: line for line in (checked(kind, cells) for cells in lines)}
    if len(brought) < len(lines):
        raise UsageError("two lines have the same key")
    said = (one_line(name, WHY_CHARACTERS), *who_and_why(who, why))
    if kind == ACTIONS:
        return _import_actions(context, brought, said, replace=replace, dry_run=dry_run)
    table = ActionTable(kind)

    def job() -> tuple[list[LineChange], dict[str, ActionLine]]:
        known = {line.key: line for line in context.store.follows.lines(table)}
        changes = [
            LineChange(key, line.cells)
            for key, line in brought.items()
            if key not in known or known[key].cells != line.cells
        ]
        if replace:
            changes += [LineChange(key, None) for key in known if key not in brought]
        if changes and not dry_run:
            context.store.follows.put(table, changes, *said, context.issuing.now_unix_milliseconds())
        return changes, known

    changes, known = context.issuing.commit(job)
    if changes and not dry_run:
        log.info("lines imported", extra={"table": table.value, "changed": len(changes)})
    gone = [one.key for one in changes if one.cells is None]
    return _answer(kind, brought, known, [one.key for one in changes if one.cells is not None], gone, dry_run)


def _import_actions(
    context: AdminContext,
    brought: Mapping[str, ActionLine],
    said: tuple[str, str, str],
    *,
    replace: bool,
    dry_run: bool,
) -> dict[str, Any]:
    _, who, why = said
    made = {key: action_of(line.cells) for key, line in brought.items()}

    def job() -> tuple[dict[str, Any], list[str], list[str]]:
        sites = {site.site for site in context.issuing.registry.sites()}
        for action in made.values():
            if unknown := [site for site in action.sites if site not in sites]:
                raise UsageError(
                    f"action '{action.action_id}': no site '{unknown[0]}': use "
                    f"{', '.join(sorted(sites)[:20])}"
                )
        known = {
            kept.action.action_id: kept.action
            for kept in context.store.follows.actions()
            if kept.withdrawn_unix_milliseconds is None
        }
        changed = [key for key, action in made.items() if known.get(key) != action]
        gone = [key for key in known if replace and key not in made]
        now = context.issuing.now_unix_milliseconds()
        if not dry_run:
            context.store.follows.enter([made[key] for key in changed], who, why, now)
            for key in gone:
                context.store.follows.withdraw(key, who, why, now)
        return known, changed, gone

    known, changed, gone = context.issuing.commit(job)
    if (changed or gone) and not dry_run:
        log.info("actions entered", extra={"changed": len(changed), "withdrawn": len(gone)})
    return _answer(ACTIONS, brought, known, changed, gone, dry_run)


def _answer(
    kind: str,
    brought: Mapping[str, ActionLine],
    known: Mapping[str, Any],
    changed: Sequence[str],
    gone: Sequence[str],
    dry_run: bool,
) -> dict[str, Any]:
    return {
        "kind": kind,
        "lines": len(brought),
        "new": [_key_text(key) for key in changed if key not in known],
        "changed": [_key_text(key) for key in changed if key in known],
        "gone": [_key_text(key) for key in gone],
        "not_named": [_key_text(key) for key in known if key not in brought and key not in gone],
        "dry_run": dry_run,
    }


def withdraw_action(context: AdminContext, *, action_id: str, who: str, why: str) -> dict[str, Any]:
    """Withdraw an action: it no longer counts. Raises AdminError."""
    now = context.issuing.now_unix_milliseconds()
    context.issuing.commit(lambda: context.store.follows.withdraw(action_id, *who_and_why(who, why), now))
    log.info("action withdrawn")
    return {"action_id": action_id}


def _key_text(key: str) -> str:
    return ", ".join(part for part in key.split("\x1f") if part)
