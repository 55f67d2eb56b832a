# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of factor versions: which one is in force, which was known on a day, what an import changes, and that
rows never change."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.pushes import NOW
from veilleuse.collector import settings
from veilleuse.collector.errors import ConfigurationError, UnknownZone, UsageError
from veilleuse.collector.factors.book import FactorBook, book_of, factor_book
from veilleuse.collector.factors.static import AdemeFactors
from veilleuse.collector.factors.versions import (
    changes,
    factor_document,
    factor_from_document,
    history,
    in_force,
)
from veilleuse.collector.model.factors import Factor, FactorImport, FactorStatus, FactorVersion
from veilleuse.collector.store import create_store

SHIPPED = {one.factor_id: one for one in factor_book().factors()}
FR_2022 = SHIPPED["ADEME-FR-2022-MOY"]
FR_2025 = SHIPPED["ADEME-FR-2025-MOY"]
FILE = FactorImport("f.csv", "ab" * 32, "marie", "why")
CORSICA = replace(
    FR_2022,
    factor_id="ADEME-FR-20R-2022-MOY",
    zone="FR-20R",
    total_kgco2e_per_kwh=Decimal("0.5515"),
    components=(),
)


def at(day: str) -> int:
    """Return noon of a day, UTC, in milliseconds."""
    return round(datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=UTC).timestamp() * 1000)


def versions(*came: tuple[str, Factor]) -> tuple[FactorVersion, ...]:
    """Return versions numbered in the given order."""
    found: list[FactorVersion] = []
    for number, (day, factor) in enumerate(came, 1):
        before = [one.version for one in found if one.factor.factor_id == factor.factor_id]
        numbered = replace(factor, version=number)
        found.append(FactorVersion(number, numbered, at(day), FILE, before[-1] if before else None))
    return tuple(found)


def restated(total: str, **more: object) -> Factor:
    """Return the factor of the mainland of 2022 with another total."""
    return replace(FR_2022, total_kgco2e_per_kwh=Decimal(total), **more)  # type: ignore[arg-type]


LOG = versions(("2026-06-01", restated("0.0521")), ("2026-09-01", restated("0.0530")))


def test_the_newest_version_rules_and_the_shipped_one_before():
    """The total is 0.0520 as shipped, then 0.0521, then 0.0530; other years stay as shipped."""
    book = book_of(LOG)
    assert book.choose("FR", 2022).factor.total_kgco2e_per_kwh == Decimal("0.0530")
    assert book.choose("FR", 2022).factor.version == 2
    assert book.choose("FR", 2023).factor == SHIPPED["ADEME-FR-2023-MOY"]
    assert factor_book().choose("FR", 2022).factor.version == 0


@pytest.mark.parametrize(
    ("day", "total"),
    [
        ("2026-05-31", "0.0520"),
        ("2026-06-01", "0.0521"),
        ("2026-08-31", "0.0521"),
        ("2026-09-01", "0.0530"),
        ("2099-01-01", "0.0530"),
    ],
)
def test_as_known_on_a_day(day: str, total: str):
    """A report made again as of a day applies the factor in force at that day's end, UTC."""
    book = book_of(LOG, date.fromisoformat(day))
    assert book.choose("FR", 2022).factor.total_kgco2e_per_kwh == Decimal(total)


def test_a_shipped_value_is_not_known_before_it_was_published():
    """Before 18 May 2026, 2025 takes 2024's value, provisional; undated values were always known."""
    before, then = book_of((), date(2026, 5, 17)), book_of((), date(2026, 5, 18))
    assert before.choose("FR", 2025).provisional
    assert before.choose("FR", 2025).factor.factor_id == "ADEME-FR-2024-MOY"
    assert then.choose("FR", 2025).factor == FR_2025
    assert before.choose("FR", 2021).factor.factor_id == "ADEME-FR-2021-MOY"
    assert before.choose("DE", 2023).factor.factor_id == "OWID-DEU-2023"


def test_a_withdrawn_version_rules_no_more():
    """The shipped value is in force again; where none is shipped, there is no factor."""
    book = book_of(versions(("2026-06-01", restated("0.9", status=FactorStatus.WITHDRAWN))))
    assert book.choose("FR", 2022).factor == FR_2022
    gone = versions(("2026-06-01", CORSICA), ("2026-06-02", replace(CORSICA, status=FactorStatus.WITHDRAWN)))
    assert in_force(gone) == {}
    assert in_force(gone, date(2026, 6, 1))["ADEME-FR-20R-2022-MOY"].version == 1
    with pytest.raises(UnknownZone, match="its own"):
        book_of(gone).choose("FR-20R", 2022)


@pytest.mark.parametrize(
    "zone", ["FR-20R", "Corse", "corsica", "FR-COR", "fr-20r", "Mayotte", "YT", "Saint-Barthélemy"]
)
def test_islands_never_get_the_mainlands_factor(zone: str):
    """A zone that is not shipped raises an error that says what to import, and never falls back on FR."""
    for year in (2022, 2026):
        with pytest.raises(UnknownZone, match="never applied there"):
            factor_book().choose(zone, year)


