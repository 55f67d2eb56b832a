# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the page of how well the yearly figure is known: coverage, methods, what would narrow its interval.

Its rows are the released figures of the report; nothing is computed but sums and shares of them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from veilleuse.collector.documents.document import Row
from veilleuse.collector.documents.text import DASH, NO_BREAK, Words
from veilleuse.collector.fleet.estimate import EstimateBasis
from veilleuse.collector.model.inventory import ENTITY_SEPARATOR
from veilleuse.collector.model.query import AUTRES, Query
from veilleuse.collector.reports.summaries.rows import ends_of, interval_text, sum_ends
from veilleuse.collector.web.api.resources import ResourceKind
from veilleuse.collector.web.pages.bilan import ENTITY, coverage_of, number_of, years_of
from veilleuse.collector.web.pages.frame import Look
from veilleuse.collector.web.pages.parts import Grid, Head, PageCell, cells, interval_column, paginate

PATH: Final = "/qualite"
_MEGA: Final = 1_000_000
_ERRORS: Final = ("u_model", "u_sampling", "u_factor")


@dataclass(frozen=True, slots=True)
class QualityPage:
    """Values of the template."""

    period: str
    tiles: tuple[tuple[str, str, str], ...]
    narrow: tuple[str, ...]
    """Sentences: what would narrow the interval most, first."""
    classes: Grid | None
    entities: Grid | None
    methods: Grid | None
    own: Grid | None
    """What Veilleuse itself uses; none for readers of some entities."""
    own_ratio: str
    """Sentence: avoidable energy found for each kWh used; empty where either is not known."""
    doubts: str
    """Sentence about the inventory's doubts; empty for readers and without any."""


async def quality(look: Look) -> Mapping[str, object]:
    """Build the page of a year: the one that is under way, or the one before it in January."""
    years = await look.read(lambda store: years_of(store, look.today))
    newest = look.today.year if look.today.month > 1 else look.today.year - 1
    year = look.whole_number("year", newest, 2000, look.today.year)
    period = date(year, 1, 1), date(year + 1, 1, 1)
    classes = await look.document(ResourceKind.EMISSIONS, Query(*period, ("device_class",)))
    entities = await look.document(ResourceKind.EMISSIONS, Query(*period, ("entity",)))
    totals = classes.tables.get("totals", ())
    doubts = await look.read(lambda store: len(store.inventory.doubts())) if look.is_admin else 0
    w = look.w
    page = QualityPage(
        w("quality.year", year=year),
        tuple(_tiles(totals, w)),
        tuple(_narrow(classes.tables["rows"], totals, w)),
        _classes(classes.tables["rows"], w),
        _entities(entities.tables["rows"], look),
        _methods(classes.tables["rows"], w),
        _own_use(own := classes.tables.get("own_use", ()), w),
        _own_ratio(own, w),
        w.count("quality.doubts", doubts) if doubts else "",
    )
    to_choose = sorted({*years, year}, reverse=True)
    return {"page": page, "year": year, "years": {one: look.link(PATH, year=one) for one in to_choose}}


def _tiles(totals: Sequence[Row], w: Words) -> Iterable[tuple[str, str, str]]:
    if len(totals) != 1:
        return
    (total,) = totals
    yield w("quality.coverage"), coverage_of(totals, w), w("quality.coverage_note")
    low, high = _ends(total)
    if low and high:
        # the geometric half-width: the interval is symmetric on the log scale
        half = math.sqrt(high / low) - 1
        yield w("quality.width"), f"± {w.percent(half)}", interval_text(total, w, "kwh")
    known = {name: number_of(total, name) for name in _ERRORS if name in total}
    if known:
        largest = max(known, key=lambda name: known[name])
        yield w("quality.largest"), w(f"quality.{largest}"), w(f"quality.{largest}_text")


def _ends(row: Row) -> tuple[float, float]:
    """Return the ends of a row's energy, kWh; (0, 0) without an interval."""
    ends = ends_of(row, "kwh")
    return (0.0, 0.0) if ends is None else ends[1:]


def _variances(rows: Iterable[Row]) -> dict[str, float]:
    """Return device class → squared width of its intervals, kWh²."""
    found: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        low, high = _ends(row)
        found[str(row.get("device_class"))] += (high - low) ** 2
    return found


def _narrow(rows: Sequence[Row], totals: Sequence[Row], w: Words) -> Iterable[str]:
    """Yield what would narrow the interval most: the widest classes, and by what."""
    variances = _variances(rows)
    whole = sum(variances.values())
    if not whole or not totals:
        return
    widest = sorted(variances, key=lambda name: -variances[name])[:3]
    for name in widest:
        same = [row for row in rows if str(row.get("device_class")) == name]
        share = w.percent(variances[name] / whole)
        model, sampling = (max(number_of(row, one) for row in same) for one in ("u_model", "u_sampling"))
        key = "calibrate" if model >= sampling else "install"
        # A row of fewer than k PCs has no n.
        if not any(row.get("n", row.get("basis") == EstimateBasis.SAMPLE) for row in same):
            key = "unmeasured"
        yield w(f"quality.narrow_{key}", machines=w.word("device_class", name), share=share)


