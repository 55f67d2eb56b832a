# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The inventory, as an administrator brings it: a reading in pieces, then all of it or nothing; who is who; what it is called."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from veilleuse.collector.admin.context import AdminContext
from veilleuse.collector.errors import AdminError, OvertakenImport, UsageError
from veilleuse.collector.inventory.matching import match
from veilleuse.collector.inventory.plan import Plan, plan
from veilleuse.collector.inventory.rows import InventoryReading, Refusal, from_document
from veilleuse.collector.ipc.unix_socket import one_host
from veilleuse.collector.model.inventory import (
    AssetMatches,
    AssetRecord,
    Decision,
    DoubtKind,
    InventoryChange,
    InventorySnapshot,
    MatchVerdict,
)
from veilleuse.wire.pseudonym import pseudonym

log = logging.getLogger(__name__)

MAXIMUM_UPLOAD_BYTES: Final = 48 * 1024 * 1024
"""Of a compressed reading that is being sent; some 100 bytes a row."""
MAXIMUM_READING_BYTES: Final = 256 * 1024 * 1024
"""Of the same once unpacked; some 700 bytes a row."""
LISTED: Final = 1_000
"""Absent assets, doubts … told one by one; beyond, counted."""
TRIES: Final = 3


def bring(
    context: AdminContext,
    *,
    upload: str,
    who: str,
    why: str = "",
    dry_run: bool = False,
    retire_absent: bool = False,
    correct: bool = False,
) -> dict[str, Any]:
    """Import a reading that was sent before (`inventory_part`). One transaction in each file; a dry run writes nothing.

    Refused rows stay out, the others come in. Then machines and assets are matched. Raises UsageError, AdminError.
    """
    reading = from_document(_unpacked(context.uploads.take(upload)))
    key = bytes.fromhex(context.fleet_key)

    def attempt() -> Plan:
        kept = context.alone(context.store.inventory.snapshot)
        made = plan(
            reading,
            kept,
            today(context),
            lambda text: pseudonym(key, text),
            retire_absent=retire_absent,
            correct=correct,
        )
        if made.change is not None and not dry_run:
            _apply(context, made.change, who, why)
        return made

    made = _again(attempt)
    if made.absent and (dry_run or made.change is None):  # names are told, and nothing else is written down
        _journal(context, who, f"names of {len(made.absent)} absent assets", why)
    matched = None if dry_run else rematch(context)
    written = not dry_run and made.change is not None
    log.info(
        "inventory read", extra={"rows": reading.rows, "refused": reading.refused_count, "written": written}
    )
    return {
        **_report(reading, made),
        "matching": matched,
        "written": written,
        "dry_run": dry_run,
        "retire_refused": retire_absent and len(made.retired) < len(made.absent),
    }


def _again(attempt: Callable[[], Plan]) -> Plan:
    """Another import may come between what a plan was made from and its writing."""
    for _ in range(TRIES - 1):
        try:
            return attempt()
        except OvertakenImport:
            log.info("import of the inventory overtaken")
    return attempt()


def _report(reading: InventoryReading, made: Plan) -> dict[str, Any]:
    refused = [*reading.refused, *made.refused]
    return {
        "rows": reading.rows,
        "added": len(made.added),
        "changed": len(made.changed),
        "unchanged": made.unchanged,
        "absent": len(made.absent),
        "absent_assets": [_called(one) for one in made.absent[:LISTED]],
        "retired": len(made.retired),
        "moved": made.moved,
        "moves_from": _iso(made.moves_from),
        "out_without_day": made.out_without_day,
        "other_rows": {name: {"new": new, "gone": gone} for name, (new, gone) in made.other_rows.items()},
        "refused": reading.refused_count + len(made.refused),
        "refused_rows": [_told(one) for one in refused[:LISTED]],
        "unknown": {kind: dict(found.most_common(50)) for kind, found in sorted(reading.unknown.items())},
    }


