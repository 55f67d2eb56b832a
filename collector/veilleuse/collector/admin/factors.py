# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Imports factors, enters contracts, confirms the mapping, declares perimeters and powers.

Old versions stay: docs/methodology.md §8.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping as Keyed
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from veilleuse.collector.account.ghg_items import (
    DEFAULT_MAPPING,
    ENTERED,
    items_from_memory,
    with_eple,
    with_line,
)
from veilleuse.collector.admin.context import AdminContext, one_line, who_and_why
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.factors.book import factor_book
from veilleuse.collector.factors.versions import (
    MAXIMUM_FACTORS,
    FactorChange,
    before_withdrawal,
    changes,
    factor_document,
    factor_from_document,
    in_force,
)
from veilleuse.collector.model.factors import (
    INHERITED_UNCERTAINTY_PERCENT,
    BilanItem,
    BilanMapping,
    ContextMapping,
    Contract,
    Factor,
    FactorImport,
    FactorStatus,
)
from veilleuse.collector.model.inventory import DeclaredPowers, PowerContext, powers_of
from veilleuse.collector.model.query import PERIOD_YEARS, Perimeters, perimeters_in_force, rules_of

log = logging.getLogger(__name__)

_TEXT: Final = 200
_PLACE: Final = 512
"""Most characters of an entity with all entities above it: inventory/cells.py."""
_HIGHEST_KGCO2E_PER_KWH: Final = 3
_HIGHEST_KWH: Final = Decimal(10) ** 10


def import_factors(
    context: AdminContext,
    *,
    factors: Sequence[Keyed[str, Any]],
    file_name: str,
    file_sha256: str,
    who: str,
    why: str = "",
    dry_run: bool = False,
) -> dict[str, Any]:
    """Put factors into force, instead of those before; equal factors stay. Raises UsageError."""
    if not 0 < len(factors) <= MAXIMUM_FACTORS:
        raise UsageError(f"{len(factors)} factors: give from 1 to {MAXIMUM_FACTORS} at once")
    if not re.fullmatch("[0-9a-f]{64}", file_sha256):
        raise UsageError("file_sha256 is not a SHA-256: 64 lower-case hexadecimal digits")
    brought = [factor_from_document(document) for document in factors]
    if len({one.factor_id for one in brought}) < len(brought):
        raise UsageError("two factors have the same id")
    imported = FactorImport(one_line(file_name, _TEXT), file_sha256, *who_and_why(who, why))

    def job() -> tuple[FactorChange, ...]:
        found = changes(brought, _shipped_factors(), in_force(context.store.factors.versions()))
        wanted = [one.factor for one in found if one.kind != "same"]
        if wanted and not dry_run:
            context.store.factors.put(wanted, imported, context.issuing.now_unix_milliseconds())
        return found

    found = context.issuing.commit(job)
    changed = [one for one in found if one.kind != "same"]
    if changed and not dry_run:
        context.issuing.commit(context.known_factors.forget)
        log.info("factors imported", extra={"factors": len(brought), "changed": len(changed)})
    return {
        "factors": len(brought),
        "changed": [_describe(one) for one in changed],
        "imported": bool(changed) and not dry_run,
        "dry_run": dry_run,
    }


def withdraw(context: AdminContext, *, factor_id: str, who: str, why: str) -> dict[str, Any]:
    """End an imported version: the version before, imported or shipped, is in force again.

    Raises AdminError.
    """

    def job() -> Factor:
        versions = context.store.factors.versions()
        current = in_force(versions).get(factor_id)
        if current is None:
            raise AdminError(f"no imported factor '{factor_id}' is in force: see 'veilleuse factors history'")
        before = before_withdrawal(versions, factor_id)
        origin = FactorImport("", "", "", "") if before is None else before.imported
        withdrawn = replace(current.factor, status=FactorStatus.WITHDRAWN)
        factor = withdrawn if before is None else before.factor
        context.store.factors.put(
            [factor],
            FactorImport(origin.file_name, origin.file_sha256, *who_and_why(who, why)),
            context.issuing.now_unix_milliseconds(),
            restores=None if before is None else before.version,
        )
        return factor

    factor = context.issuing.commit(job)
    context.issuing.commit(context.known_factors.forget)
    log.info("factor withdrawn", extra={"factor_id": factor_id})
    in_force_now = context.issuing.commit(lambda: _factor_in_force(context, factor_id))
    return {
        "factor_id": factor_id,
        "status": factor.status.value,
        "in_force": None if in_force_now is None else factor_document(in_force_now),
    }


