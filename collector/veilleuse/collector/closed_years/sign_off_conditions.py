# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Lists what a sign-off lacks or contradicts, with the remedy for each (pure). docs/closing.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

from veilleuse.collector.account.emissions import kwh
from veilleuse.collector.closed_years.frozen import EXACT
from veilleuse.collector.closed_years.sign_off import (
    EXCLUSION,
    PEOPLE,
    SignOff,
    classes_without_energy,
    missing_keys,
)
from veilleuse.collector.closed_years.signed_year import SIGN_OFF, SignedYear
from veilleuse.collector.model.closed_years import figures_of


def of_sign_off(
    report: Mapping[str, Any],
    signed_year: SignedYear | None,
    before: Mapping[str, Any] | None,
    today: date,
) -> Iterator[str]:
    """Yield what the sign-off of a report lacks or contradicts; `before`: the revision before, if any."""
    year = report["year"]
    if signed_year is None:
        yield (
            f"nobody has signed {year} off: write a file with 'veilleuse close template {year} > sign_off.toml', fill it in, "
            "and give it with --sign-off sign_off.toml"
        )
        return
    signed = signed_year.signed
    yield from missing_keys(signed)
    yield from _of_people(signed, year, today)
    if before is not None:
        yield from _of_approval(report, before)
    yield from _of_exclusions(signed, figures_of(report))
    yield from _of_base_year(signed, year, signed_year.base)


def _of_base_year(signed: SignOff, year: int, base: Mapping[str, Any] | None) -> Iterator[str]:
    named = signed.get("base_year", {})
    since = named.get("year")
    if since is not None and since > year:
        yield f"[base_year] year {since} is after {year}: write {year} or an earlier year"
    elif since == year or base is not None:
        if "kgco2e" in named:
            yield f"[base_year] kgco2e is not needed: Veilleuse has the figure of {since}, remove the line"
    elif since is not None and "kgco2e" not in named:
        yield f"[base_year] {since} is not closed here: close it, or write its kgco2e"


def _of_people(signed: SignOff, year: int, today: date) -> Iterator[str]:
    people = {role: signed[role] for role in PEOPLE if role in signed}
    days = {role: date.fromisoformat(one["date"]) for role, one in people.items() if "date" in one}
    for role, day in days.items():
        if day.year <= year:
            yield f"[{role}] date {day} is before the end of {year}: write the day of the signature"
        elif day > today + timedelta(days=1):  # the person's zone may be ahead of UTC
            yield f"[{role}] date {day} is in the future: today is {today}"
    for (first, before), (second, after) in pairwise(days.items()):
        if after < before:
            yield f"[{second}] date {after} is before that of [{first}], {before}: prepare, then review, then approve"
    names = {role: one["name"].casefold() for role, one in people.items() if "name" in one}
    for role in PEOPLE[1:]:
        if role in names and names[role] == names.get(PEOPLE[0]):
            yield f"[{role}] name is the preparer's: another person reviews and approves"


def _of_exclusions(signed: SignOff, figures: Mapping[str, Any]) -> Iterator[str]:
    exclusions = signed.get(EXCLUSION, ())
    without = classes_without_energy(figures)
    if without and not exclusions:
        yield f"no [[{EXCLUSION}]] names what has no energy in the figure, {without}: add one each, with an estimate"
    excluded = sum(one.get("kwh", 0) for one in exclusions)
    whole = excluded + sum(kwh(row.get("energy_millijoules", 0)) for row in figures["totals"])
    threshold = Fraction(signed.get("organisation", {}).get("exclusion_threshold_percent", 100))
    if 100 * excluded > threshold * whole:
        yield (
            f"exclusions of {excluded} kWh are {float(100 * excluded / whole):.1f} % of the total with them, above "
            f"exclusion_threshold_percent ({float(threshold):g}): measure some of it, or raise the threshold and say why in boundary"
        )


def _of_approval(report: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    """Yield an approval that is of the revision before, whose total was another one."""
    approver = report[SIGN_OFF].get("approver")
    was_approved = approver is not None and before.get(SIGN_OFF, {}).get("approver") == approver
    totals, earlier = (
        [(row.get("energy_millijoules"), row.get(EXACT)) for row in figures_of(one)["totals"]]
        for one in (report, before)
    )
    if was_approved and totals != earlier:
        yield (
            f"[approver] approved {before['report_id']}, and the total has changed since: have it approved, and give the new date with "
            "--sign-off"
        )
