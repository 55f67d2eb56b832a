# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse close [template] YEAR` and `veilleuse verify FILE|YEAR`.

This process computes the year; the collector signs and stores it. `verify` needs only the .sig of a file and
the public key; for a year it needs the data directory.
"""

from __future__ import annotations

import getpass
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer

from veilleuse.collector import clock
from veilleuse.collector.cli.perimeters import declaration_of
from veilleuse.collector.cli.progress import shown_step
from veilleuse.collector.cli.shared import (
    EXIT_WARNINGS,
    ConfigOption,
    JsonOption,
    load_settings,
    moment,
    print_json,
    print_note,
    print_result,
    print_text,
    read_text,
    run_operation,
    upload,
)
from veilleuse.collector.closed_years.frozen import NotAClosedYear
from veilleuse.collector.closed_years.sign_off import MAXIMUM_BYTES, PEOPLE, SignOff, read_sign_off
from veilleuse.collector.closed_years.signatures import known_public_key, missing_key, parse_public_key
from veilleuse.collector.closed_years.signed_year import SIGN_OFF
from veilleuse.collector.closed_years.verify import Verification, export, verify_file, verify_year
from veilleuse.collector.errors import AdminError, CollectorError, UsageError
from veilleuse.collector.model.closed_years import ClosedYear, YearState, figures_of, pack
from veilleuse.collector.model.query import PERIOD_YEARS
from veilleuse.collector.reports.close_year import ClosingOrder, Proposal, propose, template_of
from veilleuse.collector.reports.inputs import Sources
from veilleuse.collector.reports.readers import sources_of
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.wire.files import read_named
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

T = TypeVar("T")

SECONDS: Final = 120.0
_MOST_CHARACTERS: Final = 256
KEY_BYTES: Final = 64 * 1024
"""Largest file with a public key."""


def close(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[template] YEAR",
            help="a calendar year that is over; 'template YEAR' prints a sign-off file to fill in",
        ),
    ] = None,
    definitive: Annotated[
        bool,
        typer.Option(
            "--definitive", help="close for good: machines' months may then go; revisions stay possible"
        ),
    ] = False,
    sign_off: Annotated[
        Path | None,
        typer.Option(
            "--sign-off",
            metavar="FILE",
            help="who prepared, reviewed and approved the year, and its boundary; needed for --definitive",
        ),
    ] = None,
    why: Annotated[str, typer.Option(metavar="TEXT", help="reason; needed for a revision")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="compute and print, write nothing")] = False,
    show: Annotated[bool, typer.Option("--list", help="list closed years")] = False,
    key: Annotated[bool, typer.Option("--key", help="print the public key of the signatures")] = False,
    to: Annotated[
        Path | None,
        typer.Option("--export", metavar="FOLDER", help="write closed years to this folder, with signatures"),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Close a year.

    Its figures are frozen and signed; the sums behind them are kept, no single machine is.
    """
    settings = load_settings(config)
    is_template = (words or [])[:1] == ["template"]
    year = _read_year((words or [])[is_template:])
    if show or to is not None:
        _show_closed(settings, year, to, as_json)
    elif key:
        _show_key(settings, as_json)
    elif year is None:
        raise UsageError("name the year: veilleuse close 2026; --list shows closed years")
    elif is_template:
        print(_compute(template_of, settings, _order(year, definitive, why, None)), end="")
    else:
        _close(settings, _order(year, definitive, why, sign_off), dry_run, as_json)


def _read_year(words: Sequence[str]) -> int | None:
    if not words:
        return None
    year = int(words[0]) if len(words) == 1 and re.fullmatch("[0-9]{4}", words[0]) else 0
    if not PERIOD_YEARS.holds(year):
        raise UsageError(
            f"'{' '.join(words)}' is no year: name one year, {PERIOD_YEARS.first} to {PERIOD_YEARS.last}, such as 'veilleuse close 2026'"
        )
    return year


def _order(year: int, definitive: bool, why: str, sign_off: Path | None) -> ClosingOrder:
    why = why.strip()
    if not why.isprintable() or len(why) > _MOST_CHARACTERS:
        raise UsageError(f"--why is one line of at most {_MOST_CHARACTERS} characters")
    now = clock.unix_milliseconds()
    today = datetime.fromtimestamp(now / MILLISECONDS_PER_SECOND, UTC).date()
    signed = None
    if sign_off is not None:
        text = read_text(sign_off, MAXIMUM_BYTES, "name the file that 'veilleuse close template' wrote")
        signed = read_sign_off(text, str(sign_off))
    return ClosingOrder(year, definitive, getpass.getuser()[:128], why, now, today, signed)


