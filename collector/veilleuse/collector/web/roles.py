# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Which route is for whom: one table, closed to what it does not name. PROMISES.md S13."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from starlette.requests import Request

from veilleuse.collector.model.accounts import Account, Role
from veilleuse.collector.web.api.resources import DESCRIPTION, RESOURCES

STATE: Final = "caller"
"""Where the gate leaves who calls, in the request's state."""


class Guard(Enum):
    """What a route asks for."""

    OPEN = auto()
    """Nothing: it says nothing of the fleet."""
    KNOWN = auto()
    """The door's token, or any good account: says nothing of the fleet either, but to strangers not even what runs here."""
    FLEET = auto()
    """The door's token, or an account that sees the whole fleet."""
    HOSTS = auto()
    """The door's token, or an admin: single servers."""
    FIGURES = auto()
    """An account, always: its accesses are noted under its name. The door's token has none."""


GUARDS: Final[Mapping[str, Guard]] = {
    "/healthz": Guard.OPEN,
    "/": Guard.FLEET,
    "/metrics": Guard.FLEET,
    "/metrics/hosts": Guard.HOSTS,
    "/static/{name}": Guard.KNOWN,
    "/api": Guard.KNOWN,
    DESCRIPTION: Guard.KNOWN,
    **{resource.path: Guard.FIGURES for resource in RESOURCES},
}
UNNAMED: Final = Guard.HOSTS
"""Of a route that is not in the table."""
NOWHERE: Final = Guard.KNOWN
"""Of a path that no route has: who is let in is told so."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    at_door: bool = False
    """Has the token of `http.metrics_token_file`, or connects where none is asked for: on loopback."""
    account: Account | None = None
    """Whose good token came along."""
    wrong_token: bool = False
    """One came along, and it is nobody's."""

    def may(self, guard: Guard) -> bool:
        """Whether a route of this guard is for them."""
        account = self.account
        match guard:
            case Guard.OPEN:
                return True
            case Guard.KNOWN:
                return self.at_door or account is not None
            case Guard.FLEET:
                return self.at_door or (account is not None and account.sees_all)
            case Guard.HOSTS:
                return self.at_door or (account is not None and account.role is Role.ADMIN)
            case Guard.FIGURES:
                return account is not None


def caller_of(request: Request) -> Caller:
    """As the gate found out; nobody where it was not asked."""
    found = request.scope.get("state", {}).get(STATE)
    return found if isinstance(found, Caller) else Caller()
