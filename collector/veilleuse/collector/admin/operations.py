# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Dispatches operations of the administration by their name, and serves them on a socket.

The protocol is one JSON object per line, bounded in size.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Final

from veilleuse.collector.admin import (
    accounts,
    actions,
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
from veilleuse.collector.errors import CollectorError, UsageError
from veilleuse.collector.ipc import MAX_REQUEST_BYTES, SOCKET_FILE, PrivateServer

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 32
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
    "backup_copy": process.copy_backup,
    "backup_done": process.finish_backup,
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
    "published_allow": publications.allow,
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
    "perimeters_declare": factors.declare_perimeters,
    "powers_declare": factors.declare_powers,
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


class AdminServer(PrivateServer):
    """Serves operations on `<data_dir>/admin.sock`, mode 0600, while the server is open."""

    def __init__(self, data_dir: Path, operations: Operations) -> None:
        """Open the socket, like PrivateServer. Raises DataDirectoryError."""
        self._operations = operations
        super().__init__(data_dir, SOCKET_FILE, self._converse, places=MAX_CONNECTIONS)

    def _converse(self, reading: BufferedIOBase, writing: BufferedIOBase) -> None:
        """Answer each line until the caller closes, is silent for 10 s, or sends a line that is too long."""
        while line := _read_line(reading):
            too_long = len(line) > MAX_REQUEST_BYTES
            answer = _TOO_LONG if too_long else _answer(self._operations, line)
            writing.write(json.dumps(answer).encode() + b"\n")
            if too_long:
                return


def _read_line(reading: BufferedIOBase) -> bytes:
    try:
        return reading.readline(MAX_REQUEST_BYTES + 1)
    except TimeoutError:
        return b""


def _answer(operations: Operations, line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        return _refused(2, "the request is not JSON")
    try:
        if not isinstance(request, dict) or not isinstance(operation := request.pop("op", None), str):
            raise UsageError('the request is not a JSON object with an "op"')
        return {"ok": True, "result": operations.perform(operation, request)}
    except CollectorError as error:
        return _refused(error.exit_code, str(error))
    except Exception:  # outermost call of the administration: it must answer
        log.exception("administration call failed")
        return _refused(1, "the collector failed: its log says why")


def _refused(exit_code: int, error: str) -> dict[str, Any]:
    return {"ok": False, "exit_code": exit_code, "error": error}


_TOO_LONG: Final = _refused(2, f"a request has at most {MAX_REQUEST_BYTES} bytes")
