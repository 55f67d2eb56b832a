# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The dispatch table of administration: name on the socket → operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from veilleuse.collector.admin import (
    accounts,
    actions,
    backup,
    ca,
    calendars,
    calibration,
    closed_years,
    factors,
    grid,
    hosts,
    inventory,
    meters,
    process,
    publications,
    remote_config,
    sites,
    tokens,
)
from veilleuse.collector.admin.context import AdminContext
from veilleuse.collector.errors import UsageError

OPERATIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "ping": process.ping,
    "health": process.read_health,
    "token_create": tokens.create,
    "token_list": tokens.list_all,
    "token_revoke": tokens.revoke,
    "host_status": hosts.change_status,
    "host_copies": hosts.decide_copies,
    "host_name": hosts.read_name,
    "host_forget": hosts.forget,
    "host_identity": hosts.identity,
    "site_put": sites.put,
    "derive_all": process.derive_all,
    "roll": process.roll,
    "flush": process.flush,
    "ca_show": ca.show,
    "ca_rotate": ca.rotate,
    "ca_switch": ca.switch,
    "ca_retire": ca.retire,
    "ca_cancel": ca.cancel,
    "ca_renew_intermediate": ca.renew_intermediate,
    "ca_import": ca.bring,
    "ca_forget": ca.forget,
    "backup_copy": backup.copy,
    "backup_done": backup.done,
    "configuration_show": remote_config.show,
    "configuration_set": remote_config.set_candidate,
    "configuration_rollout": remote_config.advance,
    "configuration_accept": remote_config.accept,
    "configuration_withdraw": remote_config.withdraw,
    "calibration_put": calibration.put,
    "calibration_withdraw": calibration.withdraw,
    "meters_import": meters.bring,
    "intensity_state": grid.state,
    "intensity_put": grid.put,
    "intensity_call": grid.call,
    "intensity_note": grid.note,
    "follow_import": actions.bring,
    "action_withdraw": actions.action_withdraw,
    "account_create": accounts.create,
    "account_list": accounts.list_all,
    "account_show": accounts.show,
    "account_revoke": accounts.revoke,
    "account_journal": accounts.journal,
    "account_access": accounts.note_access,
    "account_use": accounts.note_use,
    "journal": hosts.read,
    "query_note": hosts.note_query,
    "publish_part": publications.part,
    "publish": publications.publish,
    "published_list": publications.list_all,
    "published_take_back": publications.take_back,
    "inventory_part": inventory.part,
    "inventory_import": inventory.bring,
    "inventory_review": inventory.review,
    "inventory_decide": inventory.decide,
    "inventory_accept": inventory.accept,
    "inventory_show": inventory.show,
    "inventory_names": inventory.names,
    "factors_import": factors.bring,
    "factors_withdraw": factors.withdraw,
    "factors_contract_add": factors.contract_add,
    "factors_contract_withdraw": factors.contract_withdraw,
    "factors_mapping_confirm": factors.mapping_confirm,
    "close_part": closed_years.part,
    "close_put": closed_years.put,
    "close_key": closed_years.key,
    "keep_put": closed_years.keep,
    "calendar_import": calendars.bring,
    "calendar_show": calendars.show,
    "calendar_export": calendars.export,
    "calendar_school": calendars.bring_school_holidays,
}
"""Name on the socket → what it does; arguments by keyword."""


@dataclass(frozen=True, slots=True)
class Operations:
    """All operations on one open data directory. Safe to share between threads."""

    context: AdminContext

    def perform(self, operation: str, arguments: Mapping[str, Any]) -> Any:
        """Return the result, ready for JSON. Raises UsageError for an unknown operation or wrong arguments, else what it raises."""
        function = OPERATIONS.get(operation)
        if function is None:
            raise UsageError(f"unknown operation {operation!r}: use one of {', '.join(OPERATIONS)}")
        try:
            return function(self.context, **arguments)
        except (TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"wrong arguments for {operation}: {error}") from error
