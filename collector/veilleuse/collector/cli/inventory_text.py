# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What an import of the inventory did, for people."""

from __future__ import annotations

from typing import Any, Final

from veilleuse.collector.cli.shared import plural

SHOWN: Final = 20
"""Lines of each kind; --json has them all."""
_UNKNOWN: Final = {
    "type": "taken as 'unknown' or 'other': add [[class]] to the mapping",
    "status": "taken as in service: add it to [statuses] of the mapping",
    "location": "no site: add [[site]] to the mapping",
    "site": "no such site: make it with 'veilleuse calendar import FILE --site … --create', then import again",
    "tag": "no entity: add it to [tags] of the mapping",
    "source": "rows of another inventory, left: import them with --source and its name",
    "column": "not read",
    "not readable in GLPI": "left out: the user's profile may not read it, or this version has it not",
}


def print_import(found: dict[str, Any]) -> None:
    """Counts, then what needs a hand."""
    for one in found["refused_rows"][:SHOWN]:
        column = f", {one['column']}" if one["column"] else ""
        print(f"{one['where']}{column}: {one['what']}: {one['remedy']}")
    _more(found["refused"])
    for kind, texts in found["unknown"].items():
        print(f"unknown {kind} ({_UNKNOWN.get(kind, '')}):")
        for text, number in list(texts.items())[:SHOWN]:
            print(f"  {number} × {text}")
        _more(len(texts))
    if found["absent_assets"]:
        print("no longer named:")
        for one in found["absent_assets"][:SHOWN]:
            print(f"  #{one['asset']} {one['name'] or one['key']} {one['inventory_number']}".rstrip())
        _more(found["absent"])
    _print_counts(found)


def _print_counts(found: dict[str, Any]) -> None:
    would = " (dry run: nothing was changed)" if found["dry_run"] else ""
    print(
        f"{found['rows']} {plural(found['rows'], 'row')}: {found['added']} added, {found['changed']} changed, {found['unchanged']} unchanged, "
        f"{found['absent']} absent, {found['refused']} refused{would}"
    )
    for name, one in found["other_rows"].items():
        print(f"{name}: {one['new']} new, {one['gone']} gone")
    if found["moved"]:
        print(f"{found['moved']} {plural(found['moved'], 'move')}, from {found['moves_from']}")
    if found["retired"]:
        print(f"{found['retired']} out of service from today, because they are absent")
    if found["retire_refused"]:
        print(
            f"{found['absent'] - found['retired']} absent ones stay in service: rows were refused and they may be among them, or"
            " nothing of their kind is listed"
        )
    if found["out_without_day"]:
        print(f"{found['out_without_day']} out of service by their status, without a day: from today")
    if matching := found["matching"]:
        print(
            f"{matching['matched']} {plural(matching['matched'], 'machine')} matched, "
            f"{matching['doubts']} {plural(matching['doubts'], 'doubt')}: 'veilleuse inventory review list'"
        )


def _more(number: int) -> None:
    if number > SHOWN:
        print(f"  … and {number - SHOWN} more: see --json")
