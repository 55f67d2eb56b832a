# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of closed years through the commands: states, revisions, signature, and lasting figures."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import replace
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.support import clock
from tests.support.backups import make_backup, put_back
from tests.support.closed_years import (
    PERIOD,
    SIGN_OFF,
    TODAY,
    YEAR,
    put,
    report,
    signed_off,
    stored,
    told,
    verified,
    watch,
)
from tests.support.filled import Filled
from tests.support.machines import served, settings_in
from tests.support.rolled import retention, roll, server_day
from tests.support.sources import opened
from veilleuse.collector.app.data_directory import open_collector
from veilleuse.collector.closed_years import preconditions
from veilleuse.collector.documents import text as report_words
from veilleuse.collector.documents.document import LANGUAGES
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.factors.book import factor_book
from veilleuse.collector.factors.versions import factor_document
from veilleuse.collector.model.closed_years import ClosedFile, canonical, pack, sha256
from veilleuse.collector.model.hosts import HostStatus
from veilleuse.collector.model.inventory import Asset, Placement
from veilleuse.collector.ports.months import PendingMonths
from veilleuse.collector.reports.close_year import ClosingOrder, propose
from veilleuse.collector.store.sqlite.closed_years import SqliteClosingsReader
from veilleuse.wire.vocabulary import DeviceClass, Population

pytestmark = pytest.mark.any_date

# states of a year


def test_open_provisional_definitive(place, veilleuse):
    """Each closing is a revision with a reason, a repeated one is none, and the report shows the state and
    the first published figure."""
    assert report(veilleuse)["report"]["state"] == "open"
    dry = told(veilleuse, "close", str(YEAR), "--dry-run")
    assert (dry["written"], dry["revision"], dry["state"]) == (False, 1, "closed_provisional")
    assert told(veilleuse, "close", "--list") == []
    first = told(veilleuse, "close", str(YEAR))
    assert first["written"]
    again = told(veilleuse, "close", str(YEAR))
    assert (again["written"], again["changed"]) == (False, False)
    assert veilleuse("close", str(YEAR), *signed_off(place))[0] == 2
    last = told(veilleuse, "close", str(YEAR), *signed_off(place), "--why", "the year is complete")
    assert (last["revision"], last["state"]) == (2, "closed_definitive")
    assert told(veilleuse, "close", str(YEAR))["changed"] is False  # it stays definitive
    listed = told(veilleuse, "close", "--list")
    assert [(one["report_id"], one["state"]) for one in listed] == [
        ("2025-r1", "closed_provisional"),
        ("2025-r2", "closed_definitive"),
    ]
    shown = report(veilleuse)
    assert shown["report"]["state"] == "closed_definitive"
    for row in (*shown["rows"], *shown["totals"]):
        assert (row["report_id"], row["revision"], row["sha256"]) == ("2025-r2", 2, last["sha256"])
        assert row["as_published_kgco2e"] == row["kgco2e_total"]
        assert row["state"] == "closed_definitive"
    for name in ("kwh_total", "kwh_lo_sample", "kgco2e_hi_sensitivity"):
        assert f"{shown['totals'][0][name]:.12g}" == last["totals"][0][name]
    assert not [name for name in last["totals"][0] if name.endswith("95")]
    for language in LANGUAGES:  # of a closed report, and of an open one, which has fewer words
        assert shown["report"].keys() <= report_words.words(language).texts["head"].keys()


