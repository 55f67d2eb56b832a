# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Answers pip-audit from a copy of the OSV database (osv.dev), over loopback: nothing is asked outside.

A copy is a folder or a zip file of OSV's JSON records of PyPI: its own export is `PyPI/all.zip`.
"""

from __future__ import annotations

import json
import threading
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version


class OsvCopy:
    """An OsvCopy finds the vulnerabilities of one version of a distribution."""

    def __init__(self, place: Path) -> None:
        """Reads all records. Raises OSError, zipfile.BadZipFile, or ValueError without a record."""
        self._records: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.count = 0
        self.newest = ""
        """Time of the newest change, ISO 8601."""
        for text in _texts(place):
            record = json.loads(text)
            self.count += 1
            self.newest = max(self.newest, record.get("modified", ""))
            for name in {_name(part) for part in record.get("affected", ())} - {None}:
                self._records[str(name)].append(record)
        if not self.count:
            raise ValueError(f"{place} holds no record of OSV: a copy has one .json file for each")

    def find(self, name: str, version: str) -> list[dict[str, Any]]:
        """Return the records that say of this version that it is affected."""
        name = canonicalize_name(name)
        return [
            record
            for record in self._records.get(name, ())
            if any(_name(part) == name and _holds(part, version) for part in record["affected"])
        ]


def _texts(place: Path) -> Iterator[bytes]:
    if place.is_dir():
        yield from (file.read_bytes() for file in sorted(place.rglob("*.json")))
    else:
        with zipfile.ZipFile(place) as archive:
            yield from (archive.read(name) for name in archive.namelist() if name.endswith(".json"))


def _name(affected: dict[str, Any]) -> str | None:
    package = affected.get("package", {})
    return canonicalize_name(package["name"]) if package.get("ecosystem") == "PyPI" else None


def _holds(affected: dict[str, Any], version: str) -> bool:
    """Evaluate versions and ranges (ossf.github.io/osv-schema, "evaluation"). What no one can order holds."""
    if version in affected.get("versions", ()):
        return True
    ranges = [one["events"] for one in affected.get("ranges", ()) if one["type"] == "ECOSYSTEM"]
    try:
        return any(_in_range(events, Version(version)) for events in ranges)
    except InvalidVersion:
        return True


def _in_range(events: list[dict[str, str]], version: Version) -> bool:
    bounds = [(Version(value), kind) for event in events for kind, value in event.items() if kind != "limit"]
    inside = False
    for bound, kind in sorted(bounds):
        if kind == "introduced" and version >= bound:
            inside = True
        elif (kind == "fixed" and version >= bound) or (kind == "last_affected" and version > bound):
            inside = False
    return inside


@contextmanager
def serving(copy: OsvCopy) -> Iterator[str]:
    """Answer OSV's `/v1/query` on loopback; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # http.server's name
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = copy.find(asked["package"]["name"], asked["version"])
            body = json.dumps({"vulns": found} if found else {}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Write no line for a request."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query"
        finally:
            server.shutdown()
            thread.join()
