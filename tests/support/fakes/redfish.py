# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Fake a Redfish service with sessions over TLS on loopback, and write the tree for real `sushy-static`."""

from __future__ import annotations

import copy
import json
import ssl
from base64 import b64decode
from pathlib import Path
from typing import Any

from tests.support.fakes.authority import Signed, TestAuthority
from tests.support.fakes.devices import Asked, FakeDevice, Reply, reply
from tests.support.metering import context_of
from veilleuse.agent.ports import SourceContext

FIXTURES = Path(__file__).parents[2] / "fixtures" / "redfish"
NAME, SECRET = "reader", "watt:7"
SESSIONS = "/redfish/v1/SessionService/Sessions"

Resources = dict[str, Any]


def saved(name: str) -> Resources:
    """Return a service of the fixtures: path → resource; the caller may change it."""
    loaded: Resources = json.loads((FIXTURES / f"{name}.json").read_text())
    return loaded


def write_tree(folder: Path, resources: Resources) -> None:
    """Write the resources as DMTF's mock-ups do: one index.json per resource."""
    for path, resource in resources.items():
        place = folder / path.removeprefix("/redfish/v1").strip("/")
        place.mkdir(parents=True, exist_ok=True)
        (place / "index.json").write_text(json.dumps(resource))


class Service:
    """A handler that answers as a Redfish service; `resources` may be changed at any time."""

    def __init__(self, resources: Resources, *, sessions: bool = True) -> None:
        self.resources = copy.deepcopy(resources)
        self.tokens: dict[str, str] = {}
        """Token → path of its session."""
        self.logins = 0
        self._sessions = sessions

    def __call__(self, asked: Asked) -> Reply:
        path = asked.path.rstrip("/")
        if path == "/redfish/v1":
            return reply(200, self.resources["/redfish/v1/"])
        if asked.method == "POST":
            return self._login(asked) if path == SESSIONS and self._sessions else reply(404)
        if not self._known(asked):
            return reply(401)
        if asked.method == "DELETE":
            self.tokens = {token: place for token, place in self.tokens.items() if place != path}
            return reply(204)
        found = self.resources.get(path)
        return reply(404) if found is None else reply(200, found)

    def expire(self) -> None:
        """End every session."""
        self.tokens.clear()

    def _login(self, asked: Asked) -> Reply:
        self.logins += 1
        if json.loads(asked.body) != {"UserName": NAME, "Password": SECRET}:
            return reply(401)
        token, place = f"token-{self.logins}", f"{SESSIONS}/{self.logins}"
        self.tokens[token] = place
        return reply(201, {"@odata.id": place}, {"X-Auth-Token": token, "Location": place})

    def _known(self, asked: Asked) -> bool:
        if "x-auth-token" in asked.headers:
            return asked.headers["x-auth-token"] in self.tokens
        scheme, _, value = asked.headers.get("authorization", "").partition(" ")
        return scheme == "Basic" and b64decode(value).decode() == f"{NAME}:{SECRET}"


def tls(folder: Path, authority: TestAuthority, leaf: Signed) -> ssl.SSLContext:
    """Return the server's TLS context; writes chain.pem, key.pem and root.pem into the folder."""
    (folder / "chain.pem").write_bytes(leaf.pem + authority.intermediate.pem)
    (folder / "key.pem").write_bytes(leaf.key_pem)
    (folder / "root.pem").write_bytes(authority.root.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    return context


def credentials_file(folder: Path, secret: str = SECRET) -> str:
    """Write the file with name and secret, readable by its owner only; return its path."""
    path = folder / "credentials"
    path.write_text(f"{NAME}:{secret}\n")
    path.chmod(0o600)
    return str(path)


def context(
    device: FakeDevice | str,
    credentials: str,
    options: dict[str, str | int | bool] | None = None,
    subject: str = "machine",
) -> SourceContext:
    """Return the context of the source for a fake device or an address."""
    address = device if isinstance(device, str) else device.address
    named: dict[str, Any] = {
        "meter": "bmc-3",
        "subject": subject,
        "every_seconds": 30,
        "credentials_file": credentials,
    }
    return context_of("redfish", address, **named | (options or {}))