def test_an_imported_island_serves_itself_alone():
    """Corsica is found by any of its names; the mainland keeps its own factor."""
    book = book_of(versions(("2026-06-01", CORSICA)))
    for name in ("FR-20R", "Corse", "FR-COR"):
        chosen = book.choose(name, 2024)
        assert (chosen.factor.factor_id, chosen.provisional) == ("ADEME-FR-20R-2022-MOY", True)
    assert book.choose("FR", 2022).factor == FR_2022
    with pytest.raises(UnknownZone):
        book.choose("YT", 2022)


def test_the_log_tells_every_value_and_its_time():
    """The log gives each value with its version and the time it was in force."""
    rows = history(SHIPPED.values(), LOG)["ADEME-FR-2022-MOY"]
    assert [
        (str(row.factor.total_kgco2e_per_kwh), row.from_unix_milliseconds, row.until_unix_milliseconds)
        for row in rows
    ] == [
        ("0.0520", None, at("2026-06-01")),
        ("0.0521", at("2026-06-01"), at("2026-09-01")),
        ("0.0530", at("2026-09-01"), None),
    ]
    assert [row.version.version if row.version else None for row in rows] == [None, 1, 2]


def kinds(brought: Sequence[Factor], log: Sequence[FactorVersion] = ()) -> list[str]:
    """Return the kind of change of each factor that an import would bring."""
    return [one.kind for one in changes(brought, SHIPPED, in_force(log))]


def test_what_an_import_changes():
    """A factor is new, confirmed, restated or the same; archiving changes only a version in force."""
    imported = versions(("2026-06-01", FR_2022), ("2026-06-01", CORSICA))
    archived = replace(FR_2022, status=FactorStatus.ARCHIVED)
    assert kinds([FR_2022, CORSICA, restated("0.06")]) == ["confirmed", "new", "restated"]
    assert kinds([FR_2022, CORSICA], imported) == ["same", "same"]
    assert kinds([restated("0.06")], imported) == ["restated"]
    assert kinds([replace(FR_2022, uncertainty_percent=Decimal(12))], imported) == ["restated"]
    assert kinds([archived], imported) == ["archived"]
    assert kinds([archived]) == ["same"]
    assert kinds([archived], versions(("2026-06-01", archived))) == ["same"]


def test_an_archived_factor_still_serves_its_year():
    """An archived factor keeps its value and shows its status."""
    book = book_of(versions(("2026-06-01", replace(FR_2022, status=FactorStatus.ARCHIVED))))
    chosen = book.choose("FR", 2022)
    assert (chosen.factor.status, chosen.provisional) == (FactorStatus.ARCHIVED, False)


@pytest.mark.parametrize("factor", [*AdemeFactors().factors(), CORSICA])
def test_a_factor_goes_to_the_collector_and_back(factor: Factor):
    """A factor is the same after encoding as JSON and decoding, to the digit."""
    assert factor_from_document(factor_document(factor)) == factor


@pytest.mark.parametrize(
    "change",
    [
        {"licence": " "},
        {"source": ""},
        {"total_kgco2e_per_kwh": "0"},
        {"total_kgco2e_per_kwh": "-0.1"},
        {"total_kgco2e_per_kwh": "NaN"},
        {"total_kgco2e_per_kwh": "52"},
        {"total_kgco2e_per_kwh": 0.052},
        {"components": {"combustion": "0.1"}},
        {"components": {"combustion": "0.1", "upstream": "x", "losses": "0"}},
        {"uncertainty_percent": "0"},
        {"valid_to": "2021-12-31"},
        {"status": "good"},
        {"zone": "F\x1bR"},
        {"source": "x" * 400},
    ],
)
def test_what_can_be_no_factor_is_refused_at_the_door(change: dict[str, object]):
    """The collector checks a factor whatever the command sent."""
    with pytest.raises(UsageError):
        factor_from_document({**factor_document(FR_2022), **change})


def test_a_source_without_licence_does_not_load():
    """A source of any name without licence raises one clear error."""

    class Bare:
        name = "bare"

        def factors(self) -> tuple[Factor, ...]:
            return (replace(FR_2022, licence="", source=" "),)

    with pytest.raises(ConfigurationError, match="no licence and no source"):
        FactorBook([Bare()])


def test_rows_can_be_neither_changed_nor_deleted(tmp_path: Path):
    """The database itself refuses SQL that changes or deletes rows."""
    limits = settings.Store(free_bytes_minimum=0)
    with closing(create_store(tmp_path, limits, simulated=False, now_unix_milliseconds=NOW)) as store:
        store.factors.put([FR_2022], FILE, NOW)
        for statement in (
            "UPDATE factor_versions SET total = '0.01'",
            "DELETE FROM factor_versions",
            "UPDATE factor_imports SET why = ''",
            "DELETE FROM factor_imports",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="never"):
                store.data.connection.execute(statement)
        kept = store.factors.versions()[0].factor  # the day of reading is the import's, in the log
        assert (replace(kept, version=0), kept.sourced) == (replace(FR_2022, accessed=""), True)
