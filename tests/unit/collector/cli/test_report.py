# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The emissions and indicators reports: arithmetic, columns and formats."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from tests.support.fleet_rows import released_periods
from tests.support.memory_store import DAY, HOUR, MemoryPeriods, MemoryReader, gather, host, site
from tests.support.year import vector
from veilleuse.collector.account.observations import ObservedGroups, gather_periods, u_model
from veilleuse.collector.account.statement import StatementTerms, build_statement
from veilleuse.collector.documents.document import BINARY, FOR_PEOPLE, FORMATS, Document, renderer
from veilleuse.collector.documents.formats import csv as csv_format
from veilleuse.collector.errors import UnknownZone
from veilleuse.collector.factors.book import choose
from veilleuse.collector.model.figures import EmissionsStatement
from veilleuse.collector.model.indicators import Targets
from veilleuse.collector.model.months import DayType, HostPeriod
from veilleuse.collector.model.query import AUTRES, Query
from veilleuse.collector.model.records import HostId
from veilleuse.collector.reports import emissions_document as emissions_report
from veilleuse.collector.reports import indicators_document as indicators_report
from veilleuse.collector.reports.indicators import IndicatorSums, indicator_rows
from veilleuse.collector.reports.summaries import emissions as emissions_summary
from veilleuse.collector.reports.summaries import indicators as indicators_summary
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

FIRST = date(2024, 3, 4)
END = date(2024, 3, 5)
NOW = round(datetime(2030, 1, 1, tzinfo=UTC).timestamp() * 1000)
KWH = 3_600_000_000
SERVER = Population.SERVER
HEAD = {"from": "2024-03-04", "to": "2024-03-05"}


def state_of(
    reader: MemoryReader, *dimensions: str, first: date = FIRST, end: date = END
) -> EmissionsStatement:
    """Return the statement of a period, one day by default."""
    terms = StatementTerms(choose, "simulated" if reader.simulated else "real")
    return build_statement(released_periods(groups_of(reader, *dimensions, first=first, end=end)), terms)


def groups_of(reader: MemoryReader, *dimensions: str, first: date = FIRST, end: date = END) -> ObservedGroups:
    """Return the groups of a period, by entity and class by default."""
    named = dimensions or ("entity", "device_class")
    return gather(reader, Query(first, end, named, 10, now_unix_milliseconds=NOW))


