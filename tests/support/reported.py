# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Make documents with all content that a format must write, for the tests and the bench of the formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import product
from typing import Any

from veilleuse.collector.documents.document import Chart, Document, Row
from veilleuse.collector.model.attribution import Attribution, AttributionShare, IdleBasis, IdlePower, Why
from veilleuse.collector.model.figures import COLUMNS
from veilleuse.collector.reports import attribution as attribution_report
from veilleuse.collector.reports.emissions_document import FIRST_COLUMNS
from veilleuse.collector.reports.indicators_document import ASSUMPTIONS, SOBRIETY_COLUMNS
from veilleuse.collector.reports.indicators_document import COLUMNS as INDICATORS_COLUMNS
from veilleuse.wire.ladder import Method

ENTITIES = ("Collège d'Oullins (annexe)", "Direction de l'eau > Études", "Voirie", "DSI")
CLASSES = ("laptop", "sff", "server")
NOW = round(datetime(2026, 3, 2, 8, 30, tzinfo=UTC).timestamp() * 1000)
HEAD: dict[str, Any] = {
    "kind": "emissions",
    "ledger": "official",
    "from": "2025-01-01",
    "to": "2026-01-01",
    "group_by": ["entity", "device_class"],
    "k_anonymity": 10,
    "data": "simulated",
    "method_version": "0.2",
    "periods_not_derived": 0,
    "generated_unix_milliseconds": NOW,
}
FACTOR: Row = {
    "factor_id": "ADEME-FR-2025-MOY",
    "zone": "FR",
    "year": 2025,
    "factor_series": "smoothed-4y",
    "factor_kgco2e_per_kwh": 0.0461,
    "provisional": True,
    "uncertainty_percent": 10.0,
    "uncertainty_inherited": True,
    "factor_source": "ADEME, Base Carbone",
    "factor_published": "2026-05-18",
    "licence": "Licence Ouverte 2.0",
}


def row(number: int, entity: str, device_class: str, level: str = "row") -> dict[str, Any]:
    """Return a row whose numbers all change when rounded; each third row lacks two values."""
    energy = 1_234_567_891_011 + 987_654_321_123 * number
    kwh = energy / 3_600_000_000
    kilograms = kwh * 0.0461
    told = f"{kwh:,.0f}\u00a0kWh ({kwh * 0.9:,.0f} à {kwh * 1.1:,.0f})"
    found: dict[str, Any] = {
        "period_from": "2025-01-01",
        "period_to": "2026-01-01",
        "entity": entity,
        "zone": "FR",
        "population": "server" if device_class == "server" else "workstation",
        "device_class": device_class,
        "level": level,
        "n": 11 + number,
        "machine_days_observed": 100 / 3 + number,
        "n_fleet": 1_200 + number,
        "coverage_states": 2 / 3,
        "coverage_energy": 1 / (number + 1.5),
        "energy_millijoules": energy,
        "kwh_measured": kwh / 3,
        "kwh_modelled": kwh - kwh / 3,
        "kwh_total": kwh,
        "kwh_lo95": kwh * 0.9,
        "kwh_hi95": kwh * 1.1,
        "factor_id": "ADEME-FR-2025-MOY",
        "factor_kgco2e_per_kwh": 0.0461,
        "provisional": True,
        "kgco2e_total": kilograms,
        "kgco2e_combustion": kilograms * 0.65,
        "kgco2e_upstream": kilograms * 0.259,
        "kgco2e_losses": kilograms * 0.091,
        "u_model": 0.1 + number / 700,
        "gsd2": 1.2 + number / 70,
        "method_mix": {"metered": 1 / 3, "load_modelled": 2 / 3} if number % 2 else {"counter_modelled": 1.0},
        "fleet_effect_kwh": (-1) ** number * kwh / 7,
        "apportioned": number % 2 == 0,
        "data": "simulated",
        "method_version": "0.2",
        "shown": {"kwh_total": {"fr": told.replace(",", "\u202f"), "en": told}},
    }
    if number % 3 == 0:
        del found["kwh_measured"], found["kwh_modelled"]
    return found


def total() -> Row:
    """Return a total, without entity and class."""
    return {name: value for name, value in row(12, "", "", "total").items() if value != ""}


def months() -> list[Row]:
    """Return a short table for a line chart; the value of one month is absent."""
    known: list[Row] = [
        {"month": f"2025-{month:02}", "kwh_total": 50_000 / 3 + 1_000 * month} for month in range(1, 13)
    ]
    return [*known[:6], {"month": "2025-07"}, *known[7:]]


