# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Explains what readers get of the fleet: every number follows from published contents and public counts.

Rows of the fleet are computed again from the contents (released_oracle.py), their errors by the product from
the contents alone, and each number of an answer from the rows. What nothing explains is returned. So answers
about the fleet tell what the contents tell; the contents become equations (explaining.py).
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tests.promises.support.publications import FleetOfMonth
from tests.promises.support.read_together import Row, Watched
from tests.support.released_oracle import Counts, unexplained
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.fleet.estimator import class_microwatts
from veilleuse.collector.model.query import DEFAULT_PERIMETERS, GroupKey, cut_entity, is_within
from veilleuse.collector.quantiles import Z95
from veilleuse.collector.release.fleet import ReleaseAssumptions
from veilleuse.collector.release.format import FORM
from veilleuse.collector.release.months import ReleasedMonth, estimate_months
from veilleuse.collector.release.rows import FleetRow
from veilleuse.wire.units import MILLIJOULES_PER_KWH, MILLISECONDS_PER_DAY

K: Final = 10
SCREENS: Final = "monitor"
EMPTY: Final = '{"cells": [], "hidden_cells": []}'
MILLION: Final = 1_000_000
SELECTION: Final = 1.5
"""Bound of the sensitivity: methodology.md."""
OF_THE_FACTOR: Final = ("factor_", "u_factor", "kgco2e_", "split_residual")
"""Prefixes of numbers that are a constant of the grid zone × the energy, or its interval's."""


def contents(data: Watched) -> Iterator[Row]:
    """Yield the cells of every published month of each look, as an answer to all readers."""
    roles = frozenset({"reader", *(f"reader of {name}" for name in data.entities)})
    for version, months in enumerate(data.fleets):
        for part, month in months.items():
            for cell in json.loads(month.content or EMPTY)["cells"]:
                energy = sum(row[5] for row in cell["energies"])
                numbers = {
                    "n": cell["hosts"],
                    "known_milliseconds": sum(row[2] for row in cell["states"]),
                    "kwh_total": energy / MILLIJOULES_PER_KWH,
                    "u_model": sum(row[6] for row in cell["energies"]) / energy if energy else 0,
                }
                labels = {
                    "period_from": part.first.isoformat(),
                    "period_to": part.end.isoformat(),
                    "zone": cell["zone"],
                    "population": cell["population"],
                    "entity": cell["entity"],
                    "device_class": cell["device_class"],
                    "autres": str(cell["autres"]),
                }
                yield Row(version, "api", "contents: cells", roles, "cells", labels, numbers)


def unexplained_rows(months: Mapping[Slice, FleetOfMonth]) -> list[str]:
    """Return the numbers of one look's rows under the rule that contents and counts do not give, as text."""
    found = []
    by_year: defaultdict[int, list[Slice]] = defaultdict(list)
    for part in sorted(months, key=lambda one: one.first):
        by_year[part.first.year].append(part)
    for parts in by_year.values():
        of_year = [months[part] for part in parts]
        ruled = [[row for row in one.rows if row.measured is None] for one in of_year]
        counts: list[Counts] = [
            {
                (key.zone, str(key.population), str(key.entity), str(key.device_class)): count
                for key, count in one.fleet.items()
            }
            for one in of_year
        ]
        public = [one.content or EMPTY for one in of_year]
        found += unexplained(ruled, public, counts, class_microwatts(), K)
        found += _other_errors(parts, of_year, ruled)
    return found


def _other_errors(
    parts: Sequence[Slice], months: Sequence[FleetOfMonth], ruled: Sequence[Sequence[FleetRow]]
) -> Iterator[str]:
    """Yield rows whose errors are not those of an estimate from contents and counts alone."""
    public = []
    for part, one in zip(parts, months, strict=True):
        told = FORM.decode(json.loads(one.content), part.first, part.end) if one.content else None
        public.append(ReleasedMonth(told.cells if told else (), told.hidden_cells if told else (), one.fleet))
    for mine, again in zip(
        ruled, estimate_months(public, ReleaseAssumptions(class_microwatts(), K)), strict=True
    ):
        errors = Counter(map(_errors, mine))
        yield from map(str, errors - Counter(map(_errors, again)))