def servers() -> MemoryReader:
    """Return a Monday of 2024 with two servers and a virtual machine."""
    early = date(2024, 1, 1)
    reader = MemoryReader(
        [
            host(1, DeviceClass.SERVER, SERVER, entity="DSI", enrolled=early),
            host(2, DeviceClass.SERVER, SERVER, entity="Voirie", enrolled=early),
            host(3, DeviceClass.VIRTUAL_MACHINE, SERVER, entity="DSI", enrolled=early),
        ]
    )
    for number in (1, 2, 3):
        reader.state(number, FIRST, Band.OPEN, State.ON_ACTIVE, 10 * HOUR)
        reader.state(number, FIRST, Band.NIGHT, State.ON_IDLE, 8 * HOUR)
        reader.state(number, FIRST, Band.CLOSED, State.UNKNOWN, 6 * HOUR)
    reader.energy(1, FIRST, Band.OPEN, State.ON_ACTIVE, Method.METERED, 10 * HOUR, 2 * KWH, KWH // 50)
    reader.energy(1, FIRST, Band.NIGHT, State.ON_IDLE, Method.COUNTER_MODELLED, 8 * HOUR, KWH, KWH // 10)
    reader.energy(2, FIRST, Band.OPEN, State.ON_ACTIVE, Method.COUNTER_MODELLED, 10 * HOUR, 3 * KWH, KWH // 5)
    reader.energy(
        3, FIRST, Band.OPEN, State.ON_ACTIVE, Method.LOAD_MODELLED, 10 * HOUR, 123_456_789, 42_000_000
    )
    return reader


def test_a_row_has_its_energy_by_origin_and_its_emissions():
    """3 kWh, 2 of them metered, at ADEME 2024's 51.9 g are exact, with the shares of 2022."""
    row = state_of(servers()).rows[0]
    assert (row.key.entity, row.key.device_class, row.level, row.activity.n) == ("DSI", "server", "row", 1)
    assert (row.energy.kwh_measured, row.energy.kwh_modelled, row.energy.kwh_total) == (2.0, 1.0, 3.0)
    assert row.energy.energy_millijoules == 3 * KWH
    assert (row.factor.factor_id, row.factor.factor_kgco2e_per_kwh, row.factor.provisional) == (
        "ADEME-FR-2024-MOY",
        0.0519,
        False,
    )
    assert row.emissions.kgco2e_total == pytest.approx(0.1557, rel=1e-15)
    assert (row.emissions.kgco2e_combustion or 0) + (row.emissions.kgco2e_upstream or 0) + (
        row.emissions.kgco2e_losses or 0
    ) == pytest.approx(0.1557, rel=1e-15)
    assert row.emissions.split_estimated is True
    assert row.activity.machine_days_observed == 0.75
    assert (row.activity.coverage_states, row.activity.coverage_energy) == (0.75, 0.75)
    assert row.energy.method_mix == {"metered": 2 / 3, "counter_modelled": 1 / 3}


def test_uncertainty_is_linear_within_a_method_and_quadratic_between():
    """u_model comes from 1/50 and 1/10 + 1/5 kWh. Of released rows of one class it adds up linearly. The
    factor's uncertainty counts once, on the total."""
    machines = [group for group in groups_of(servers()).groups if not group.key.memo]
    assert u_model(machines) == pytest.approx(math.hypot(0.02, 0.1 + 0.2) / 6)
    (total,) = state_of(servers()).totals
    of_class = (math.hypot(0.02, 0.1) + 0.2) / 6
    assert total.uncertainty.u_model == pytest.approx(of_class, rel=1e-5)
    assert total.uncertainty.u_factor == pytest.approx(math.log(1.1) / 2)
    u = math.hypot(of_class, math.log(1.1) / 2)
    assert total.uncertainty.gsd2 == pytest.approx(math.exp(2 * u))
    assert total.uncertainty.kwh.lo95 == pytest.approx(6 * math.exp(-1.959964 * of_class))
    assert total.uncertainty.kgco2e.hi95 == pytest.approx(6 * 0.0519 * math.exp(1.959964 * u))


def test_what_rests_on_one_prior_is_wrong_together():
    """Errors of counters, load model and class default add linearly within a class, and in quadrature between
    classes (docs/methodology.md §10)."""
    reader = servers()
    reader.derived_rows.clear()
    for method in (Method.COUNTER_MODELLED, Method.LOAD_MODELLED, Method.CLASS_DEFAULT):
        reader.energy(1, FIRST, Band.OPEN, State.ON_ACTIVE, method, HOUR, KWH, KWH // 10)
    reader.host_list.append(host(4, DeviceClass.SFF, SERVER, enrolled=date(2024, 1, 1)))
    reader.energy(4, FIRST, Band.OPEN, State.ON_ACTIVE, Method.LOAD_MODELLED, HOUR, KWH, KWH // 10)
    machines = [group for group in groups_of(reader).groups if not group.key.memo]
    assert u_model(machines) == pytest.approx(math.hypot(0.3, 0.1) / 4)
    (total,) = state_of(reader).totals
    assert total.uncertainty.u_model == pytest.approx(math.hypot(0.3, 0.1) / 4, rel=1e-5)


def test_one_factor_under_two_names_of_a_zone_is_one_factor():
    """FR and France have one factor, whose uncertainty counts once, in full."""
    early = date(2024, 1, 1)
    hosts = [
        host(number, DeviceClass.SERVER, SERVER, place=place, enrolled=early)
        for number, place in ((1, "hq"), (2, "x"))
    ]
    reader = MemoryReader(hosts, [site(), site("x", "France")])
    for number in (1, 2):
        reader.energy(number, FIRST, Band.OPEN, State.ON_ACTIVE, Method.METERED, HOUR, KWH)
    (total,) = state_of(reader).totals
    assert (total.factor.factor_id, total.key.zone) == ("ADEME-FR-2024-MOY", "")
    assert total.uncertainty.u_factor == pytest.approx(math.log(1.1) / 2)


def test_totals_are_the_fleet_and_virtual_machines_a_memo():
    """The total is the integer sum of its rows; the virtual machine is in neither."""
    stated = state_of(servers())
    (total,), (memo,) = stated.totals, stated.memo
    assert total.level == "total"
    assert total.activity.n == 2
    assert (
        total.energy.energy_millijoules
        == sum(row.energy.energy_millijoules or 0 for row in stated.rows)
        == 6 * KWH
    )
    assert (memo.level, memo.key.device_class, memo.energy.energy_millijoules) == (
        "memo",
        "virtual_machine",
        123_456_789,
    )
    assert (total.key.entity, total.key.population, total.key.device_class) == (None, None, None)


def test_only_virtual_machines_leave_the_totals_empty():
    """Without a fleet row there is no total: absent, never zero."""
    reader = servers()
    reader.host_list = reader.host_list[2:]
    stated = state_of(reader)
    assert (stated.rows, stated.totals) == ((), ())
    assert stated.memo[0].energy.energy_millijoules == 123_456_789


def test_a_machine_seen_without_energy_has_no_energy_keys():
    """Observed machines without derived energy have their coverage, and no kWh of zero."""
    reader = servers()
    reader.derived_rows.clear()
    (row, _), (total,) = state_of(reader).rows, state_of(reader).totals
    for one in (row, total):
        assert one.energy.energy_millijoules is None
        assert one.emissions.kgco2e_total is None
        assert (one.activity.coverage_states, one.activity.coverage_energy) == (0.75, 0.0)


def test_a_measured_zero_is_a_zero():
    """A meter that counted nothing gives 0 mJ and 0 kg, and no mix."""
    reader = servers()
    reader.derived_rows.clear()
    reader.energy(1, FIRST, Band.OPEN, State.ON_ACTIVE, Method.METERED, HOUR, 0)
    row = state_of(reader).rows[0]
    assert (
        row.energy.energy_millijoules,
        row.energy.kwh_total,
        row.emissions.kgco2e_total,
        row.uncertainty.u_model,
    ) == (0, 0.0, 0.0, 0.0)
    assert row.energy.method_mix is None


def test_a_year_has_its_own_row_and_factor():
    """A period over New Year has two rows, totals and factors; 2026's is provisional."""
    reader = MemoryReader([host(1, DeviceClass.SERVER, SERVER, enrolled=date(2025, 1, 1))])
    reader.energy(1, date(2025, 12, 31), Band.CLOSED, State.ON_IDLE, Method.METERED, HOUR, KWH)
    reader.energy(1, date(2026, 1, 1), Band.CLOSED, State.ON_IDLE, Method.METERED, HOUR, KWH)
    stated = state_of(reader, first=date(2025, 12, 1), end=date(2026, 2, 1))
    assert [(row.key.period_from, row.key.period_to, row.factor.provisional) for row in stated.rows] == [
        (date(2025, 12, 1), date(2026, 1, 1), False),
        (date(2026, 1, 1), date(2026, 2, 1), True),
    ]
    assert len(stated.totals) == 2
    assert stated.rows[1].uncertainty.u_factor == pytest.approx(math.hypot(math.log(1.1) / 2, 0.108))
    assert [(one["factor_id"], one["year"], one["provisional"]) for one in stated.factors] == [
        ("ADEME-FR-2025-MOY", 2025, False),
        ("ADEME-FR-2025-MOY", 2026, True),
    ]


def test_a_total_over_two_zones_has_no_factor_of_its_own():
    """Each zone has its own factor; the total sums kilograms, with independent uncertainties."""
    reader = MemoryReader(
        [
            host(1, DeviceClass.SERVER, SERVER, enrolled=date(2024, 1, 1)),
            host(2, DeviceClass.SERVER, SERVER, place="bonn", enrolled=date(2024, 1, 1)),
        ],
        [site(), site("bonn", "DE")],
    )
    for number in (1, 2):
        reader.energy(number, FIRST, Band.OPEN, State.ON_ACTIVE, Method.METERED, HOUR, KWH)
    stated = state_of(reader)
    (total,) = stated.totals
    germany = float(choose("DE", 2024).factor.total_kgco2e_per_kwh)
    assert total.emissions.kgco2e_total == pytest.approx(0.0519 + germany)
    assert (total.factor.factor_id, total.factor.factor_kgco2e_per_kwh, total.factor.provisional) == (
        None,
        None,
        False,
    )
    assert total.emissions.kgco2e_combustion is None
    u = math.log(1.1) / 2
    assert total.uncertainty.u_factor == pytest.approx(u * math.hypot(0.0519, germany) / (0.0519 + germany))
    reader.derived_rows.clear()
    for number in (1, 2):
        reader.energy(number, FIRST, Band.OPEN, State.ON_ACTIVE, Method.METERED, HOUR, 0)
    assert state_of(reader).totals[0].uncertainty.u_factor == 0.0


def test_an_unknown_zone_stops_the_report():
    """Without a factor there is no figure."""
    reader = servers()
    reader.site_list = [site(zone="XX")]
    with pytest.raises(UnknownZone, match="XX"):
        state_of(reader)


def pcs(per_entity: dict[str, int]) -> MemoryReader:
    """Return workstations that were on all day, by entity."""
    reader = MemoryReader([])
    for entity, count in per_entity.items():
        for _ in range(count):
            number = len(reader.host_list) + 1
            reader.host_list.append(host(number, entity=entity, enrolled=date(2024, 1, 1)))
            reader.state(number, FIRST, Band.NIGHT, State.ON_IDLE, DAY)
            reader.energy(number, FIRST, Band.NIGHT, State.ON_IDLE, Method.LOAD_MODELLED, DAY, KWH)
    return reader


def test_one_metered_machine_in_a_crowd_does_not_show_its_meter():
    """`kwh_measured` would be its own kWh, so no row of PCs, and no total, tells how the energy is known."""
    reader = pcs({"A": 12, "B": 20})
    for number in range(1, 33):
        reader.energy(number, FIRST, Band.OPEN, State.ON_ACTIVE, Method.LOAD_MODELLED, HOUR, KWH)
    reader.energy(1, FIRST, Band.OPEN, State.ON_ACTIVE, Method.METERED, HOUR, KWH)
    stated = state_of(reader)
    one, other = stated.rows
    assert (
        one.energy.kwh_total,
        one.energy.kwh_measured,
        one.energy.kwh_modelled,
        one.energy.method_mix,
    ) == (25.0, None, None, None)
    assert (other.energy.kwh_total, other.energy.kwh_measured) == (40.0, None)
    assert (stated.totals[0].energy.kwh_total, stated.totals[0].energy.kwh_measured) == (65.0, None)


def test_the_night_of_one_pc_is_not_shown():
    """When one of twelve was on at night, I1 has no value and no kWh; 0 % is shown when none was."""
    reader = pcs({"A": 12, "B": 20})
    reader.sum_rows = [row for row in reader.sum_rows if row.host_id == 1]
    for number in range(2, 33):
        reader.state(number, FIRST, Band.NIGHT, State.OFF, 8 * HOUR)
        reader.state(number, FIRST, Band.OPEN, State.ON_ACTIVE, 8 * HOUR)
    _, sobriety = documents(reader)
    rows = {(row["indicator"], row["entity"]): row for row in sobriety.tables["rows"]}
    hidden, shown = rows["I1", "A"], rows["I1", "B"]
    assert hidden["withheld"] is True
    assert not {"value", "numerator_milliseconds", "kwh", "nights_on"} & hidden.keys()
    assert (shown["value"], shown["numerator_milliseconds"], shown["nights_on"]) == (0.0, 0, 0)
    assert rows["I2", "A"]["withheld"] is True
    assert rows["I2", "B"]["value"] == 0.0


def test_small_cells_merge_into_autres_and_totals_stay_complete():
    """Entities of 3 and 8 become one row of 11, as no row has fewer than 10 machines."""
    stated = state_of(pcs({"A": 12, "B": 3, "C": 8}))
    assert [(row.key.entity, row.key.device_class, row.level, row.activity.n) for row in stated.rows] == [
        ("A", "sff", "row", 12),
        (AUTRES, AUTRES, "autres", 11),
    ]
    assert stated.totals[0].energy.energy_millijoules == 23 * KWH


def test_a_population_under_k_is_in_no_row_and_no_total():
    """With nine PCs beside a server, the total is the server's alone."""
    reader = pcs({"A": 9})
    reader.host_list.append(host(99, DeviceClass.SERVER, SERVER, entity="A", enrolled=date(2024, 1, 1)))
    reader.energy(99, FIRST, Band.OPEN, State.ON_ACTIVE, Method.METERED, HOUR, 5)
    stated = state_of(reader)
    assert [row.key.device_class for row in stated.rows] == ["server"]
    assert stated.totals[0].energy.energy_millijoules == 5
    assert [(one["population"], one["level"]) for one in stated.withheld] == [("workstation", "row")]
    english = replace(emissions_report.document(stated, {}), language="en")
    assert "too few machines to be shown" in renderer("json")(english).decode()


# --- the formats


def documents(reader: MemoryReader) -> tuple[Document, Document]:
    """Return both reports."""
    data = "simulated" if reader.simulated else "real"
    sobriety = indicator_rows(IndicatorSums(groups_of(reader).groups, (), {}), Targets(), "real")
    rows = [{**row, "coverage_states": 0.75} for row in sobriety]
    return (
        emissions_report.document(state_of(reader), {**HEAD, "data": data, "basis": "released"}),
        indicators_report.document(rows, (), {**HEAD, "data": data}),
    )


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - BINARY))
def test_the_reports_are_these(golden: Callable[[str, bytes | str], None], name: str):
    """Golden files hold two servers, a virtual machine and a classroom of 11, with real factors."""
    reader = servers()
    for number in range(10, 21):
        reader.host_list.append(
            host(number, DeviceClass.SFF, Population.CLASSROOM, entity="Collège", enrolled=date(2024, 1, 1))
        )
        reader.state(
            number,
            FIRST,
            Band.NIGHT,
            State.ON_IDLE,
            8 * HOUR,
            idle_beyond_15_minutes_milliseconds=7 * HOUR,
            idle_beyond_30_minutes_milliseconds=7 * HOUR,
            idle_beyond_60_minutes_milliseconds=6 * HOUR,
        )
        reader.energy(
            number, FIRST, Band.NIGHT, State.ON_IDLE, Method.LOAD_MODELLED, 8 * HOUR, KWH // 10, KWH // 50
        )
    emissions, sobriety = documents(reader)
    if name in FOR_PEOPLE:
        emissions = emissions_summary.add_summary(emissions, {})
        sobriety = indicators_summary.add_summary(sobriety, {"population": sobriety, "entity": sobriety})
    golden(f"report/emissions.{name}", without_style(renderer(name)(emissions)))
    golden(f"report/indicators.{name}", without_style(renderer(name)(sobriety)))


def without_style(report: bytes) -> bytes:
    """Remove the style sheet and its hash, which are files of their own."""
    return re.sub(rb"<style>.*?</style>|'sha256-[^']*'", b"", report, flags=re.DOTALL)


def test_json_has_only_keys_that_exist():
    """JSON has no null, but all tables."""
    reader = servers()
    reader.derived_rows.clear()
    emissions, _ = documents(reader)
    text = renderer("json")(emissions).decode()
    whole = json.loads(text)
    assert "null" not in text
    assert {"report", "rows", "totals", "memo", "factors", "assumptions"} <= whole.keys()
    assert "energy_millijoules" not in whole["totals"][0]


def test_csv_is_rfc_4180_with_unrounded_numbers():
    """The standard library reads the same numbers under one header with CRLF; unused columns are absent."""
    emissions, _ = documents(servers())
    text = renderer("csv")(emissions).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert text.count("\r\n") == len(rows) + 1
    assert [row["level"] for row in rows] == ["row", "row", "total", "memo"]
    assert "site" not in rows[0]
    assert float(rows[3]["kwh_total"]) == 123_456_789 / KWH
    assert rows[0]["provisional"] == "false"
    assert rows[2]["entity"] == ""


def test_csv_of_nothing_is_its_header():
    """An empty report has its header."""
    text = renderer("csv")(indicators_report.document([], [], {})).decode()
    assert text.splitlines() == [",".join(indicators_report.COLUMNS)]


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("DSI;=cmd|' /C calc'!A0", "DSI;'=cmd|' /C calc'!A0"),
        ("a\n=1", "a\n'=1"),
        ("a, -1|@x", "a,' -1|'@x"),
        ("A=B", "A=B"),
        ("Collège d'Oullins (annexe) - B", "Collège d'Oullins (annexe) - B"),
    ],
)
def test_no_part_of_a_cell_is_a_formula(name: str, safe: str):
    """A French spreadsheet cuts lines at semicolons, so text after one begins a cell too."""
    assert csv_format.cell(name) == safe


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_no_cell_is_a_formula(name: str):
    """A hostile entity name stays text in a spreadsheet."""
    assert csv_format.cell(name) == f"'{name}"
    reader = MemoryReader([host(1, DeviceClass.SERVER, SERVER, entity=name, enrolled=date(2024, 1, 1))])
    emissions, _ = documents(reader)
    rows = list(csv.reader(io.StringIO(renderer("csv")(emissions).decode(), newline="")))
    assert not [value for row in rows for value in row if value.startswith(("=", "+", "@", "\t", "\r"))]


def test_notes_say_what_was_assumed():
    """The notes mention shared weeks and provisional factors."""
    reader = MemoryReader([host(1, DeviceClass.SERVER, SERVER)])
    monday = date(2026, 3, 2)
    values = vector(metered_milliseconds=HOUR, metered_energy_millijoules=5, on_idle_energy_millijoules=5)
    week = HostPeriod(HostId(1), monday, DayType.OPEN, Band.OPEN, values, apportioned=True)
    question = Query(monday, date(2026, 3, 4), (), 10, now_unix_milliseconds=NOW)
    gathered = gather_periods(reader, MemoryPeriods(reader, [week]), question)
    document = emissions_report.document(
        build_statement(released_periods(gathered), StatementTerms(choose, "simulated")), {}
    )
    notes = " ".join(map(str, document.assumptions))
    assert "provisional" in notes
    assert "apportioned" in notes
    assert document.tables["rows"][0]["data"] == "simulated"