def test_a_closed_year_outlives_its_machines(place, veilleuse, tmp_path):
    """With every row expired and every machine forgotten, a closed year verifies and reports equal figures.
    So do a restored backup and, with the public key, the exported file alone."""
    told(veilleuse, "close", str(YEAR), *signed_off(place))
    before, totals = report(veilleuse), verified(told(veilleuse, "verify", str(YEAR)))
    with Filled(place.data_dir) as filled:
        retention(filled, closed_years=filled.store.closings.definitive_years()).run(date(2032, 1, 1))
        for host in filled.store.registry.hosts():
            with filled.store.transaction():
                filled.store.registry.set_status(host.host_id, HostStatus.FORGOTTEN)
    with open_collector(place) as collector:  # completes the forgetting
        connection = collector.store.data.connection
        for table in ("records", "sums", "derived", "host_months", "host_years", "gone_days", "hosts"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    assert verified(told(veilleuse, "verify", str(YEAR))) == totals
    after = report(veilleuse)
    assert (after["rows"], after["totals"]) == (before["rows"], before["totals"])
    assert (
        report(veilleuse, "--group-by", "site")["totals"][0]["energy_millijoules"]
        == before["totals"][0]["energy_millijoules"]
    )
    key = told(veilleuse, "close", "--key")["public_key"]

    archive = make_backup(place, tmp_path / "year.backup")
    shutil.rmtree(place.data_dir)
    put_back(place, archive)
    assert verified(told(veilleuse, "verify", str(YEAR))) == totals
    assert report(veilleuse)["totals"] == before["totals"]

    told(veilleuse, "close", "--export", str(tmp_path / "out"))
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "out").rename(elsewhere)
    shutil.rmtree(place.data_dir)
    file = str(elsewhere / "2025-r1.json")
    assert verified(told(veilleuse, "verify", file, "--key", key)) == totals
    assert verified(told(veilleuse, "verify", file, "--key", str(elsewhere / "key.pem"))) == totals
    assert verified(told(veilleuse, "verify", file, code=3)) == totals  # nobody says whose key it is
    assert told(veilleuse, "verify", file, "--key", "5" * 64, code=1)[0]["verified"] is False


def test_through_the_running_collector(place, veilleuse):
    """The collector signs and writes; the command computes."""
    with served(place):
        found = told(veilleuse, "close", str(YEAR))
        assert found["written"]
        assert told(veilleuse, "close", "--key")["public_key"] == found["public_key"]
    assert (place.data_dir / "closed" / "2025-r1.json.sig").stat().st_mode & 0o777 == 0o600
    verified(told(veilleuse, "verify", str(YEAR)))


# --- revisions


def test_the_difference_is_told_by_cause(place, veilleuse):
    """Late data, added machines and another factor each move one cause; causes sum to the difference."""
    first = told(veilleuse, "close", str(YEAR))
    with Filled(place.data_dir) as filled:
        (server,) = [h for h in filled.store.registry.hosts() if h.population is Population.SERVER]
        server_day(filled, server.host_id, date(YEAR, 5, 5), watts=900)
        filled.derive()
        roll(filled, TODAY)
    late = told(veilleuse, "close", str(YEAR), "--why", "a day came late")
    assert _moved(first, late) == {"late_data"}
    with Filled(place.data_dir) as filled:
        filled.add_host(enrolled_on=date(YEAR, 6, 1))
    more = told(veilleuse, "close", str(YEAR), "--why", "a server was not enrolled")
    assert _moved(late, more) == {"perimeter"}
    _restate("0.0922")
    twice = told(veilleuse, "close", str(YEAR), "--why", "restated by ADEME")
    assert _moved(more, twice) == {"factor"}
    assert Fraction(twice["totals"][0]["kgco2e_total_exact"]) == 2 * Fraction(
        more["totals"][0]["kgco2e_total_exact"]
    )
    shown = report(veilleuse)["totals"][0]
    assert f"{shown['as_published_kgco2e']:.12g}" == first["totals"][0]["kgco2e_total"]
    assert shown["revision"] == 4
    verified(told(veilleuse, "verify", str(YEAR)))


