# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of contracts with a site in reports of released months."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.support.filled import Filled
from tests.support.inventories import Listed, put_inventory
from tests.support.sources import opened
from tests.unit.collector.account.test_market import contract
from tests.unit.collector.reports.test_fleet_publication import OCTOBER, SEP, filled, laptops, published
from veilleuse.collector.model.hosts import Site
from veilleuse.collector.model.query import Query
from veilleuse.collector.reports.emissions import emissions_report_of
from veilleuse.collector.settings import ReportingSettings
from veilleuse.wire.bands import DEFAULT_CALENDAR
from veilleuse.wire.vocabulary import DeviceClass, Population

pytestmark = pytest.mark.any_date


def report(data: Filled) -> dict[str, Any]:
    """Return the total, contracts and notes of September's released report."""
    with opened(data.directory, ReportingSettings()) as sources:
        query = Query(SEP.first, SEP.end, ("entity",), today=OCTOBER)
        document = emissions_report_of(sources, query).document
    (total,) = document.tables["totals"]
    return {"total": total, "contracts": document.tables["contracts"], "notes": str(document.assumptions)}


def test_a_site_contract_covers_entities_at_the_site_and_names_the_energy_of_no_known_site(tmp_path: Path):
    """A is at lyon, B at lyon and bron. A contract of lyon covers A; the energy of B is named in kWh, and the
    market-based figure stays.
    """
    with filled(tmp_path) as data:
        data.store.registry.put_site(Site("bron", "FR", "Europe/Paris", DEFAULT_CALENDAR.to_json()))
        listed = [Listed((one,), "A") for one in laptops(data, 12, "A")]
        listed += [Listed((one,), "B") for one in laptops(data, 12, "B")]
        put_inventory(data, listed, OCTOBER)
        data.add_host(
            Population.WORKSTATION, DeviceClass.LAPTOP, entity="B", site="bron", enrolled_on=date(2026, 8, 31)
        )
        published(data)
        kwh = {row["entity"]: row["kwh_total"] for row in rows_of(data)}
        dates = {"valid_from": SEP.first, "valid_to": SEP.end}
        data.store.factors.enter(contract(0, "9999", "0.001", site="lyon", **dates), "me", "why", 0)
        made = report(data)
    (line,) = made["contracts"]
    assert (line["site"], line["kwh_covered"]) == ("lyon", pytest.approx(kwh["A"]))
    assert line["kwh_site_unknown"] == pytest.approx(kwh["B"])
    location = made["total"]["kgco2e_total"]
    factor = location / sum(kwh.values())
    assert made["total"]["kgco2e_market"] == pytest.approx(kwh["A"] * 0.001 + kwh["B"] * factor)
    assert "limité au site lyon" in made["notes"]


def rows_of(data: Filled) -> list[dict[str, Any]]:
    """Return the rows of September's released report by entity."""
    with opened(data.directory, ReportingSettings()) as sources:
        query = Query(SEP.first, SEP.end, ("entity",), today=OCTOBER)
        return [dict(row) for row in emissions_report_of(sources, query).document.tables["rows"]]


def test_a_contract_of_a_site_where_nothing_is_known_to_stand_is_named(tmp_path: Path):
    """Without energy at the site, the contract covers nothing; what may be there is told in kWh."""
    with filled(tmp_path) as data:
        data.store.registry.put_site(Site("bron", "FR", "Europe/Paris", DEFAULT_CALENDAR.to_json()))
        laptops(data, 12, "A")
        data.add_host(
            Population.WORKSTATION, DeviceClass.LAPTOP, entity="A", site="bron", enrolled_on=date(2026, 8, 31)
        )
        published(data)
        dates = {"valid_from": SEP.first, "valid_to": SEP.end}
        data.store.factors.enter(contract(0, "9999", "0.001", site="bron", **dates), "me", "why", 0)
        made = report(data)
    (line,) = made["contracts"]
    assert (line["kwh_covered"], line["kwh_site_unknown"]) == (0.0, pytest.approx(made["total"]["kwh_total"]))
    assert "limité au site bron" in made["notes"]
