# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Writes recommendations as sentences, and as a Document: the page and the command say the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from veilleuse.collector.documents.document import Document, Head, Row, Value
from veilleuse.collector.documents.text import Words
from veilleuse.collector.indicators import load_indicator
from veilleuse.collector.indicators.avoidable_energy import CAUSES, kwh_by_cause
from veilleuse.collector.model.indicators import Figure, Targets
from veilleuse.collector.model.inventory import ENTITY_SEPARATOR
from veilleuse.collector.model.query import AUTRES
from veilleuse.collector.reports.recommendations.facts import DeclaredAction
from veilleuse.collector.reports.recommendations.priorities import SUSPECT, Recommendation
from veilleuse.collector.reports.recommendations.summary import summary_of
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import Population

COLUMNS: Final = (
    "rank",
    "entity",
    "site",
    "server",
    "population",
    "device_class",
    "level",
    "n",
    "months",
    "avoidable_kwh",
    "avoidable_lo95_kwh",
    "avoidable_hi95_kwh",
    "yearly_kwh",
    "yearly_lo95_kwh",
    "yearly_hi95_kwh",
    "cause",
    "closed_bands_kwh",
    "open_idle_kwh",
    "screens_kwh",
    "mixed_kwh",
    "comatose_servers_kwh",
    "nights_on",
    "kwh",
    "sentence",
    "owner",
    "declared_actions",
    "action",
    "what",
    "sites",
    "from_day",
    "saving_kwh",
    "saving_lo95_kwh",
    "saving_hi95_kwh",
    "claimed",
    "data",
)
ASSUMPTIONS: Final = (
    "A row is the sum of the avoidable energy (I4) of the months asked, of one entity and device class: nothing is extrapolated to machines without an agent.",
    "Rows are ranked by energy a year: that of the months counted ÷ their number × 12; of merged groups (autres), ÷ the months of the period. Seasons are not corrected. A machine may be in autres in some months and in its own row in others: energy a year is not to be added over rows.",
    "The sentence names the remedy of the largest cause that is told; its hour is the closing hour that the calendars of the sites declare.",
    "Machines of small groups are in autres, in the months in which fewer than k stand behind their entity and class.",
    "A comatose server counts with all its energy of the period, whenever it became one: that is what stopping it would have saved. The rows of I4 count it from the month in which it was judged.",
    "A server without avoidable energy is a verdict of I6 to I8: what a smaller or a shared server saves is not known in kWh.",
)
_MINUTES_PER_HOUR: Final = 60
_LEAST_SHARE: Final = 0.01
_OWNERS: Final = {"comatose_servers": "I6", SUSPECT: "I6", "under_used": "I7", "oversized": "I8"}
"""Reason → indicator whose owner can act; I4's for all others."""


@dataclass(frozen=True, slots=True)
class RecommendationWriter:
    """Writes recommendations in one language."""

    w: Words
    targets: Targets

    def sentence(self, one: Recommendation) -> str:
        """Write what was observed, how much could be avoided, and how."""
        values = {
            "place": self.place(one),
            "energy": self.energy(one),
            "interval": self.interval(one.yearly),
            "months": self.w.count(f"actions.{'merged_' * one.key.autres}months", one.months),
            "remedy": self.remedy(one),
        }
        if one.server:
            why = self.w(f"actions.why.{one.reason}")
            return self.w("actions.server", server=one.server, why=why, **values)
        return self.w("actions.each", machines=self._machines(one), nights=self._nights(one), **values)

    def place(self, one: Recommendation) -> str:
        """Write the last part of the entity; of merged groups, that of their branch."""
        entity = one.key.entity
        name = (entity or "").rpartition(ENTITY_SEPARATOR)[2]
        if not one.key.autres:
            return name or self.w("actions.all")
        return self.w("actions.merged_all") if entity == AUTRES else self.w("actions.merged", place=name)

    def energy(self, one: Recommendation) -> str:
        """Write the avoidable energy a year; of a server whose saving is not known, its own energy."""
        if one.yearly.value is not None:
            return self.w("actions.avoidable", energy=self._kwh(one.yearly.value))
        if one.yearly_kwh is None:
            return self.w("actions.not_counted")
        return self.w("actions.consumed", energy=self._kwh(one.yearly_kwh))

    def amount(self, one: Recommendation) -> str:
        """Write the avoidable energy a year alone."""
        value = one.yearly.value
        return (
            self.w("actions.not_counted")
            if value is None
            else self.w("actions.a_year", energy=self._kwh(value))
        )

    def interval(self, figure: Figure) -> str:
        """Write the 95 % interval; empty without one."""
        if figure.interval is None or not figure.value:
            return ""
        low, high = map(self._kwh, figure.interval)
        return self.w("actions.interval", low=low, high=high)

    def causes(self, one: Recommendation) -> tuple[tuple[str, str], ...]:
        """Return (cause, share) of each cause that is told and is 1 % or more, the largest first."""
        whole = one.figure.value or 0.0
        told = sorted(kwh_by_cause(one.figure).items(), key=lambda cause: -cause[1]) if whole else []
        return tuple(
            (self.w.word("cause", cause), self.w.percent(kwh / whole))
            for cause, kwh in told
            if kwh >= _LEAST_SHARE * whole
        )

    def remedy(self, one: Recommendation) -> str:
        """Write what to do."""
        targets = self.targets
        return self.w(
            f"actions.remedy.{one.reason}",
            hour=self._hour(one.closing),
            minutes=targets.sleep_minutes,
            display=targets.display_off_minutes,
        )

    def owner(self, one: Recommendation) -> str:
        """Write who can act."""
        return self.w.word("owner", owner_of(one))

    def declared(self, one: DeclaredAction, *, is_admin: bool) -> str:
        """Write an action beside a group at its sites; the saving of several sites is not this group's."""
        action, w = one.action, self.w
        values = {"what": action.what, "day": w.day(action.from_day.isoformat())}
        if len(action.sites) > 1:
            return w("actions.declared_at", sites=w.number(len(action.sites)), **values)
        return w("actions.declared_here", saving=self.saving(one, is_admin=is_admin), **values)

    def saving(self, one: DeclaredAction, *, is_admin: bool) -> str:
        """Write the measured saving of an action, or why there is none."""
        figure, w = one.saving, self.w
        if not is_admin:
            return w("actions.saved_hidden")
        if figure is not None and figure.withheld:
            return w("actions.saved_withheld")
        if figure is None or figure.value is None:
            return w("actions.saved_short")
        if figure.interval is None:
            return w("actions.saved_alone", energy=self._kwh(figure.value))
        low, high = map(self._kwh, figure.interval)
        key = "saved" if figure.details.get("claimed") == "yes" else "saved_unclaimed"
        return w(f"actions.{key}", energy=self._kwh(figure.value), low=low, high=high)

    def _machines(self, one: Recommendation) -> str:
        w, key = self.w, one.key
        if key.population is Population.SERVER and one.comatose is not None:
            return w.count("actions.comatose", one.comatose[0], whole=w.number(one.comatose[1]))
        named = (
            w("actions.autres")
            if key.device_class == AUTRES
            else w.word("device_class", str(key.device_class))
        )
        return w("actions.machines", n=w.number(one.machines), machines=named)

    def _nights(self, one: Recommendation) -> str:
        if (
            one.nights_each is None or round(one.nights_each) < 1 or one.key.autres
        ):  # other machines each month
            return ""
        return self.w.count("actions.nights", round(one.nights_each))

    def _hour(self, minute: int | None) -> str:
        if minute is None:
            return self.w("actions.after_closing")
        hour, rest = divmod(minute, _MINUTES_PER_HOUR)
        key = "clock_minutes" if rest else "clock"
        return self.w("actions.hour", hour=self.w(f"actions.{key}", hour=hour, minute=f"{rest:02}"))

    def _kwh(self, kwh: float) -> str:
        sign = "−" if kwh < 0 else ""
        return sign + self.w.energy(round(abs(kwh) * MILLIJOULES_PER_KWH))