def _classes(rows: Sequence[Row], w: Words) -> Grid | None:
    variances = _variances(rows)
    whole = sum(variances.values())
    by_class: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_class[str(row.get("device_class"))].append(row)
    ordered = sorted(by_class, key=lambda name: -variances[name])
    head, intervals = interval_column([sum_ends(by_class[name], "kwh") for name in ordered], w, "kwh")
    found = tuple(
        cells(
            w.word("device_class", name),
            coverage_of(by_class[name], w),
            PageCell(
                w.percent(variances[name] / whole) if whole else DASH,
                share=variances[name] / whole if whole else 0.0,
            ),
            interval,
        )
        for name, interval in zip(ordered, intervals, strict=True)
    )
    heads = (
        Head(w("quality.class")),
        Head(w("quality.coverage"), is_number=True),
        Head(w("quality.share"), is_number=True),
        head,
    )
    return Grid(w("quality.classes"), heads, found) if found else None


def _entities(rows: Sequence[Row], look: Look) -> Grid | None:
    w = look.w
    by_entity: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        name = str(row.get("entity") or AUTRES)
        by_entity[name].append(row)
    found = tuple(
        cells(
            PageCell(w("bilan.merged"))
            if name == AUTRES
            else PageCell(name.replace(ENTITY_SEPARATOR, " › "), link=look.link(ENTITY, name=name)),
            coverage_of(same, w),
        )
        for name, same in sorted(by_entity.items(), key=lambda one: _coverage(one[1]))
    )
    heads = Head(w("quality.entity")), Head(w("quality.coverage"), is_number=True)
    page = look.whole_number("page", 1, 1, 10_000)
    whole = Grid(w("quality.entities"), heads, found)
    return paginate(whole, page, w, lambda other: look.link(PATH, page=other)) if found else None


def _coverage(rows: Iterable[Row]) -> float:
    fleet = sum(number_of(row, "machine_days_fleet") for row in rows)
    return sum(number_of(row, "machine_days_observed") for row in rows) / fleet if fleet else 2.0


def _methods(rows: Iterable[Row], w: Words) -> Grid | None:
    """Return the share of each method. Rows of PCs tell only what of them is extrapolated."""
    energies: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        mix, energy = row.get("method_mix"), number_of(row, "kwh_total")
        if isinstance(mix, Mapping):
            for method, share in mix.items():
                energies[method] += energy * float(str(share))
        else:
            extrapolated = number_of(row, "kwh_extrapolated")
            energies["extrapolated"] += extrapolated
            energies["not_told"] += energy - extrapolated
    whole = sum(energies.values())
    if not whole:
        return None
    found = tuple(
        cells(
            w("quality.not_told") if name == "not_told" else w.word("method", name),
            PageCell(w.percent(energy / whole), share=energy / whole),
            w(f"methods.{name}_text") if w.has(f"methods.{name}_text") else w(f"quality.{name}_text"),
        )
        for name, energy in sorted(energies.items(), key=lambda one: -one[1])
    )
    heads = (
        Head(w("methods.method")),
        Head(w("methods.share"), is_number=True),
        Head(w("methods.meaning")),
    )
    return Grid(w("quality.methods"), heads, found)


def _own_use(rows: Sequence[Row], w: Words) -> Grid | None:
    """Return what each part of Veilleuse used, as the report states it."""
    found = tuple(
        cells(
            w.word("own_part", str(row["own_part"]))
            if "population" not in row
            else f"{w.word('own_part', str(row['own_part']))}, {w.word('population', str(row['population']))}",
            f"{row.get('n', DASH)}",
            f"{row['own_months']}",
            w.kwh(number_of(row, "kwh_own")) if "kwh_own" in row else DASH,
            _hours(row, w),
            _megabytes(row, w),
            w.word("reason", str(row["reason"])) if "reason" in row else "",
        )
        for row in rows
    )
    heads = ("part", "machines", "months", "energy", "cpu", "bytes", "unknown")
    columns = tuple(Head(w(f"quality.own_{one}"), is_number=one not in ("part", "unknown")) for one in heads)
    return Grid(w("quality.own_caption"), columns, found) if found else None


def _hours(row: Row, w: Words) -> str:
    return f"{w.number(number_of(row, 'own_cpu_hours'))}{NO_BREAK}h" if "own_cpu_hours" in row else DASH


def _megabytes(row: Row, w: Words) -> str:
    if "own_received_bytes" not in row or "own_sent_bytes" not in row:
        return DASH
    whole = number_of(row, "own_received_bytes") + number_of(row, "own_sent_bytes")
    return f"{w.number(whole / _MEGA)}{NO_BREAK}{w('quality.own_megabytes')}"


def _own_ratio(rows: Sequence[Row], w: Words) -> str:
    whole = next((row for row in rows if "own_avoidable_ratio" in row), None)
    if whole is None:
        return ""
    return w(
        "quality.own_ratio",
        ratio=w.number(float(f"{number_of(whole, 'own_avoidable_ratio'):.2g}")),
        found=w.kwh(number_of(whole, "kwh_avoidable")),
        spent=w.kwh(number_of(whole, "kwh_own")),
    )
