# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse token create|list|revoke`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from veilleuse.collector.cli.shared import (
    APP,
    ConfigOption,
    JsonOption,
    load_settings,
    moment,
    new_private,
    print_result,
    run_operation,
)
from veilleuse.collector.settings import CollectorSettings
from veilleuse.wire.vocabulary import Population

app = typer.Typer(**APP)

AdmitCopiesOption = Annotated[
    bool,
    typer.Option(
        "--admit-copies",
        help="approve copies of its machines while the token is good; this also admits a thief of a key",
    ),
]


@app.callback()
def token() -> None:
    """Create, list and revoke enrolment tokens. A machine shows a token once to get its identity."""


@app.command()
def create(
    entity: Annotated[str, typer.Option(help="organisational unit of the machines")],
    site: Annotated[str, typer.Option(help="site of the machines; made when it does not exist")],
    population: Annotated[Population, typer.Option(help="use of the machines; sets their finest time grain")],
    output: Annotated[Path, typer.Option("--output", "-o", help="join file to write, mode 0600")],
    config: ConfigOption = None,
    uses: Annotated[int, typer.Option(help="number of machines that may enrol with it")] = 1,
    hours: Annotated[float, typer.Option(help="hours until the token ends; at most 720 (30 days)")] = 24.0,
    network: Annotated[
        list[str] | None, typer.Option(help="network where it may be used, e.g. 192.0.2.0/24; repeatable")
    ] = None,
    approve: Annotated[
        bool, typer.Option("--approve", help="each machine waits for 'veilleuse hosts activate'")
    ] = False,
    admit_copies: AdmitCopiesOption = False,
    zone: Annotated[
        str | None, typer.Option(help="grid zone of a new site (default: reporting.zone)")
    ] = None,
    time_zone: Annotated[
        str | None, typer.Option(help="IANA time zone of a new site (default: reporting.time_zone)")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create a token and write the join file for its machines."""
    order = {
        "org_entity": entity,
        "site": site,
        "population": population.value,
        "uses": uses,
        "hours": hours,
        "networks": network or [],
        "approve": approve,
        "admit_copies": admit_copies,
        "zone": zone,
        "time_zone": time_zone,
    }
    made = _write_join_file(load_settings(config), output, order)
    facts = {
        "token_id": made["token_id"],
        "output": str(output),
        "expires_unix_milliseconds": made["expires_unix_milliseconds"],
        "ca_sha256": made["join"]["ca_sha256"],
        "notes": made["notes"],
    }
    print_result(facts, "\n".join(_made_lines(facts, uses)), as_json)


def _made_lines(facts: dict[str, Any], uses: int) -> Iterator[str]:
    until = moment(facts["expires_unix_milliseconds"])
    yield f"token {facts['token_id']}: {facts['output']}, good until {until}, {uses} use(s)"
    yield from (f"note: {note}" for note in facts["notes"])
    yield f'pin in agent.toml: collector.ca_sha256 = "{facts["ca_sha256"]}"'


def _write_join_file(settings: CollectorSettings, output: Path, order: dict[str, Any]) -> dict[str, Any]:
    """Create a token and write its join file; neither is left without the other, as far as a disk allows."""
    with new_private(output) as file:
        made: dict[str, Any] = run_operation(settings, "token_create", **order)
        file.write(json.dumps(made["join"], indent=1) + "\n")
    return made


@app.command(name="list")
def list_tokens(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List tokens, without their text: it is stored nowhere."""
    tokens = run_operation(load_settings(config), "token_list")
    rows = [
        {
            "token": str(token["token_id"]),
            "state": _state(token),
            "uses": f"{token['uses']}/{token['max_uses']}",
            "until": moment(token["expires_unix_milliseconds"]),
            "entity": token["org_entity"],
            "site": token["site"],
            "population": token["population"],
            "networks": " ".join(token["networks"]) or "any",
            "note": _note(token),
        }
        for token in tokens
    ]
    print_result(tokens, rows, as_json, empty="no token yet: 'veilleuse token create'")


@app.command()
def revoke(
    token_id: Annotated[int, typer.Argument(help="number from 'veilleuse token list'")],
    config: ConfigOption = None,
    keep_hosts: Annotated[
        bool, typer.Option("--keep-hosts", help="keep the machines that enrolled with it")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """End a token at once. The machines that enrolled with it are revoked too."""
    done = run_operation(load_settings(config), "token_revoke", token_id=token_id, keep_hosts=keep_hosts)
    print_result(done, f"token {token_id} revoked, and {done['hosts_revoked']} host(s)", as_json)


def _state(token: dict[str, object]) -> str:
    if token["revoked"]:
        return "revoked"
    if token["expired"]:
        return "expired"
    return "used" if token["uses"] == token["max_uses"] else "good"


def _note(token: dict[str, object]) -> str:
    """Return how machines of the token are approved."""
    if token["approve"]:
        return "each machine is approved"
    return "copies get in" if token.get("admit_copies") else ""