def _moved(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Return the causes that are not 0; check that they sum to the difference exactly."""
    difference = after["difference"]
    old, new = before["totals"][0], after["totals"][0]
    effects = {
        unit: {cause: Fraction(one["exact"]) for cause, one in difference[unit].items()}
        for unit in ("kwh", "kgco2e")
    }
    assert sum(effects["kwh"].values()) == Fraction(
        new["energy_millijoules"] - old["energy_millijoules"], 3_600_000_000
    )
    assert sum(effects["kgco2e"].values()) == Fraction(new["kgco2e_total_exact"]) - Fraction(
        old["kgco2e_total_exact"]
    )
    return {cause for unit in effects.values() for cause, effect in unit.items() if effect}


def _restate(total: str) -> None:
    """Import another value of ADEME for the year."""
    import os

    settings = settings_in(Path(os.environ["VEILLEUSE__DATA_DIR"]).parent)
    document = factor_document(factor_book().named(f"ADEME-FR-{YEAR}-MOY"))
    with open_collector(settings) as collector:
        collector.operations.perform(
            "factors_import",
            {
                "factors": [{**document, "total_kgco2e_per_kwh": total}],
                "file_name": "base.csv",
                "file_sha256": "0" * 64,
                "who": "test",
            },
        )


def test_a_restated_factor_revises_a_year_whose_machines_are_gone(place, veilleuse):
    """After a definitive closing only the kept statistics count: a factor changes the figure."""
    first = told(veilleuse, "close", str(YEAR), *signed_off(place))
    with open_collector(place) as collector:
        collector.retention.run(date(2032, 1, 1))
    _restate("0.05")
    assert report(veilleuse)["totals"][0]["kgco2e_total"] == pytest.approx(
        float(first["totals"][0]["kgco2e_total"])
    )  # frozen
    unapproved = told(veilleuse, "close", str(YEAR), "--why", "restated", code=1)["open_points"]
    assert [one for one in unapproved if "approved 2025-r1, and the total has changed since" in one]
    again = signed_off(place, SIGN_OFF.replace("2026-02-20", "2026-06-01"))
    found = told(veilleuse, "close", str(YEAR), *again, "--why", "restated")
    assert (found["state"], found["revision"]) == ("closed_definitive", 2)
    assert _moved(first, found) == {"factor"}
    with closing(SqliteClosingsReader(place.data_dir)) as reader:
        one, two = reader.revisions(YEAR)
    assert one.statistics_sha256 == two.statistics_sha256
    verified(told(veilleuse, "verify", str(YEAR)))


def test_a_definitive_year_takes_no_late_data(place, veilleuse):
    """Late data change nothing, even while machines' rows remain: else a figure would depend on its day."""
    told(veilleuse, "close", str(YEAR), *signed_off(place))
    with Filled(place.data_dir) as filled:
        (server,) = [h for h in filled.store.registry.hosts() if h.population is Population.SERVER]
        server_day(filled, server.host_id, date(YEAR, 5, 5), watts=900)
        filled.derive()
        roll(filled, TODAY)
    assert told(veilleuse, "close", str(YEAR), "--why", "late")["changed"] is False


def test_a_definitive_year_of_an_earlier_program_is_no_other_one(place, veilleuse):
    """Kept statistics in another form with equal content make no revision, and stay byte for byte."""
    with opened(place.data_dir, place.reporting) as sources:
        made = propose(sources, place, ClosingOrder(YEAR, True, "me", "", _now(), TODAY))
    kept = json.loads(made.file.statistics)
    for one in kept["fleet"]:
        del one["standby_milliseconds"]
    statistics = canonical(kept)
    put(place, {**made.report, "statistics_sha256": sha256(statistics)}, statistics)
    assert told(veilleuse, "close", str(YEAR))["changed"] is False
    _restate("0.05")
    assert told(veilleuse, "close", str(YEAR), *signed_off(place), "--why", "restated")["written"]
    assert stored(place, 2)[1].statistics == statistics
    verified(told(veilleuse, "verify", str(YEAR)))


def test_a_year_of_another_method_is_shown_as_it_was_written(place, veilleuse):
    """A later program shows the year's figures as written, and refuses other groupings."""
    told(veilleuse, "close", str(YEAR))
    shown = report(veilleuse)
    told_, file = stored(place)
    document = json.loads(file.report) | {"method_version": "0.1", "revision": 2, "report_id": "2025-r2"}
    put(place, {**document, "previous_sha256": told_.sha256}, file.statistics)
    again = report(veilleuse)
    assert again["totals"][0]["method_version"] == "0.1"
    assert again["totals"][0]["kwh_total"] == pytest.approx(shown["totals"][0]["kwh_total"], rel=1e-11)
    assert [row["energy_millijoules"] for row in again["rows"]] == [
        row["energy_millijoules"] for row in shown["rows"]
    ]
    found = told(veilleuse, "verify", str(YEAR), code=3)
    assert "of method 0.1" in found[1]["notes"][0]
    code, _, err = veilleuse("report", "emissions", *PERIOD, "--group-by", "site")
    assert (code, "only what was frozen" in err) == (2, True)


def test_a_revision_by_another_method_is_shown_in_every_grouping(place, veilleuse):
    """The first revision is of an earlier method: its published figure is shown where it can be, the present
    figures in every grouping."""
    with opened(place.data_dir, place.reporting) as sources:
        made = propose(sources, place, ClosingOrder(YEAR, False, "me", "", _now(), TODAY))
    put(place, {**made.report, "method_version": "0.1"}, made.file.statistics)
    told(veilleuse, "close", str(YEAR), "--why", "computed by the present method")
    (total,) = report(veilleuse)["totals"]
    assert (total["revision"], total["as_published_kgco2e"]) == (2, pytest.approx(total["kgco2e_total"]))
    (by_site,) = report(veilleuse, "--group-by", "site")["totals"]
    assert by_site["energy_millijoules"] == total["energy_millijoules"]


def test_a_closed_year_is_compared_with_a_closed_one(place, veilleuse):
    """There is no change against an open year, since it differs once its machines are gone. Against a closed
    year the kept sums give the same answer as while both were open: here that coverage doubled."""
    with Filled(place.data_dir) as filled:
        watch(filled, YEAR - 1)
        watch(filled, YEAR)
    open_years = report(veilleuse)["totals"][0]
    told(veilleuse, "close", str(YEAR))
    alone = report(veilleuse)["totals"][0]
    assert "change_kwh" not in alone
    assert alone["not_compared"] == "open"
    told(veilleuse, "close", str(YEAR - 1))
    total = report(veilleuse)["totals"][0]
    assert total["not_compared"] == open_years["not_compared"] == "coverage"
    assert total["days_observed_before"] == pytest.approx(open_years["days_observed_before"])
    assert not [name for name in total if name.startswith("change") or "effect" in name]


# --- refusals


def test_definitive_is_refused_and_says_what_to_do(place, veilleuse, monkeypatch):
    """A provisional factor, low coverage and pending work refuse a definitive closing, each with a remedy; a
    provisional closing reports them."""
    monkeypatch.setenv("VEILLEUSE__CLOSING__COVERAGE_MINIMUM_RATIO", "0.5")
    with Filled(place.data_dir) as filled:
        filled.add_site("berlin", zone="DE")
        # After January: one of two servers without its first month looks like months that were removed.
        host = filled.add_host(site="berlin", enrolled_on=date(YEAR, 2, 1))
        server_day(filled, host, date(YEAR, 2, 3))
    found = told(veilleuse, "close", str(YEAR), "--definitive", code=1)
    points = "\n".join(found["open_points"])
    assert found["written"] is False
    for words in (
        "the factor of DE for 2025 is provisional",
        "veilleuse factors import",
        "wait to be derived: run 'veilleuse derive'",
        "months of machines are not kept",
        "below closing.coverage_minimum_ratio (50%)",
    ):
        assert words in points
    assert told(veilleuse, "close", "--list") == []
    assert told(veilleuse, "close", str(YEAR), code=3)["state"] == "closed_provisional"


def test_unresolved_rows_of_the_inventory_refuse():
    """Doubts and assets of unknown class in service in the year refuse the closing; other assets do not."""

    def asset(number: int, device_class: str, out: date | None = None) -> Asset:
        return Asset(number, device_class, (Placement(date(2020, 1, 1), "E", ""),), out_of_service_on=out)

    assets = [asset(1, "unknown"), asset(2, "unknown", date(2024, 6, 1)), asset(3, "tower")]
    assert list(preconditions.of_inventory(0, assets[1:], YEAR)) == []
    first, second = preconditions.of_inventory(3, assets, YEAR)
    assert "3 rows of the inventory are in doubt" in first
    assert "1 assets in service in 2025" in second
    assert list(preconditions.of_data(YEAR, PendingMonths(0, 0))) == []


def test_the_item_of_a_college_is_asked_for(place, veilleuse):
    """A machine on a college's own contract refuses a definitive closing until the item is entered."""
    with Filled(place.data_dir) as filled:
        for _ in range(10):
            pc = filled.add_host(
                Population.CLASSROOM, DeviceClass.SFF, entity="College", enrolled_on=date(YEAR, 1, 1)
            )
            assert pc
    found = told(veilleuse, "close", str(YEAR), "--definitive", code=1)
    assert any("not entered for eple" in point for point in found["open_points"])


@pytest.mark.parametrize(
    ("today", "said"),
    [
        (date(2026, 1, 3), "2025 is not over"),
        (date(2025, 7, 1), "2025 is not over"),
    ],
)
def test_a_year_that_is_not_over(place, today, said):
    """December is kept until three days after its end."""
    order = ClosingOrder(YEAR, False, "me", "", 0, today)
    with opened(place.data_dir, place.reporting) as sources, pytest.raises(UsageError, match=said):
        propose(sources, place, order)
    with opened(place.data_dir, place.reporting) as sources:
        assert propose(sources, place, replace(order, today=date(2026, 1, 4))).changed


def test_words_that_cannot_be(place, veilleuse):
    """A missing year, an impossible year and a reason of two lines are usage errors."""
    for words in (("close",), ("close", "1999"), ("close", str(YEAR), "--why", "a\nb"), ("verify", "2019")):
        assert veilleuse(*words)[0] == 2
    assert veilleuse("verify", str(YEAR), "--key", "1" * 64)[0] == 2
    assert veilleuse("close", "--export", "out")[0] == 1


def test_a_closed_year_tells_no_less_than_itself(place, veilleuse, monkeypatch):
    """Months, the present tree, a part and a stricter k are refused; longer periods use the kept sums."""
    told(veilleuse, "close", str(YEAR), *signed_off(place))
    for words, said in (
        (("--group-by", "month"), "leave out 'month'"),
        (("--tree", "now"), "stand where they stood then"),
    ):
        code, _, err = veilleuse("report", "emissions", *PERIOD, *words)
        assert (code, said in err) == (2, True), err
    part = ("--from", f"{YEAR}-01-01", "--to", f"{YEAR}-07-01")
    assert veilleuse("report", "emissions", *part)[0] == 2
    both = ("--from", f"{YEAR}-01-01", "--to", f"{YEAR + 2}-01-01", "--format", "json")
    code, out, _ = veilleuse("report", "emissions", *both)
    assert code == 0
    alone = report(veilleuse)["totals"][0]["energy_millijoules"]
    assert json.loads(out)["totals"][0]["energy_millijoules"] == alone
    monkeypatch.setenv("VEILLEUSE__REPORTING__K_ANONYMITY", "11")
    code, _, err = veilleuse("report", "emissions", *PERIOD)
    assert (code, "cells of 10 machines" in err) == (2, True)


def test_the_collector_looks_again(place):
    """The collector refuses files that are damaged, of another clock, overtaken or wrongly definitive."""
    with opened(place.data_dir, place.reporting) as sources:
        made = propose(sources, place, ClosingOrder(YEAR, True, "me", "", _now(), TODAY))
    with open_collector(place) as collector:
        operations = collector.operations

        def put(document: dict[str, Any]) -> Any:
            import base64
            import secrets

            small = pack(ClosedFile(canonical(document), made.file.statistics, b""))
            name = secrets.token_hex(16)
            whole = base64.b64encode(small.report + small.statistics).decode()
            operations.perform("close_part", {"upload": name, "number": 0, "data": whole})
            return operations.perform("close_put", {"upload": name, "report_bytes": len(small.report)})

        report_ = dict(made.report)
        with pytest.raises(UsageError, match="statistics are not those"):
            put(report_ | {"statistics_sha256": "0" * 64})
        with pytest.raises(UsageError, match="not a closed year"):
            put({"kind": "something else"})
        with pytest.raises(AdminError, match="clocks"):
            put(report_ | {"closed_unix_milliseconds": 0})
        terms = report_["terms"]
        shaky = terms | {"factors": [{**terms["factors"][0], "provisional": True}]}
        with pytest.raises(AdminError, match="a factor is provisional"):
            put(report_ | {"terms": shaky})
        assert put(report_)["report_id"] == "2025-r1"
        with pytest.raises(AdminError, match="another revision of 2025"):
            put(report_)
        second = report_ | {
            "revision": 2,
            "report_id": "2025-r2",
            "previous_sha256": made.closed_year.sha256,
            "state": "closed_provisional",
        }
        with pytest.raises(AdminError, match="is definitive too"):
            put(second)


def _now() -> int:

    return clock.unix_milliseconds()