def by_class() -> list[Row]:
    """Return a short table for bar charts."""
    return [
        {
            "device_class": device_class,
            "kwh_measured": 1_000.5 * number,
            "kwh_modelled": 700 / number,
            "fleet_effect_kwh": -500 / number,
        }
        for number, device_class in enumerate(CLASSES, 1)
    ]


CHARTS = (
    Chart(
        "stacked",
        "by_class",
        "device_class",
        ("kwh_measured", "kwh_modelled"),
        {"fr": "Énergie par type de matériel", "en": "Energy by device class"},
    ),
    Chart(
        "bar",
        "by_class",
        "device_class",
        ("kwh_modelled", "fleet_effect_kwh"),
        {"fr": "Modèle et effet du parc", "en": "Model and fleet effect"},
    ),
    Chart("line", "months", "month", ("kwh_total",), {"fr": "Énergie par mois", "en": "Energy by month"}),
)


def everything(
    names: Mapping[str, str] | None = None, language: str = "fr", entities: Sequence[str] = ENTITIES
) -> Document:
    """Return a document with rows, totals, memo, factors, months, charts and notes. `names` (place → text)
    replace the texts that somebody else wrote."""
    other = names or {}
    rows = [
        row(number, other.get("entity", entity), other.get("device_class", device_class))
        for number, (entity, device_class) in enumerate(product(entities, CLASSES))
    ]
    if "site" in other:
        rows = [{**one, "site": other["site"]} for one in rows]
    factor = {**FACTOR, **({"factor_source": other["source"]} if "source" in other else {})}
    return Document(
        head={**HEAD, **({"entity": other["head"]} if "head" in other else {})},
        columns=tuple(dict.fromkeys((*FIRST_COLUMNS, *COLUMNS))),
        tables={
            "rows": rows,
            "totals": [total()],
            "memo": [row(13, "DSI", other.get("device_class", "virtual_machine"), "memo")],
            "factors": [factor],
            "months": months(),
            "by_class": by_class(),
            "withheld": [],
        },
        tabular=("rows", "totals", "memo"),
        assumptions=(*ASSUMPTIONS, *([other["note"]] if "note" in other else [])),
        method=(
            {
                "fr": "L’énergie est stockée, les émissions sont dérivées.",
                "en": "Energy is stored, emissions are derived.",
            },
        ),
        charts=CHARTS,
        titles={
            "months": other.get("title", {"fr": "Énergie par mois", "en": "Energy by month"}),
            "by_class": {"fr": "Énergie par type de matériel", "en": "Energy by device class"},
        },
        language=language,
    )


def attribution(*names: str) -> Document:
    """Return a server's energy attributed to services of these names, as `veilleuse report attribution`
    makes it."""
    found = Attribution(
        energy_millijoules=10_000_000_007,
        uncertainty_millijoules=900_000_000,
        not_on_millijoules=7,
        idle={(Method.LOAD_MODELLED, IdleBasis.MODEL): 6_000_000_000},
        units={
            f"unit:{name}": AttributionShare(1_000 * n, 1_000_000_000 // len(names))
            for n, name in enumerate(names, 1)
        },
        rest=AttributionShare(5_000, 2_000_000_000),
        not_attributed={Why.NO_LOAD: 1_000_000_000},
        powers={Method.LOAD_MODELLED: IdlePower(IdleBasis.MODEL, 101_500_000)},
        methods={Method.LOAD_MODELLED: 10_000_000_007},
        on_milliseconds=80_000_000,
        derived_milliseconds=79_000_000,
        shared_milliseconds=70_000_000,
    )
    head: dict[str, Any] = {"host": "ab" * 16, "from": "2025-01-01", "to": "2025-02-01", "data": "real"}
    return attribution_report.document(found, {**head, "generated_unix_milliseconds": NOW}, memo=False)


def small(names: Mapping[str, str], language: str = "fr") -> Document:
    """Return the document of `everything` with three rows, for tests that write many documents."""
    return everything(names, language, ENTITIES[:1])


def require_columns(details: Mapping[str, object]) -> None:
    """Fail for a detail of an indicator that is no column of the report: it would have no label."""
    missing = details.keys() - {*INDICATORS_COLUMNS, *SOBRIETY_COLUMNS}
    assert not missing, (
        "add to SOBRIETY_COLUMNS (of SUMS: COLUMNS) in reports/indicators_document.py, and to "
        f"documents/columns.toml: {missing}"
    )