def add_contract(
    context: AdminContext, *, contract: Keyed[str, Any], who: str, why: str = ""
) -> dict[str, Any]:
    """Enter a contract. Raises UsageError for a wrong one, AdminError for one that was entered already."""
    made = _contract(contract)

    def job() -> int:
        sites = {site.site for site in context.issuing.registry.sites()}
        if made.site and made.site not in sites:
            raise UsageError(
                f"no site '{made.site}': the contract would cover nothing; known sites: "
                f"{', '.join(sorted(sites)[:20])}"
            )
        known = [
            kept for kept in context.store.factors.contracts() if kept.withdrawn_unix_milliseconds is None
        ]
        if same := [one for one in known if replace(one.contract, contract_id=0) == made]:
            raise AdminError(f"this contract was entered already, as {same[0].contract.contract_id}")
        return context.store.factors.enter(
            made, *who_and_why(who, why), context.issuing.now_unix_milliseconds()
        )

    number = context.issuing.commit(job)
    log.info("contract entered", extra={"contract_id": number})
    return {"contract_id": number}


def withdraw_contract(context: AdminContext, *, contract_id: int, who: str, why: str) -> dict[str, Any]:
    """Withdraw a contract: it no longer counts. Raises AdminError."""
    now = context.issuing.now_unix_milliseconds()
    context.issuing.commit(
        lambda: context.store.factors.withdraw_contract(contract_id, *who_and_why(who, why), now)
    )
    return {"contract_id": contract_id}