def _errors(row: FleetRow) -> tuple[Any, ...]:
    return str(row.key.entity), str(row.key.device_class), row.u_own_ppm, row.u_shared_ppm, row.u_model_ppm


@dataclass
class Sum:
    """Sum of rows of months."""

    rows: Sequence[tuple[Slice, FleetRow]]

    def of(self, name: str) -> int:
        """Return the sum of a number of all rows."""
        return sum(getattr(row, name) for _, row in self.rows)

    def of_machines(self, name: str) -> int:
        """Return the sum of a number of rows without screens."""
        return sum(getattr(row, name) for _, row in self.rows if row.key.device_class != SCREENS)

    def most(self, name: str) -> int:
        """Return the largest of the months; a machine and its screens count once."""
        machines = [one for one in self.rows if one[1].key.device_class != SCREENS] or self.rows
        by_month = Counter[Slice]()
        for part, row in machines:
            by_month[part] += getattr(row, name)
        return max(by_month.values(), default=0)

    @property
    def energy(self) -> int:
        """Known and extrapolated energy, mJ."""
        return self.of("known_millijoules") + self.of("extrapolated_millijoules")

    def errors(self) -> tuple[float, float, float]:
        """Return (u_sampling, u_model, lower end on the log scale)."""
        pools: defaultdict[tuple[Any, ...], defaultdict[Any, list[FleetRow]]] = defaultdict(
            lambda: defaultdict(list)
        )
        model = Counter[Any]()
        for _, row in self.rows:
            pools[row.pool][row.key.over()].append(row)
            model[row.key.device_class] += row.u_model_ppm * row.energy_millijoules
        square, known = 0.0, 0
        for by_place in pools.values():
            shares = [sum(row.share_ppm for row in rows) // len(rows) for rows in by_place.values()]
            inside = 0 if MILLION in shares else min(MILLION, sum(shares))
            own = sum(
                sum(row.u_own_ppm * row.energy_millijoules for row in rows) ** 2 for rows in by_place.values()
            )
            rows_of_pool = [row for rows in by_place.values() for row in rows]
            square += own * (1 - inside / MILLION)
            square += sum(row.u_shared_ppm * row.energy_millijoules for row in rows_of_pool) ** 2
            if not inside or inside >= MILLION - len(by_place):
                known += sum(
                    row.known_millijoules for row in rows_of_pool if row.source.value in ("own", "branch")
                )
        whole = self.energy * MILLION or 1
        sampling = math.sqrt(square) / whole
        of_model = math.sqrt(sum(error**2 for error in model.values())) / whole
        high = Z95 * math.hypot(sampling, of_model)
        low = min(high, Z95 * of_model + math.log(self.energy / known)) if known else high
        return sampling, of_model, low


def unexplained_answers(data: Watched, rows: Iterable[Row]) -> list[tuple[Row, str, float]]:
    """Return the numbers of answers about the fleet that the rows of their look do not give."""
    found = []
    for row in rows:
        if row.outlet == "api" and "admin" not in row.roles and row.table in ("rows", "totals", "memo"):
            kind = row.answer.partition(": ")[2].partition(" ")[0]
            if kind != "indicators":
                found += list(_explain(row, Sum(list(_rows_of(row, data)))))
    return found


def _rows_of(row: Row, data: Watched) -> Iterator[tuple[Slice, FleetRow]]:
    """Yield the rows of the fleet that an answer's row sums."""
    (role,) = row.roles
    scope = (role.removeprefix("reader of "),) if role.startswith("reader of ") else ()
    level = int(row.answer.partition("level=")[2][:1] or 0) or None
    first, end = row.labels["period_from"], row.labels["period_to"]
    grouping = row.answer.partition(" by ")[2].partition(" ")[0].partition("&")[0].split(",")
    observed = row.labels.get("basis") == "observed"

    def labels_of(key: GroupKey) -> dict[str, Any]:
        mine = {
            "zone": key.zone,
            "population": str(key.population or ""),
            "entity": _cut(key.entity or "", level, scope),
            "device_class": key.device_class,
            "power_context": str(key.power_context or ""),
            "perimeter": DEFAULT_PERIMETERS.of(key),
        }
        return {name: word for name, word in mine.items() if name in row.labels}

    def is_inside(key: GroupKey) -> bool:
        return not scope or (bool(key.entity) and is_within(str(key.entity), scope))

    for part, month in data.fleets[row.version].items():
        months_rows = month.rows if first <= part.first.isoformat() < end else ()
        labels_in: defaultdict[GroupKey | None, set[str]] = defaultdict(set)
        for one in months_rows:
            labels_in[one.cell].add(str({name: labels_of(one.key).get(name) for name in grouping}))
        for one in months_rows:
            key, inside = one.key, is_inside(one.key)
            if observed and not one.known_milliseconds and not one.known_millijoules:
                continue
            if observed and one.cell is not None:  # nothing published tells a part of a cell
                inside &= is_inside(one.cell)
                if len(labels_in[one.cell]) > 1:
                    key = one.cell._replace(power_context=key.power_context)
            mine = labels_of(key)
            if "entity" in mine and key.autres is not (row.labels["level"] == "autres"):
                continue
            inside &= key.memo is (row.table == "memo")
            if inside and all(row.labels[name] == word for name, word in mine.items()):
                yield part, _observed(one) if observed else one


def _observed(row: FleetRow) -> FleetRow:
    """Return the measured part of a row; models err over its cell."""
    energy = row.energy_millijoules
    modelled = energy - row.default_millijoules
    key = row.key._replace(device_class=(row.cell or row.key).device_class)
    u_model = math.ceil(row.u_model_ppm * energy / modelled) if modelled else 0
    errors = {"u_own_ppm": 0, "u_shared_ppm": 0, "u_model_ppm": u_model}
    return replace(row, key=key, extrapolated_millijoules=0, default_millijoules=0, **errors)  # type: ignore[arg-type]


def _cut(entity: str, level: int | None, scope: Sequence[str]) -> str:
    """Return the entity's level, never above the reader's own."""
    return max(
        cut_entity(entity, level), next((one for one in scope if is_within(entity, (one,))), ""), key=len
    )


def _explain(row: Row, of: Sum) -> Iterable[tuple[Row, str, float]]:
    """Yield the numbers of a row that these rows of the fleet do not give."""
    known, extrapolated = of.of("known_millijoules"), of.of("extrapolated_millijoules")
    energy = known + extrapolated
    time, in_service = of.of_machines("known_milliseconds"), of.of_machines("fleet_milliseconds")
    exact: dict[str, float] = {
        "n": of.most("hosts"),
        "n_fleet": of.most("machines"),
        "energy_millijoules": energy,
        "extrapolated_millijoules": extrapolated,
        "default_millijoules": of.of("default_millijoules"),
        "kwh_total": energy / MILLIJOULES_PER_KWH,
        "kwh_extrapolated": extrapolated / MILLIJOULES_PER_KWH,
        "kwh_default": of.of("default_millijoules") / MILLIJOULES_PER_KWH,
        "machine_days_observed": time / MILLISECONDS_PER_DAY,
        "machine_days_fleet": in_service / MILLISECONDS_PER_DAY,
        "coverage_states": time / in_service if in_service else 0,
    }
    sampling, model, low = of.errors()
    high = Z95 * math.hypot(sampling, model)
    share = (extrapolated - of.of("default_millijoules")) / energy if energy else 0
    down, up = -math.log1p(share * (1 / SELECTION - 1)), math.log1p(share * (SELECTION - 1))
    near = {
        "u_sampling": sampling,
        "u_model": model,
        "gsd2": math.exp(2 * math.hypot(sampling, model, row.numbers.get("u_factor", 0))),
        "kwh_lo_sample": exact["kwh_total"] * math.exp(-low),
        "kwh_hi_sample": exact["kwh_total"] * math.exp(high),
        "kwh_lo95": exact["kwh_total"] * math.exp(-low),
        "kwh_hi95": exact["kwh_total"] * math.exp(high),
        "kwh_lo_sensitivity": exact["kwh_total"] * math.exp(-math.hypot(low, down)),
        "kwh_hi_sensitivity": exact["kwh_total"] * math.exp(math.hypot(high, up)),
    }
    for name, value in row.numbers.items():
        is_near = name in near and math.isclose(near[name], value, rel_tol=2e-6, abs_tol=2e-6)
        if exact.get(name) != value and not is_near and not name.startswith(OF_THE_FACTOR):
            yield row, name, value
