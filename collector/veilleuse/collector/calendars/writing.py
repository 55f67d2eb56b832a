# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A declaration as a file that `veilleuse calendar import` reads back to the same."""

from __future__ import annotations

import json

from veilleuse.collector.calendars.files import COUNTRIES, WEEKDAYS, span_text
from veilleuse.collector.model.calendars import Closure, Declaration
from veilleuse.wire.bands import OpenSpan


def write_calendar(declaration: Declaration, site: str) -> str:
    """TOML. `site` goes into a comment."""
    lines = [
        f"# Calendar of {site}: veilleuse calendar import FILE --site {json.dumps(site, ensure_ascii=False)}",
        "",
    ]
    lines += ["[open]", *_weekly(declaration.open_spans), ""]
    if declaration.public_holidays:
        lines += ["[public_holidays]", f'country = "{COUNTRIES[0]}"']
        lines += [f"alsace_moselle = {str(declaration.alsace_moselle).lower()}", ""]
    if declaration.school_zone is not None:
        lines += ["[school_holidays]", f'zone = "{declaration.school_zone}"', ""]
    if declaration.update_windows:
        lines += ["[updates]", *_weekly(declaration.update_windows), ""]
    for closure in declaration.closures:
        lines += [*_closure(closure), ""]
    return "\n".join(lines[:-1]) + "\n"


def _weekly(spans: tuple[OpenSpan, ...]) -> list[str]:
    return [
        f"{name} = {json.dumps(texts)}"
        for number, name in enumerate(WEEKDAYS, 1)
        if (texts := [span_text(span) for span in spans if span.iso_weekday == number])
    ]


def _closure(closure: Closure) -> list[str]:
    lines = ["[[closure]]", f"first = {closure.first}"]
    if closure.last != closure.first:
        lines.append(f"last = {closure.last}")
    if closure.name:
        lines.append(f"name = {json.dumps(closure.name, ensure_ascii=False)}")
    return lines