def part(context: AdminContext, *, upload: str, number: int, data: str) -> dict[str, Any]:
    """A piece of a compressed reading, in base64; the first has number 0. Raises UsageError."""
    return {"bytes": context.uploads.add(upload, number, data, MAXIMUM_UPLOAD_BYTES)}


def rematch(context: AdminContext) -> dict[str, Any]:
    """Machines and assets, matched again; writes only what changed."""
    kept, matching = _matching(context)
    changed = context.alone(lambda: context.store.inventory.put_matching(matching))
    return {
        "matched": len(matching.links),
        "links_changed": changed,
        "doubts": len(matching.doubts),
        "assets": len(kept.assets),
    }


def review(context: AdminContext, *, who: str, why: str = "") -> dict[str, Any]:
    """Matched again; then each doubt, with what its asset is called. Written to the journal."""
    found = rematch(context)
    kept, matching = _matching(context)
    by_id = {one.asset_id: one for one in kept.assets}
    hosts = _agent_ids(context)
    _journal(context, who, "review of the inventory", why)
    return {
        **found,
        "review": [
            {
                "kind": doubt.kind.value,
                "asset": _called(by_id[doubt.asset_id]),
                "host": hosts.get(doubt.host_id or 0),
                "other": _called(by_id[doubt.other_asset_id]) if doubt.other_asset_id in by_id else None,
            }
            for doubt in matching.doubts[:LISTED]
        ],
    }


def decide(
    context: AdminContext, *, asset: str, verdict: str, host: str | None = None, who: str, why: str = ""
) -> dict[str, Any]:
    """An operator's word on an asset, and a machine where it is about one: matched, ignored, or duplicate. Raises AdminError."""
    kept = context.alone(context.store.inventory.snapshot)
    found = one_asset(kept, asset)
    machine = None if host is None else one_host(context.office.commit(context.office.registry.hosts), host)
    if verdict == "duplicate":
        changed = replace(found, is_duplicate=True)
        _apply(context, InventoryChange(kept.generation + 1, today(context), (changed,)), who, why)
    else:
        word = MatchVerdict(verdict)
        if word is MatchVerdict.MATCHED and machine is None:
            raise UsageError("say which host the asset is: see 'veilleuse hosts list'")
        decision = Decision(found.asset_id, None if machine is None else machine.host_id, word)
        context.alone(lambda: context.store.inventory.decide([decision]))
        _journal(context, who, f"asset {found.asset_id}: {verdict}", why)
    return {"asset": _called(found), "host": machine and machine.agent_id.hex(), **rematch(context)}


def accept(context: AdminContext, *, kind: str, who: str, why: str = "") -> dict[str, Any]:
    """Match all pairs of one kind of doubt that are one asset and one machine: what contradicts them is the inventory's own."""
    wanted = DoubtKind(kind)
    if wanted not in (DoubtKind.MODEL_DISAGREES, DoubtKind.CLASS_DISAGREES):
        raise UsageError(
            f"{kind} needs a look at each: only model_disagrees and class_disagrees are matched together"
        )
    _, matching = _matching(context)
    pairs = [doubt for doubt in matching.doubts if doubt.kind is wanted]
    context.alone(
        lambda: context.store.inventory.decide(
            [Decision(doubt.asset_id, doubt.host_id, MatchVerdict.MATCHED) for doubt in pairs]
        )
    )
    _journal(context, who, f"matched all {kind}: {len(pairs)}", why)
    return {"decided": len(pairs), **rematch(context)}


