# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines the resources of /api/v1. Routes, request parsing and openapi.json all come from this table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from veilleuse.collector.documents.document import UNDER_WAY_UNTIL
from veilleuse.collector.model.figures import COLUMNS, OBSERVED, column_type
from veilleuse.collector.model.query import API_YEARS, DEFAULT_DIMENSIONS, DIMENSIONS, MAX_LEVEL, Basis
from veilleuse.collector.reports import indicators_document as indicators_report
from veilleuse.wire.vocabulary import Word

PREFIX: Final = "/api/v1"
DESCRIPTION: Final = f"{PREFIX}/openapi.json"
FORMATS: Final = ("json", "csv")
DEFAULT_LIMIT: Final = 1_000
MAX_LIMIT: Final = 10_000
MAX_PAGE: Final = 1_000_000
MAX_DAYS: Final = 1_827
"""Longest period of a query, days: five years with leap days."""
DATE: Final = r"20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
"""Pattern of a date; its years are API_YEARS."""
ZONE: Final = r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,4})?"

Schema = Mapping[str, Any]


class ResourceKind(Word):
    """Kind of resource."""

    EMISSIONS = "emissions"
    ENERGY = "energy"
    INDICATORS = "indicators"
    COVERAGE = "coverage"
    FACTORS = "factors"


class Extent(Word):
    """Machines and times that an answer's figures include.

    The head gives it as `figures`; each row of observed figures also gives it as `basis`.
    """

    FLEET = "fleet"
    """Includes machines and times without measurement: imputed and extrapolated."""
    OBSERVED = OBSERVED
    """What was observed of machines with an agent only: lower wherever the coverage is below 1."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter."""

    name: str
    doc: str
    schema: Schema
    """JSON Schema of its value."""
    example: str | int
    required: bool = False


@dataclass(frozen=True, slots=True)
class Resource:
    """One route."""

    kind: ResourceKind
    summary: str
    doc: str
    parameters: tuple[Parameter, ...]
    columns: Mapping[str, Schema]
    """Columns of a row: name → JSON Schema. Each may be absent: a missing value has no column."""
    tables: tuple[str, ...]
    """Tables of the JSON answer. `year` is only beside the months of a whole year of the fleet."""

    @property
    def path(self) -> str:
        """Return the route's path."""
        return f"{PREFIX}/{self.kind.value}"