def _compute(
    make: Callable[[Sources, CollectorSettings, ClosingOrder], T],
    settings: CollectorSettings,
    order: ClosingOrder,
) -> T:
    try:
        with open_reader(settings.data_dir) as store:
            return make(sources_of(store, settings.reporting), settings, order)
    except NotAClosedYear as error:
        raise AdminError(
            f"the last revision of {order.year} is damaged: {error}; see 'veilleuse verify {order.year}'"
        ) from error


def _close(settings: CollectorSettings, order: ClosingOrder, dry_run: bool, as_json: bool) -> None:
    with shown_step("computing the year", is_shown=not as_json):
        made = _compute(propose, settings, order)
    is_definitive = made.closed_year.state is YearState.CLOSED_DEFINITIVE
    refused = is_definitive and made.changed and bool(made.refused)
    written: Mapping[str, Any] = {}
    if made.changed and not refused and not dry_run:
        if made.before is not None and not order.why:
            raise UsageError(
                f"{order.year} is closed already ({made.before.closed_year.report_id}): give the reason of a "
                "revision with --why"
            )
        with shown_step("signing and writing", is_shown=not as_json):
            written = _send(settings, made)
    found = _result_facts(made, dry_run, refused, written)
    print_result(found, lambda: _print(made, found), as_json)
    if refused:
        raise AdminError(f"{order.year} cannot be closed definitively: do what each line above says")
    if made.refused:
        raise typer.Exit(EXIT_WARNINGS)


def _send(settings: CollectorSettings, made: Proposal) -> Any:
    small = pack(made.file)
    whole, report_bytes = small.report + small.statistics, len(small.report)
    return upload(
        settings, whole, "close_part", "close_put", timeout_seconds=SECONDS, report_bytes=report_bytes
    )


def _result_facts(made: Proposal, dry_run: bool, refused: bool, written: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **_row(made.closed_year),
        "changed": made.changed,
        "written": bool(written),
        "dry_run": dry_run,
        "refused": refused,
        "open_points": list(made.refused),
        "notes": list(made.notes),
        "totals": figures_of(made.report)["totals"],
        "cells": made.file.statistics.count(b'"methods_hidden":'),
        "statistics_bytes": len(made.file.statistics),
        "difference": made.report["difference"] if made.changed else None,
        SIGN_OFF: made.report.get(SIGN_OFF),
        **written,
    }


def _row(told: ClosedYear) -> dict[str, Any]:
    return {
        "year": told.year,
        "revision": told.revision,
        "report_id": told.report_id,
        "state": told.state.value,
        "closed_unix_milliseconds": told.closed_unix_milliseconds,
        "sha256": told.sha256,
    }


def _print(made: Proposal, found: Mapping[str, Any]) -> None:
    for reason in made.refused:
        print_note(f"{'refused' if found['refused'] else 'open'}: {reason}")
    for note in made.notes:
        print_note(f"note: {note}")
    for total in found["totals"]:
        kilograms = total.get("kgco2e_total")
        print_text(
            f"{total['period_from'][:4]}: {float(total.get('kwh_total', 0)):,.0f} kWh"
            + (f", {float(kilograms):,.0f} kgCO2e" if kilograms else "")
        )
    for line in _people(found[SIGN_OFF] or {}):
        print_text(line)
    difference = found["difference"]
    if difference is not None:
        for cause in difference["order"]:
            energy, kilograms = difference["kwh"][cause]["about"], difference["kgco2e"][cause]["about"]
            print_text(f"  {cause:<10} {float(energy):+,.3f} kWh {float(kilograms):+,.3f} kgCO2e")
    if not made.changed:
        assert made.before is not None
        print_text(f"nothing differs from {made.before.closed_year.report_id}: no revision is made")
    elif found["written"]:
        print_text(f"{found['report_id']} {found['state']}, sha256 {found['sha256']}")
        print_text(
            f"signed by key {found['public_key']}; {found['exported'] or 'not exported: see --export'}"
        )
        if made.closed_year.state is YearState.CLOSED_DEFINITIVE and made.report["basis"] == "machines":
            print_note(
                f"note: the next daily clean-up removes the months of PCs of {made.closed_year.year}: write "
                "'veilleuse report reen' and 'report indicators' of that year before"
            )
    elif not found["refused"]:
        print_text(f"would be {found['report_id']} {found['state']}; nothing was written")