def show(context: AdminContext, *, asset: str, who: str, why: str = "") -> dict[str, Any]:
    """All that is kept of an asset, what names it included. Written to the journal."""
    kept = context.alone(context.store.inventory.snapshot)
    found = one_asset(kept, asset)
    _journal(context, who, f"asset {found.asset_id}", why)
    return {
        **_called(found),
        "item": found.item,
        "device_class": found.device_class,
        "population": found.population and found.population.value,
        "power_context": found.power_context and found.power_context.value,
        "vendor": found.vendor,
        "model": found.model,
        "in_service_on": _iso(found.in_service_on),
        "out_of_service_on": _iso(found.out_of_service_on),
        "refurbished": found.refurbished,
        "displays": found.displays,
        "server_role": found.server_role and found.server_role.value,
        "absent_since": _iso(found.absent_since),
        "is_duplicate": found.is_duplicate,
        "placements": [
            {"from": place.from_day.isoformat(), "entity": place.entity, "site": place.site}
            for place in found.placements
        ],
        "has_serial": bool(found.chassis_pseudonym),
        "has_uuid": bool(found.smbios_pseudonym),
        "host": _agent_ids(context).get(found.host_id or 0),
        "row": json.loads(found.raw or "{}"),
    }


def names(context: AdminContext, *, who: str, why: str) -> dict[str, Any]:
    """What every asset is called, for an export with names. Raises AdminError without a reason."""
    if not why.strip():
        raise AdminError("say why the names are needed: it is kept in the access journal")
    kept = context.alone(context.store.inventory.snapshot)
    _journal(context, who, f"names of {len(kept.assets)} assets", why)
    return {str(one.asset_id): [one.source, one.key, one.name, one.inventory_number] for one in kept.assets}


def one_asset(kept: InventorySnapshot, text: str) -> AssetRecord:
    """By its number here, its key, its inventory number or its name. Raises AdminError unless it is one."""
    number = text.removeprefix("#")
    matches = [
        one for one in kept.assets if number.isascii() and number.isdigit() and one.asset_id == int(number)
    ]
    for name in ("key", "inventory_number", "name"):
        matches = matches or [one for one in kept.assets if text and getattr(one, name) == text]
    if len(matches) != 1:
        what = f"{len(matches)} assets are '{text}'" if matches else f"no asset '{text}'"
        raise AdminError(f"{what}: name it by its number, as 'veilleuse inventory review list' shows it")
    return matches[0]


def today(context: AdminContext) -> date:
    """The civil day of the reporting zone."""
    zone = ZoneInfo(context.settings.reporting.time_zone)
    now: datetime = context.office.now()
    return now.astimezone(zone).date()


def _apply(context: AdminContext, change: InventoryChange, who: str, why: str) -> None:
    _journal(context, who, f"import of the inventory: {len(change.assets)} assets", why)
    context.alone(lambda: context.store.inventory.apply(change))


def _matching(context: AdminContext) -> tuple[InventorySnapshot, AssetMatches]:
    store = context.store.inventory

    def job() -> tuple[InventorySnapshot, Any, Any]:
        return store.snapshot(), store.candidates(), store.decisions()

    kept, machines, decisions = context.alone(job)
    return kept, match(kept.assets, machines, decisions, today(context))


def _agent_ids(context: AdminContext) -> dict[int, str]:
    hosts = context.office.commit(context.office.registry.hosts)
    return {host.host_id: host.agent_id.hex() for host in hosts}


def _journal(context: AdminContext, who: str, what: str, why: str) -> None:
    office = context.office
    office.commit(
        lambda: office.registry.write_journal(
            now_unix_milliseconds=office.now_unix_milliseconds(), who=who[:128], what=what, why=why[:256]
        )
    )


def _unpacked(data: bytes) -> Any:
    unpacking = zlib.decompressobj()
    try:
        text = unpacking.decompress(data, MAXIMUM_READING_BYTES)
        if unpacking.unconsumed_tail or not unpacking.eof:
            raise UsageError("the reading is cut, or too large: import it in parts")
        return json.loads(text)
    except (zlib.error, ValueError, RecursionError) as error:
        raise UsageError("what was sent is no reading of an inventory") from error


def _called(one: AssetRecord) -> dict[str, Any]:
    return {
        "asset": one.asset_id,
        "source": one.source,
        "key": one.key,
        "name": one.name,
        "inventory_number": one.inventory_number,
    }


def _told(one: Refusal) -> dict[str, str]:
    return {"where": one.where, "column": one.column, "what": one.what, "remedy": one.remedy}


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
