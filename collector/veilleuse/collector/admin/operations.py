# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Dispatches operations of the administration by their name on the socket."""

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
    "host_identity": hosts.read_identity,
    "site_put": sites.put,
    "derive_all": process.derive_all,
    "roll": process.keep_months,
    "flush": process.flush,
    "ca_show": ca.show,
    "ca_rotate": ca.rotate,
    "ca_switch": ca.switch,
    "ca_retire": ca.retire,
    "ca_cancel": ca.cancel,
    "ca_renew_intermediate": ca.renew_intermediate,
    "ca_import": ca.import_intermediate,
    "ca_forget": ca.forget,
    "backup_copy": backup.copy,
    "backup_done": backup.finish,
    "configuration_show": remote_config.show,
    "configuration_set": remote_config.set_candidate,
    "configuration_rollout": remote_config.advance,
    "configuration_accept": remote_config.accept,
    "configuration_withdraw": remote_config.withdraw,
    "calibration_put": calibration.put,
    "calibration_withdraw": calibration.withdraw,
    "meters_import": meters.import_file,
    "intensity_state": grid.state,
    "intensity_put": grid.put,
    "intensity_call": grid.call,
    "intensity_note": grid.note,
    "follow_import": actions.import_lines,
    "action_withdraw": actions.withdraw_action,
    "account_create": accounts.create,
    "account_list": accounts.list_all,
    "account_show": accounts.show,
    "account_revoke": accounts.revoke,
    "account_journal": accounts.journal,
    "account_access": accounts.note_access,
    "account_use": accounts.note_use,
    "journal": hosts.read_journal,
    "query_note": hosts.note_query,
    "publish_part": publications.receive_part,
    "publish": publications.publish,
    "published_list": publications.list_all,
    "published_take_back": publications.take_back,
    "inventory_part": inventory.receive_part,
    "inventory_import": inventory.import_reading,
    "inventory_review": inventory.review,
    "inventory_decide": inventory.decide,
    "inventory_accept": inventory.accept,
    "inventory_show": inventory.show,
    "inventory_names": inventory.read_names,
    "factors_import": factors.import_factors,
    "factors_withdraw": factors.withdraw,
    "factors_contract_add": factors.add_contract,
    "factors_contract_withdraw": factors.withdraw_contract,
    "factors_mapping_confirm": factors.confirm_mapping,
    "close_part": closed_years.receive_part,
    "close_put": closed_years.put,
    "close_key": closed_years.read_key,
    "keep_put": closed_years.keep,
    "calendar_import": calendars.import_calendar,
    "calendar_show": calendars.show,
    "calendar_export": calendars.export,
    "calendar_school": calendars.import_school_holidays,
}
"""Name on the socket → function; its arguments are keywords."""


@dataclass(frozen=True, slots=True)
class Operations:
    """All operations on one open data directory. Safe to share between threads."""

    context: AdminContext

    def perform(self, operation: str, arguments: Mapping[str, Any]) -> Any:
        """Run an operation and return its result, ready for JSON.

        Raises UsageError for an unknown operation or wrong arguments, and the errors of the operation.
        """
        function = OPERATIONS.get(operation)
        if function is None:
            raise UsageError(f"unknown operation {operation!r}: use one of {', '.join(OPERATIONS)}")
        try:
            return function(self.context, **arguments)
        except (TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"wrong arguments for {operation}: {error}") from error