def _people(signed: SignOff) -> Iterator[str]:
    """Yield who signed, one line each."""
    for role in PEOPLE:
        if one := signed.get(role):
            yield f"  {role}: " + ", ".join(one[key] for key in ("function", "name", "date") if key in one)


def _show_closed(settings: CollectorSettings, year: int | None, to: Path | None, as_json: bool) -> None:
    with open_reader(settings.data_dir) as store:
        revisions = store.closings.revisions(year)
        kept = [
            one for one in store.closings.kept_years() if year in (None, one.year) and one.statistics_sha256
        ]
        if to is not None:
            public_key = known_public_key(settings.data_dir)
            if not revisions:
                raise CollectorError("nothing is closed: there is nothing to export")
            if public_key is None:
                raise CollectorError(missing_key(settings.data_dir))
            for told in revisions:
                print_note(str(export(to, told, store.closings.file(told), public_key, give=False)))
    print_result(
        [_row(told) for told in revisions],
        [
            {
                "revision": told.report_id,
                "state": told.state.value,
                "closed": moment(told.closed_unix_milliseconds),
                "sha256": told.sha256,
            }
            for told in revisions
        ],
        as_json,
        empty="no year is closed",
    )
    for one in kept:
        print_note(
            f"note: {one.year} is open; its statistics were kept on {one.kept_on}: it can still be closed "
            "when machines' months are gone"
        )


def _show_key(settings: CollectorSettings, as_json: bool) -> None:
    found = run_operation(settings, "close_key")
    print_result(
        found,
        f"{found['public_key']}\ncertified by the root {found['root_sha256']}, until "
        f"{found['certified_until']}",
        as_json,
    )


def verify(
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE|YEAR",
            help=(
                "a file such as closed/2026-r1.json, with its .sig beside it; or a year of the data directory"
            ),
        ),
    ],
    key: Annotated[
        str,
        typer.Option(metavar="KEY", help="public key: 64 hexadecimal digits, or a PEM file"),
    ] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the signature of a closed year. Its figures are computed again from its statistics."""
    if what.isdecimal() and len(what) == 4 and not Path(what).exists():
        if key:
            raise UsageError("--key is for a file: a year is checked with the key of its data directory")
        settings = load_settings(config)
        with open_reader(settings.data_dir) as store:
            found = verify_year(store.closings, settings.data_dir, int(what))
    else:
        found = [verify_file(Path(what), _key(key) if key else None)]
    if as_json:
        print_json([one.document() for one in found])
    else:
        for one in found:
            _print_verification(one)
    wrong = [one for one in found if one.wrong]
    if wrong:
        raise AdminError(f"{wrong[0].name} does not verify: {wrong[0].wrong[0]}")
    if any(one.notes for one in found):
        raise typer.Exit(EXIT_WARNINGS)


def _key(text: str) -> str:
    path = Path(text)
    if path.exists():
        try:
            text = read_named(path, KEY_BYTES).decode("ascii")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not plain text"
            raise UsageError(f"cannot read {path}: {why}; name the PEM file of the public key") from error
    return parse_public_key(text)


def _print_verification(one: Verification) -> None:
    for reason in one.wrong:
        print_text(f"{one.name}: WRONG: {reason}")
    for note in one.notes:
        print_text(f"{one.name}: note: {note}")
    if one.closed is None or one.wrong:
        return
    closed_year = one.closed.closed_year
    print_text(
        f"{one.name}: verified: {closed_year.report_id} {closed_year.state}, sha256 {closed_year.sha256}"
    )
    for total in figures_of(one.closed.report)["totals"]:
        print_text(
            f"  {total['period_from'][:4]}: {total.get('kwh_total', '')} kWh, "
            f"{total.get('kgco2e_total', '')} kgCO2e"
        )
    perimeters = one.closed.kept.perimeters
    print_text(f"  perimeters: {', '.join(perimeters.names)}; {declaration_of(perimeters)}")
    for line in _people(one.closed.report.get(SIGN_OFF, {})):
        print_text(line)