_FROM = Parameter(
    "from",
    "First civil day, e.g. 2026-01-01.",
    {"type": "string", "pattern": f"^{DATE}$"},
    "2026-01-01",
    required=True,
)
_TO = Parameter(
    "to",
    f"Day after the last: periods are half-open. At most {MAX_DAYS} days after `from`.",
    {"type": "string", "pattern": f"^{DATE}$"},
    "2027-01-01",
    required=True,
)
_GROUP_BY = Parameter(
    "group_by",
    "What rows are of, separated by commas. Year and population always divide. `site` is for admins; in /indicators it divides servers for all.",
    {
        "type": "string",
        "pattern": f"^({'|'.join(DIMENSIONS)})(,({'|'.join(DIMENSIONS)})){{0,{len(DIMENSIONS) - 1}}}$",
        "default": ",".join(DEFAULT_DIMENSIONS),
    },
    "entity,month",
)
_LEVEL = Parameter(
    "level",
    "How many parts of an entity's path divide rows: 2 makes one row of `Métropole > Collèges` and all below it. Without it, all parts.",
    {"type": "integer", "minimum": 1, "maximum": MAX_LEVEL},
    2,
)
_BASIS = Parameter(
    "basis",
    "released: the sum of published months, the same for all accounts. observed: their measured part alone, without what is extrapolated."
    " unreleased: from machines' present data, for admins alone. An admin's question that released months cannot answer gets unreleased figures:"
    " `report.basis` says which.",
    {"type": "string", "enum": list(Basis), "default": Basis.RELEASED.value},
    "observed",
)
_PAGE = Parameter(
    "page",
    "Which page, from 1. `Link` says which is next.",
    {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 1},
    1,
)
_LIMIT = Parameter(
    "limit",
    "Rows of a page.",
    {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    100,
)
_FORMAT = Parameter(
    "format",
    "In place of the header `Accept`: json, or csv after RFC 4180.",
    {"type": "string", "enum": list(FORMATS), "default": "json"},
    "csv",
)
_ZONE = Parameter("zone", "Only this grid zone, e.g. FR.", {"type": "string", "pattern": f"^{ZONE}$"}, "FR")
_YEAR = Parameter(
    "year",
    "Only factors valid in this year.",
    {"type": "integer", "minimum": API_YEARS.first, "maximum": API_YEARS.last},
    2025,
)
_PAGES: Final = (_PAGE, _LIMIT, _FORMAT)
_PERIOD: Final = (_FROM, _TO, _GROUP_BY, _LEVEL)
_FLEET_PERIOD: Final = (*_PERIOD, _BASIS, *_PAGES)

_TEXT: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "number"}
_INTEGER: Final[Schema] = {"type": "integer"}
_FLAG: Final[Schema] = {"type": "boolean"}
_SHARES: Final[Schema] = {"type": "object"}
_TYPES: Final[Mapping[Any, Schema]] = {str: _TEXT, int: _INTEGER, float: _NUMBER, bool: _FLAG}
EMISSIONS_COLUMNS: Final[Mapping[str, Schema]] = {
    name: _TYPES.get(column_type(name), _SHARES) for name in COLUMNS
} | {UNDER_WAY_UNTIL: _TEXT}
_KEY: Final = (
    "period_from",
    "period_to",
    UNDER_WAY_UNTIL,
    "entity",
    "site",
    "zone",
    "population",
    "device_class",
    "power_context",
    "perimeter",
    "level",
    "incomplete",
    "n",
)
_FLEET: Final = ("n_fleet", "machine_days_fleet", "machine_days_observed", "representativeness")
_LAST: Final = ("imputed_share", "estimated", "basis", "apportioned", "data", "method_version")
ENERGY_COLUMNS: Final = (
    *_KEY,
    *_FLEET,
    "coverage_energy",
    "energy_millijoules",
    "measured_millijoules",
    "modelled_millijoules",
    "imputed_millijoules",
    "extrapolated_millijoules",
    "kwh_measured",
    "kwh_modelled",
    "kwh_imputed",
    "kwh_extrapolated",
    "kwh_total",
    "interval",
    "kwh_lo95",
    "kwh_hi95",
    "kwh_lo_sample",
    "kwh_hi_sample",
    "kwh_lo_sensitivity",
    "kwh_hi_sensitivity",
    "kwh_it",
    "kwh_ups_loss",
    "kwh_overhead",
    "overhead",
    "pue",
    "u_sampling",
    "u_model",
    "method_mix",
    "data_type",
    *_LAST,
)
"""Columns of /energy: those of /emissions that need no factor."""
COVERAGE_COLUMNS: Final = (*_KEY, *_FLEET, "coverage_states", "coverage_energy", *_LAST)
"""Columns of /coverage: the observed share of the fleet's time."""
_INDICATOR_TYPES: Final[Mapping[str, Schema]] = {
    "value": _NUMBER,
    "threshold": _NUMBER,
    "n": _INTEGER,
    "withheld": _FLAG,
    "incomplete": _FLAG,
    "kwh": _NUMBER,
    "nights_on": _INTEGER,
    "coverage_energy": _NUMBER,
    "coverage_states": _NUMBER,
    "numerator": _NUMBER,
    "denominator": _NUMBER,
    "avoidable_share": _NUMBER,
    "not_known": _INTEGER,
    "not_judged": _INTEGER,
    "suspects": _INTEGER,
    "suspects_not_judged": _INTEGER,
    "excluded": _INTEGER,
}
FACTOR_COLUMNS: Final[Mapping[str, Schema]] = {
    "factor_id": _TEXT,
    "zone": _TEXT,
    "valid_from": _TEXT,
    "valid_to": _TEXT,
    "factor_series": _TEXT,
    "factor_kgco2e_per_kwh": _NUMBER,
    "combustion_kgco2e_per_kwh": _NUMBER,
    "upstream_kgco2e_per_kwh": _NUMBER,
    "losses_kgco2e_per_kwh": _NUMBER,
    "split_residual_kgco2e_per_kwh": _NUMBER,
    "uncertainty_percent": _NUMBER,
    "uncertainty_inherited": _FLAG,
    "u_factor": _NUMBER,
    "official": _FLAG,
    "basis": _TEXT,
    "status": _TEXT,
    "factor_source": _TEXT,
    "factor_published": _TEXT,
    "factor_sourced": _FLAG,
    "licence": _TEXT,
}


def _indicator_columns() -> Mapping[str, Schema]:
    numbers = ("_milliseconds", "_ratio", "_kwh", "95")
    return {
        name: _INDICATOR_TYPES.get(name, _NUMBER if name.endswith(numbers) else _TEXT)
        for name in (*indicators_report.COLUMNS, UNDER_WAY_UNTIL)
    }


RESOURCES: Final = (
    Resource(
        ResourceKind.EMISSIONS,
        "Energy and emissions of the use phase",
        "The rows of `veilleuse report emissions`: official ledger, with factor, method, coverage and uncertainty beside each figure.",
        _FLEET_PERIOD,
        EMISSIONS_COLUMNS,
        (
            "rows",
            "totals",
            "memo",
            "year",
            "own_use",
            "items",
            "contracts",
            "home_shares",
            "factors",
            "withheld",
        ),
    ),
    Resource(
        ResourceKind.ENERGY,
        "Energy at the socket",
        "The same rows without what a factor makes of them.",
        _FLEET_PERIOD,
        {name: EMISSIONS_COLUMNS[name] for name in ENERGY_COLUMNS},
        ("rows", "totals", "memo", "year", "withheld"),
    ),
    Resource(
        ResourceKind.INDICATORS,
        "Sobriety indicators",
        "The rows of `veilleuse report indicators`: one per indicator and group.",
        _FLEET_PERIOD,
        _indicator_columns(),
        ("rows", "withheld"),
    ),
    Resource(
        ResourceKind.COVERAGE,
        "How much of the fleet the figures stand on",
        "I13: known state and known energy over the fleet's time. To be read before any other figure.",
        _FLEET_PERIOD,
        {name: EMISSIONS_COLUMNS[name] for name in COVERAGE_COLUMNS},
        ("rows", "totals", "memo", "year", "withheld"),
    ),
    Resource(
        ResourceKind.FACTORS,
        "Emission factors of electricity",
        "With source, publication, uncertainty and licence; `official`: what reports may apply.",
        (_ZONE, _YEAR, *_PAGES),
        FACTOR_COLUMNS,
        ("rows",),
    ),
)
BY_KIND: Final = {resource.kind: resource for resource in RESOURCES}
