# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what every store does with factors, contracts, mappings and perimeters.

It adds rows and never changes them. ports.Factors.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from tests.conformance.backends import Backend
from tests.support.pushes import NOW
from veilleuse.collector.account.ghg_items import DEFAULT_MAPPING, with_eple
from veilleuse.collector.errors import AdminError
from veilleuse.collector.factors.book import factor_book
from veilleuse.collector.model.factors import Contract, Factor, FactorImport, FactorStatus
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.model.query import DEFAULT_PERIMETERS, PerimeterRule, Perimeters
from veilleuse.wire.vocabulary import Population

FILE = FactorImport("Base_Carbone_V23.csv", "ab" * 32, "marie", "spring 2026")
SPLIT = factor_book().named("ADEME-FR-2022-MOY")
WHOLE = factor_book().named("ADEME-FR-2024-MOY")
CONTRACT = Contract(
    contract_id=0,
    label="Hôtel de Métropole",
    supplier="Énergie d'ici",
    valid_from=date(2026, 1, 1),
    valid_to=date(2027, 1, 1),
    kwh=Decimal("1200000.5"),
    factor_kgco2e_per_kwh=Decimal("0"),
    uncertainty_percent=Decimal(10),
    uncertainty_inherited=True,
    guarantees_of_origin="1200 certificates",
    source="contract 2025-17",
    entity="Métropole > DSI",
)


def test_versions_come_back_as_they_were(store: Backend):
    """Versions are read with exact decimals, parts and shares, with who, what and why; each names the version
    it supersedes."""
    assert store.factors.versions() == ()
    first = store.factors.put([SPLIT, WHOLE], FILE, NOW)
    restated = replace(SPLIT, total_kgco2e_per_kwh=Decimal("0.05210"), status=FactorStatus.ARCHIVED)
    (third,) = store.factors.put([restated], replace(FILE, why="again"), NOW + 1)
    one, two, three = store.factors.versions()
    assert (one.version, two.version, three.version) == (*first, third)
    assert replace(one.factor, version=0) == replace(
        SPLIT, accessed=""
    )  # the day of the import is stored separately
    assert replace(two.factor, version=0) == replace(WHOLE, accessed="")
    assert str(one.factor.total_kgco2e_per_kwh) == "0.0520"
    assert replace(three.factor, version=0) == replace(restated, accessed="")
    assert (one.supersedes, two.supersedes, three.supersedes) == (None, None, one.version)
    assert (one.imported, three.imported.why) == (FILE, "again")
    assert (one.imported_unix_milliseconds, three.imported_unix_milliseconds) == (NOW, NOW + 1)


def test_a_factor_without_licence_is_not_kept(store: Backend):
    """A factor without a licence is refused, with all factors of its import."""
    blank: Factor = replace(SPLIT, licence="")
    with pytest.raises(Exception, match="licence"):
        store.factors.put([SPLIT, blank], FILE, NOW)
    assert store.factors.versions() == ()


def test_contracts_are_entered_and_withdrawn_once(store: Backend):
    """Withdrawn contracts are kept, with who and why; a second withdrawal is refused."""
    number = store.factors.enter(CONTRACT, "marie", "year 2026", NOW)
    other = store.factors.enter(replace(CONTRACT, site="Lyon"), "marie", "", NOW)
    store.factors.withdraw_contract(number, "paul", "typing error", NOW + 5)
    first, second = store.factors.contracts()
    assert first.contract == replace(CONTRACT, contract_id=number)
    assert (first.withdrawn_unix_milliseconds, first.withdrawn_by, first.withdrawn_why) == (
        NOW + 5,
        "paul",
        "typing error",
    )
    assert (second.contract.contract_id, second.withdrawn_unix_milliseconds) == (other, None)
    with pytest.raises(AdminError, match="withdrawn already"):
        store.factors.withdraw_contract(number, "paul", "", NOW)
    with pytest.raises(AdminError, match="no contract 99"):
        store.factors.withdraw_contract(99, "paul", "", NOW)


def test_every_confirmed_mapping_stays(store: Backend):
    """All confirmed mappings are kept in order; the last is in force."""
    assert store.factors.mappings() == ()
    one = replace(with_eple(DEFAULT_MAPPING, True), confirmed_unix_milliseconds=NOW, confirmed_by="marie")
    two = replace(one, confirmed_unix_milliseconds=NOW + 1, why="nothing new")
    store.factors.confirm(one)
    store.factors.confirm(two)
    assert store.factors.mappings() == (one, two)


def test_every_declaration_of_perimeters_stays(store: Backend):
    """All declared perimeters are kept in order, with their rules."""
    assert store.factors.perimeters() == ()
    rules = (
        PerimeterRule("Culture", "Métropole > Culture", Population.SERVER, PowerContext.HOSTED, "server"),
    )
    one = Perimeters(rules, 2026, NOW, "marie", "comité")
    two = Perimeters(DEFAULT_PERIMETERS.rules, 2026, NOW + 1, "paul")
    store.factors.declare(one)
    store.factors.declare(two)
    assert store.factors.perimeters() == (one, two)
