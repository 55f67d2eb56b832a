# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Imports the inventory in one transaction, matches assets with machines, and shows their names."""

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
from veilleuse.collector.ipc import one_host
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
"""Largest compressed reading; some 100 bytes a row."""
MAXIMUM_READING_BYTES: Final = 256 * 1024 * 1024
"""Largest unpacked reading; some 700 bytes a row."""
LISTED: Final = 1_000
"""Most absent assets, refused rows or doubts in an answer; the counts include all."""
TRIES: Final = 3
"""Tries of an import that other imports overtake."""


def import_reading(
    context: AdminContext,
    *,
    upload: str,
    who: str,
    why: str = "",
    dry_run: bool = False,
    retire_absent: bool = False,
    correct: bool = False,
) -> dict[str, Any]:
    """Import the reading that `inventory_part` received, in one transaction in each database file.

    Refused rows are left out. Then machines and assets are matched. A dry run writes nothing. Raises
    UsageError, AdminError.
    """
    reading = from_document(_unpack(context.uploads.take(upload)))
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

    made = _retry(attempt)
    if made.absent and (dry_run or made.change is None):  # the answer has names, and no change notes this
        _journal(context, who, f"names of {len(made.absent)} absent assets", why)
    matched = None if dry_run else rematch(context)
    if not dry_run:
        context.months_changed.set()
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


def _retry(attempt: Callable[[], Plan]) -> Plan:
    """Try again when another import was written after the plan was made."""
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
        "absent_assets": [_asset_names(one) for one in made.absent[:LISTED]],
        "retired": len(made.retired),
        "moved": made.moved,
        "moves_from": _iso(made.moves_from),
        "out_without_day": made.out_without_day,
        "other_rows": {name: {"new": new, "gone": gone} for name, (new, gone) in made.other_rows.items()},
        "refused": reading.refused_count + len(made.refused),
        "refused_rows": [_refusal_facts(one) for one in refused[:LISTED]],
        "unknown": {kind: dict(found.most_common(50)) for kind, found in sorted(reading.unknown.items())},
    }


def receive_part(context: AdminContext, *, upload: str, number: int, data: str) -> dict[str, Any]:
    """Receive a piece of a compressed reading, in base64; the first has number 0. Raises UsageError."""
    return {"bytes": context.uploads.add(upload, number, data, MAXIMUM_UPLOAD_BYTES, "an inventory")}


def rematch(context: AdminContext) -> dict[str, Any]:
    """Match machines and assets again; writes only changes."""
    kept, matching = _matching(context)
    changed = context.alone(lambda: context.store.inventory.put_matching(matching))
    return {
        "matched": len(matching.links),
        "links_changed": changed,
        "doubts": len(matching.doubts),
        "assets": len(kept.assets),
    }


def review(context: AdminContext, *, who: str, why: str = "") -> dict[str, Any]:
    """Match again, and return each doubt with the names of its asset. The journal notes this."""
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
                "asset": _asset_names(by_id[doubt.asset_id]),
                "host": hosts.get(doubt.host_id or 0),
                "other": _asset_names(by_id[doubt.other_asset_id]) if doubt.other_asset_id in by_id else None,
            }
            for doubt in matching.doubts[:LISTED]
        ],
    }


def decide(
    context: AdminContext, *, asset: str, verdict: str, host: str | None = None, who: str, why: str = ""
) -> dict[str, Any]:
    """Store an operator's decision on an asset: matched, ignored (with a machine or alone) or duplicate.

    Raises UsageError, AdminError.
    """
    kept = context.alone(context.store.inventory.snapshot)
    found = one_asset(kept, asset)
    machine = None if host is None else one_host(context.issuing.commit(context.issuing.registry.hosts), host)
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
    return {"asset": _asset_names(found), "host": machine and machine.agent_id.hex(), **rematch(context)}


def accept(context: AdminContext, *, kind: str, who: str, why: str = "") -> dict[str, Any]:
    """Match all pairs of one kind of doubt: one asset and one machine whose facts differ.

    Raises UsageError for another kind.
    """
    wanted = DoubtKind(kind)
    if wanted not in (DoubtKind.MODEL_DISAGREES, DoubtKind.CLASS_DISAGREES):
        raise UsageError(
            f"{kind} must be decided one by one: only model_disagrees and class_disagrees can be matched "
            "together"
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
    """Return all data of an asset, its names too. The journal notes this."""
    kept = context.alone(context.store.inventory.snapshot)
    found = one_asset(kept, asset)
    _journal(context, who, f"asset {found.asset_id}", why)
    return {
        **_asset_names(found),
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


def read_names(context: AdminContext, *, who: str, why: str) -> dict[str, Any]:
    """Return the names of all assets, for an export with names. Raises AdminError without a reason."""
    if not why.strip():
        raise AdminError("give the reason for the names with --why: the access journal keeps it")
    kept = context.alone(context.store.inventory.snapshot)
    _journal(context, who, f"names of {len(kept.assets)} assets", why)
    return {str(one.asset_id): [one.source, one.key, one.name, one.inventory_number] for one in kept.assets}


def one_asset(kept: InventorySnapshot, text: str) -> AssetRecord:
    """Find an asset by number, key, inventory number or name.

    Raises AdminError unless exactly one matches.
    """
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
    """Return the civil day in the reporting zone."""
    zone = ZoneInfo(context.settings.reporting.time_zone)
    now: datetime = context.issuing.now()
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
    hosts = context.issuing.commit(context.issuing.registry.hosts)
    return {host.host_id: host.agent_id.hex() for host in hosts}


def _journal(context: AdminContext, who: str, what: str, why: str) -> None:
    issuing = context.issuing
    issuing.commit(
        lambda: issuing.registry.write_journal(
            now_unix_milliseconds=issuing.now_unix_milliseconds(), who=who[:128], what=what, why=why[:256]
        )
    )


def _unpack(data: bytes) -> Any:
    unpacking = zlib.decompressobj()
    try:
        text = unpacking.decompress(data, MAXIMUM_READING_BYTES)
        if unpacking.unconsumed_tail or not unpacking.eof:
            raise UsageError("the reading is incomplete or too large: import it in parts")
        return json.loads(text)
    except (zlib.error, ValueError, RecursionError) as error:
        raise UsageError("the upload is not a reading of an inventory") from error


def _asset_names(one: AssetRecord) -> dict[str, Any]:
    return {
        "asset": one.asset_id,
        "source": one.source,
        "key": one.key,
        "name": one.name,
        "inventory_number": one.inventory_number,
    }


def _refusal_facts(one: Refusal) -> dict[str, str]:
    return {"where": one.where, "column": one.column, "what": one.what, "remedy": one.remedy}


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