def confirm_mapping(
    context: AdminContext,
    *,
    who: str,
    why: str = "",
    eple: str = "",
    items: Keyed[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Confirm the mapping in force, with changes.

    `eple`: holder of the contracts of colleges: authority, or college with its item in `items`. `items`:
    context → (BEGES item, GHG category). Raises UsageError.
    """
    entered = {
        PowerContext(context): BilanItem(*(_item(text) for text in pair))
        for context, pair in (items or {}).items()
    }

    def job() -> BilanMapping:
        kept = context.store.factors.mappings()
        mapping = _enter_items(kept[-1] if kept else DEFAULT_MAPPING, eple, entered)
        now = context.issuing.now_unix_milliseconds()
        confirmed = BilanMapping(mapping.lines, now, *who_and_why(who, why))
        if not kept or kept[-1].lines != confirmed.lines:
            context.store.factors.confirm(confirmed)
            return confirmed
        return kept[-1]

    mapping = context.issuing.commit(job)
    log.info("mapping confirmed")
    return {
        "contexts": len(mapping.lines),
        "confirmed_by": mapping.confirmed_by,
        "from_memory": list(items_from_memory(mapping).values()),
    }


def declare_perimeters(
    context: AdminContext, *, year: int, rules: Sequence[Keyed[str, str]], who: str, why: str = ""
) -> dict[str, Any]:
    """Declare the perimeters of a year; a later year keeps them until it has its own.

    Raises UsageError; AdminError for a year that only its statistics are left of.
    """
    if not PERIOD_YEARS.holds(year):
        raise UsageError(f"--year {year}: use one from {PERIOD_YEARS.first} to {PERIOD_YEARS.last}")

    def job() -> Perimeters:
        closings = context.store.closings
        is_closed = year in closings.definitive_years()
        if is_closed or any(one.year == year and one.stands_alone for one in closings.kept_years()):
            what = "closed definitively" if is_closed else "kept as statistics only"
            raise AdminError(
                f"{year} is {what}: its perimeters are frozen with it, declare yours from a later year on"
            )
        now = context.issuing.now_unix_milliseconds()
        declared = Perimeters(rules_of(rules), year, now, *who_and_why(who, why))
        before = perimeters_in_force(context.store.factors.perimeters(), year)
        if before.year != year or before.rules != declared.rules:
            context.store.factors.declare(declared)
            return declared
        return before

    perimeters = context.issuing.commit(job)
    log.info("perimeters declared", extra={"year": year})
    revisions = context.issuing.commit(lambda: context.store.closings.revisions(year))
    return {
        "year": year,
        "perimeters": list(perimeters.names),
        "declared_by": perimeters.declared_by,
        "is_closed": bool(revisions),
    }


def declare_powers(
    context: AdminContext,
    *,
    powers: Sequence[Keyed[str, Any]],
    removed: Sequence[str],
    who: str,
    why: str = "",
) -> dict[str, Any]:
    """Put declared powers of some classes into force, and remove those of others.

    Raises UsageError for a value out of range; AdminError for a class without one.
    """
    try:
        declared = {one.device_class: one for one in powers_of(powers)}
    except (TypeError, ValueError) as error:
        raise UsageError(f"declared powers: {error}") from error

    def job() -> DeclaredPowers:
        before = context.store.factors.declared_powers()
        for name in removed:
            if name not in before.by_class:
                raise AdminError(f"no declared power of '{name}': see 'veilleuse inventory powers list'")
        kept = {name: one for name, one in before.by_class.items() if name not in removed} | declared
        if kept == before.by_class:
            return before
        now = context.issuing.now_unix_milliseconds()
        made = DeclaredPowers(tuple(kept[name] for name in sorted(kept)), now, *who_and_why(who, why))
        context.store.factors.declare_powers(made)
        return made

    made = context.issuing.commit(job)
    log.info("powers declared", extra={"classes": sorted(made.by_class)})
    return {"powers": made.document(), "declared_by": made.who}


def _enter_items(mapping: BilanMapping, eple: str, entered: Keyed[PowerContext, BilanItem]) -> BilanMapping:
    """Return the mapping with the entered items. Raises UsageError when an entry is wrong or missing."""
    for context, item in entered.items():
        if context is PowerContext.OWN_SITE:
            raise UsageError("own_site is split between 2.1 and 4.1 by the method: it cannot be entered")
        if context is not PowerContext.EPLE:
            mapping = with_line(mapping, ContextMapping(context, item, None, False, True, ENTERED))
    if eple not in ("", "authority", "college"):
        raise UsageError(f"--eple '{eple}': use authority or college")
    if PowerContext.EPLE in entered and eple != "college":
        raise UsageError("an item of eple is for contracts that colleges hold: give --eple college too")
    if eple:
        try:
            mapping = with_eple(mapping, eple == "authority", entered.get(PowerContext.EPLE))
        except ValueError as error:
            raise UsageError(f"{error}: give for instance --item eple=4.1/3.3") from error
    elif not mapping.of(PowerContext.EPLE).combustion.beges_item:
        raise UsageError(
            "say who holds the electricity contracts of colleges: --eple authority or --eple college"
        )
    return mapping


def _factor_in_force(context: AdminContext, factor_id: str) -> Factor | None:
    return {one.factor_id: one for one in context.known_factors.book().factors()}.get(factor_id)


def _shipped_factors() -> dict[str, Factor]:
    return {one.factor_id: one for one in factor_book().factors()}


def _describe(change: FactorChange) -> dict[str, Any]:
    before = change.before
    return {
        "kind": change.kind,
        **factor_document(change.factor),
        "before_total_kgco2e_per_kwh": None if before is None else str(before.total_kgco2e_per_kwh),
        "before_version": None if before is None else before.version,
    }


def _contract(document: Keyed[str, Any]) -> Contract:
    try:
        percent = document.get("uncertainty_percent")
        made = Contract(
            contract_id=0,
            label=one_line(document["label"], _TEXT),
            supplier=one_line(document["supplier"], _TEXT),
            valid_from=date.fromisoformat(document["valid_from"]),
            valid_to=date.fromisoformat(document["valid_to"]),
            kwh=Decimal(document["kwh"]),
            factor_kgco2e_per_kwh=Decimal(document["factor_kgco2e_per_kwh"]),
            uncertainty_percent=INHERITED_UNCERTAINTY_PERCENT if percent is None else Decimal(percent),
            uncertainty_inherited=percent is None,
            guarantees_of_origin=one_line(document.get("guarantees_of_origin", ""), _TEXT),
            source=one_line(document["source"], _TEXT),
            entity=_place(document.get("entity", "")),
            site=_place(document.get("site", "")),
        )
    except (KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise UsageError(f"not a contract: {error}") from error
    if not made.supplier or not made.source:
        raise UsageError("a contract needs a supplier and a source")
    if made.valid_to <= made.valid_from:
        raise UsageError(f"the contract ends on {made.valid_to}, not after its first day {made.valid_from}")
    if not made.kwh.is_finite() or not 0 < made.kwh <= _HIGHEST_KWH:
        raise UsageError(f"{made.kwh} kWh: use more than 0 and at most {_HIGHEST_KWH:f}")
    factor, uncertainty = made.factor_kgco2e_per_kwh, made.uncertainty_percent
    if not factor.is_finite() or not 0 <= factor <= _HIGHEST_KGCO2E_PER_KWH:
        raise UsageError(f"a factor of {factor} kgCO2e/kWh: use 0 to {_HIGHEST_KGCO2E_PER_KWH}")
    if not uncertainty.is_finite() or not 0 < uncertainty <= 200:
        raise UsageError(f"an uncertainty of {uncertainty} %: use more than 0 and at most 200 %")
    return made


def _place(text: Any) -> str:
    """Return a whole place.

    Raises UsageError for a long one: with a cut name the contract would cover nothing.
    """
    if isinstance(text, str) and len(text.strip()) > _PLACE:
        raise UsageError(f"an entity or a site has {len(text)} characters: use at most {_PLACE}")
    return one_line(text, _PLACE)


def _item(text: Any) -> str:
    if not isinstance(text, str) or not re.fullmatch(r"[1-6](\.[0-9]{1,2})?", text):
        raise UsageError(f"'{text}' is not an item: write it like 4.1, and a category like 3.8")
    return text