def owner_of(one: Recommendation) -> str:
    """Return the role that can act, as the indicators name it."""
    return load_indicator(_OWNERS.get(one.reason, "I4")).meta.owner


def recommendations_document(
    found: Sequence[Recommendation],
    actions: Sequence[DeclaredAction],
    writer: RecommendationWriter,
    head: Head,
) -> Document:
    """Build the ranked list, and the declared actions beside it."""
    data = str(head["data"])
    rows = [_row(rank, one, writer, data) for rank, one in enumerate(found, 1)]
    declared = [_action(one, data) for one in actions]
    return Document(
        head={**head, "kind": "actions"},
        columns=COLUMNS,
        tables={
            "rows": rows,
            "declared": declared,
        },
        tabular=("rows",),
        assumptions=ASSUMPTIONS,
        language=writer.w.language,
        summary=summary_of(rows, declared),
    )


def _row(rank: int, one: Recommendation, writer: RecommendationWriter, data: str) -> Row:
    figure, key = one.figure, one.key
    low, high = figure.interval or (None, None)
    yearly_low, yearly_high = one.yearly.interval or (None, None)
    values: dict[str, Value | None] = {
        "rank": rank,
        "entity": key.entity,
        "site": one.site or None,
        "server": one.server or None,
        "population": key.population and key.population.value,
        "device_class": key.device_class,
        "level": key.level,
        "n": one.machines,
        "months": one.months,
        "avoidable_kwh": figure.value,
        "avoidable_lo95_kwh": low,
        "avoidable_hi95_kwh": high,
        "yearly_kwh": one.yearly.value,
        "yearly_lo95_kwh": yearly_low,
        "yearly_hi95_kwh": yearly_high,
        "cause": one.reason,
        **{f"{cause}_kwh": figure.details.get(f"{cause}_kwh") for cause in (*CAUSES, "mixed")},
        "nights_on": one.nights,
        "kwh": one.kwh,
        "sentence": writer.sentence(one),
        "owner": owner_of(one),
        "declared_actions": ", ".join(action.action.action_id for action in one.actions) or None,
        "data": data,
    }
    return {name: value for name, value in values.items() if value is not None}


def _action(one: DeclaredAction, data: str) -> Row:
    action, figure = one.action, one.saving
    low, high = (figure and figure.interval) or (None, None)
    values: dict[str, Value | None] = {
        "action": action.action_id,
        "what": action.what,
        "sites": ", ".join(action.sites),
        "from_day": action.from_day.isoformat(),
        "saving_kwh": figure.value if figure else None,
        "saving_lo95_kwh": low,
        "saving_hi95_kwh": high,
        "claimed": str(figure.details["claimed"]) if figure and "claimed" in figure.details else None,
        "data": data,
    }
    return {name: value for name, value in values.items() if value is not None}
