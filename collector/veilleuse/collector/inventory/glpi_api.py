# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads lists of GLPI through its REST API: sessions, pages and retries. No message contains a token.

Source: GLPI's apirest.md.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from veilleuse.collector.errors import CollectorError, UsageError
from veilleuse.collector.http_client import FetchError, HttpClient, Route, check_address
from veilleuse.collector.inventory import glpi_files
from veilleuse.collector.inventory.cells import CellError, entity_of
from veilleuse.collector.inventory.glpi_files import add_item
from veilleuse.collector.inventory.mapping import InventoryMapping
from veilleuse.collector.inventory.rows import MAXIMUM_ROWS, EntityRow, InventoryReading, Refusal
from veilleuse.wire.files import FileRefused, is_secret, read_with_status
from veilleuse.wire.settings_file import parse_toml

MAXIMUM_ANSWER_BYTES: Final = 32 * 1024 * 1024
TIMEOUT_SECONDS: Final = 30.0
"""Longest wait for the next bytes of GLPI."""
ANSWER_WAITS: Final = 4
"""One answer takes at most this many times TIMEOUT_SECONDS."""
WHOLE_SECONDS: Final = 1_800.0
"""Longest duration of a whole import."""
_PAUSES_SECONDS: Final = (1.0, 2.0, 4.0)
"""Pauses between tries, when GLPI sends no Retry-After."""
LONGEST_WAIT_SECONDS: Final = 60.0
MAXIMUM_FILE_BYTES: Final = 64 * 1024
_PASSING: Final = frozenset({429, 500, 502, 503, 504})
"""Temporary HTTP statuses, which are tried again."""


class GlpiError(CollectorError):
    """GlpiError: GLPI or the connection to it failed. Nothing was imported."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Credentials hold the address of GLPI and the tokens."""

    url: str
    """Address up to `apirest.php`."""
    user_token: str = field(repr=False)
    app_token: str = field(repr=False, default="")
    ca_file: str = ""
    """PEM file of the CA of GLPI's certificate; empty = the system's CAs."""


@dataclass(frozen=True, slots=True)
class GlpiResponse:
    """A GlpiResponse is one answer of GLPI."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    document: Any
    """JSON; None when the body is not JSON."""

    @property
    def error(self) -> str:
        """Return GLPI's error code; empty without one."""
        said = self.document
        return str(said[0]) if isinstance(said, list) and said and isinstance(said[0], str) else ""


def read_credentials(path: Path) -> Credentials:
    """Read a TOML file that only its owner can read. Raises UsageError."""
    try:
        content, about = read_with_status(path, MAXIMUM_FILE_BYTES, regular=True)
        if not is_secret(about):
            raise UsageError(f"{path} can be read by others: chmod 600 {path}, and change its tokens in GLPI")
        document = parse_toml(content.decode("utf-8"))
    except FileRefused as error:
        raise UsageError(
            f"{path} is no file of credentials ({error.strerror}): it has url, user_token and app_token"
        ) from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f'{path} is no TOML: write url = "https://…/apirest.php" and the tokens') from error
    keys = ("url", "user_token", "app_token", "ca_file")
    if unknown := [key for key in document if key not in keys]:
        raise UsageError(f"{path}: unknown '{unknown[0][:64]}': use {', '.join(keys)}")
    if any(not isinstance(value, str) for value in document.values()):
        raise UsageError(f"{path}: every value is a text in quotes")
    if not document.get("url") or not document.get("user_token"):
        raise UsageError(f"{path}: url and user_token are needed")
    tokens = (document["user_token"], document.get("app_token", ""))
    if not all(token.isascii() and token.isprintable() and len(token) <= 512 for token in tokens):
        raise UsageError(f"{path}: a token is letters, digits and signs, as GLPI shows it")
    try:
        check_address(document["url"], "url")
    except FetchError as error:
        raise UsageError(f"{path}: {error}") from error
    return Credentials(**document)


class Wire:
    """Wire sends single GETs to one GLPI through the collector's HTTP client, without a proxy."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
        whole_seconds: float = WHOLE_SECONDS,
    ) -> None:
        """Raises UsageError for a url or a ca_file that cannot be used."""
        self._credentials = credentials
        route = Route(
            ANSWER_WAITS * timeout_seconds,
            ca_file=credentials.ca_file,
            silence_seconds=timeout_seconds,
            maximum_bytes=MAXIMUM_ANSWER_BYTES,
        )
        try:
            self._client = HttpClient(credentials.url, route)
        except FetchError as error:
            raise UsageError(f"GLPI: {error}") from error
        self._sleep = sleep
        self._end = time.monotonic() + whole_seconds

    def get(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> GlpiResponse:
        """Return one answer, of any status.

        A 429 or 5xx is tried again, after Retry-After or growing pauses.

        Raises GlpiError when there is none, when it is too large, or when time is up.
        """
        server = self._client.server
        for wait in _PAUSES_SECONDS:
            answer = self._once(path, query, headers)
            if answer.status not in _PASSING or answer.error:
                return answer
            asked = answer.headers.get("retry-after", "")
            pause = float(asked) if asked.isascii() and asked.isdigit() and len(asked) < 6 else wait
            if pause > LONGEST_WAIT_SECONDS or time.monotonic() + pause > self._end:
                raise GlpiError(f"GLPI at {server} asks to come back in {pause:g} s: do so")
            self._sleep(pause)
        answer = self._once(path, query, headers)
        if answer.status in _PASSING and not answer.error:
            busy = "is asked too often" if answer.status == 429 else "has a fault"
            tries = len(_PAUSES_SECONDS) + 1
            raise GlpiError(
                f"GLPI at {server} {busy} ({answer.status}, {tries} times): look at its logs, try later"
            )
        return answer

    def _once(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> GlpiResponse:
        if time.monotonic() > self._end:
            raise GlpiError(
                f"GLPI at {self._client.server} is too slow: nothing was imported; import an export of it"
            )
        sent = {"Content-Type": "application/json", **headers}
        if self._credentials.app_token:
            sent["App-Token"] = self._credentials.app_token
        try:
            answer = self._client.get(f"/{path}" + (f"?{urlencode(query)}" if query else ""), sent)
        except FetchError as error:
            raise GlpiError(f"GLPI: {error}") from error
        return GlpiResponse(answer.status, answer.headers, _json(answer.body))


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


log = logging.getLogger(__name__)

PAGE: Final = 200
"""Items per request. GLPI's own default is 50, its maximum some 1,000."""
SESSIONS: Final = 3
"""Maximum sessions for one list: GLPI may end a session at any time."""
_RANGE: Final = re.compile(r"\s*(\d+)\s*-\s*(\d+)\s*/\s*(\d+)\s*")
_LINKS: Final = (
    ("Computer_Item", "itemtype", "computers_id"),
    ("Glpi\\Asset\\Asset_PeripheralAsset", "itemtype_peripheral", "items_id_asset"),
)
"""Lists of monitors by computer: up to GLPI 10, and since 11. (item type, column of the type, column of the
computer)."""
_WHY: Final = {
    "ERROR_APP_TOKEN_PARAMETERS_MISSING": "it wants an App-Token: set app_token",
    "ERROR_WRONG_APP_TOKEN_PARAMETER": "it does not know the App-Token: copy it from Setup > General > API",
    "ERROR_GLPI_LOGIN_USER_TOKEN": "it does not know the user_token: copy it from the user's preferences, 'API token'",
    "ERROR_GLPI_LOGIN": "it does not let this user in: look at the user's account and GLPI's logs",
    "ERROR_LOGIN_PARAMETERS_MISSING": "it got no user_token: set user_token",
    "ERROR_NOT_ALLOWED_IP": "it does not serve this machine's address: allow it in Setup > General > API",
    "ERROR_RIGHT_MISSING": "the user's profile may not read this: give it read rights",
    "ERROR_SESSION_TOKEN_INVALID": "it ended the session, again and again: try later",
}


class Glpi:
    """Glpi holds one session at a time; a context manager, which ends the session on exit."""

    def __init__(self, wire: Wire, user_token: str) -> None:
        self._wire, self._user_token = wire, user_token
        self._session = ""

    def __enter__(self) -> Glpi:
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        if self._session:
            try:
                self._wire.get("killSession", {}, {"Session-Token": self._session})
            except GlpiError as error:  # the session expires by itself; the items read are complete
                log.info("session of glpi not ended", extra={"error": str(error)})

    def items(self, item_type: str, *, names: bool = True) -> list[dict[str, Any]]:
        """Return all items of a type, in GLPI's order, each once. Raises GlpiError.

        `names`: return names of linked items instead of their numbers. When items were added or removed
        meanwhile, so that the pages do not fit together, all pages are read once more.
        """
        for _ in range(2):
            found, whole = self._pages(item_type, names=names)
            if whole:
                return list(found.values())
        raise GlpiError(f"GLPI's list of {item_type} changes while it is read: try when nobody works on it")

    def _pages(self, item_type: str, *, names: bool) -> tuple[dict[Any, dict[str, Any]], bool]:
        found: dict[Any, dict[str, Any]] = {}
        total: int | None = None
        for start in range(0, MAXIMUM_ROWS + PAGE, PAGE):
            answer = self._page(item_type, start, names=names)
            if answer.error == "ERROR_RANGE_EXCEED_TOTAL":  # no further page
                return found, total is None or len(found) == total
            page = _page_of(answer, item_type)
            for thing in page:
                found[thing.get("id")] = thing
            matched = _RANGE.fullmatch(answer.headers.get("content-range", ""))
            total = int(matched[3]) if matched else None
            if not page or (len(page) < PAGE if total is None else start + PAGE >= total):
                return found, total is None or len(found) == total
        raise GlpiError(f"GLPI has more than {MAXIMUM_ROWS} {item_type}: import exports of its parts")

    def _page(self, item_type: str, start: int, *, names: bool) -> GlpiResponse:
        query = {
            "range": f"{start}-{start + PAGE - 1}",
            "expand_dropdowns": "true" if names else "false",
            "get_hateoas": "false",
        }
        answer = self._wire.get(quote(item_type), query, {"Session-Token": self._session})
        for _ in range(SESSIONS - 1):
            if answer.status != 401 or answer.error not in ("", "ERROR_SESSION_TOKEN_INVALID"):
                break
            self._begin()
            answer = self._wire.get(quote(item_type), query, {"Session-Token": self._session})
        return answer

    def _begin(self) -> None:
        answer = self._wire.get("initSession", {}, {"Authorization": f"user_token {self._user_token}"})
        token = answer.document.get("session_token") if isinstance(answer.document, dict) else None
        if (
            answer.status != 200
            or not isinstance(token, str)
            or not token.isascii()
            or not token.isprintable()
        ):
            raise _refused(answer, "a session")
        self._session = token


def pull(reading: InventoryReading, words: InventoryMapping, session: Glpi, items: Iterable[str]) -> None:
    """Read these items, the tree of entities, the days of service and the monitors of each computer.

    Raises GlpiError.
    """
    _entities(reading, session)
    days = _days(reading, session)
    for item in items:
        kind = glpi_files.ITEM_TYPES[item]
        displays = _displays(reading, session) if item == "computer" else None
        for thing in session.items(kind):
            number = thing.get("id")
            more = dict(days.get((kind, number), {}))
            if displays is not None:
                more["displays"] = str(displays[number])
            add_item(reading, words, thing, f"GLPI, {kind} {number}", item, more)
        reading.complete.add(item)


def _entities(reading: InventoryReading, session: Glpi) -> None:
    for thing in session.items("Entity"):
        where = f"GLPI, Entity {thing.get('id')}"
        try:
            name = entity_of(glpi_files.plain(str(thing.get("completename") or thing.get("name") or "")))
        except CellError as error:
            reading.refuse(Refusal(where, "completename", error.what, error.remedy))
            continue
        if name:
            reading.entities.append(EntityRow(where, name))


def _days(reading: InventoryReading, session: Glpi) -> dict[tuple[Any, Any], dict[str, str]]:
    """Return (item type, number) → days of service; empty, with a note, when the user may not read them."""
    found: dict[tuple[Any, Any], dict[str, str]] = {}
    for thing in _read_optional(reading, session, "Infocom") or ():
        days = {
            field: str(thing.get(theirs) or "")[:10]
            for theirs, field in glpi_files.INFOCOM_FIELDS.items()
            if theirs in thing
        }
        found[thing.get("itemtype"), thing.get("items_id")] = days
    return found


def _displays(reading: InventoryReading, session: Glpi) -> Counter[Any] | None:
    """Return computer's number → its monitors; None when GLPI has no such list."""
    for item_type, whose, computer in _LINKS:
        things = _read_optional(reading, session, item_type, quiet=item_type != _LINKS[-1][0])
        if things is not None:
            return Counter(
                thing.get(computer)
                for thing in things
                if thing.get(whose) == "Monitor"
                and thing.get("itemtype_asset", "Computer") == "Computer"
                and not thing.get("is_deleted")
            )
    return None


def _read_optional(
    reading: InventoryReading, session: Glpi, item_type: str, *, quiet: bool = False
) -> list[dict[str, Any]] | None:
    """Return a list, or None with a note when the profile may not read it or the version does not have it."""
    try:
        return session.items(item_type, names=False)
    except GlpiListMissing:
        if not quiet:
            reading.not_known("not readable in GLPI", item_type)
        return None


class GlpiListMissing(GlpiError):
    """GlpiListMissing: this GLPI, or this profile, has no such list."""


def _page_of(answer: GlpiResponse, item_type: str) -> list[dict[str, Any]]:
    if answer.status not in (200, 206):
        raise _refused(answer, item_type)
    page = answer.document
    if not isinstance(page, list) or not all(isinstance(thing, dict) for thing in page):
        raise GlpiError(f"GLPI answered no list of {item_type}: does url end with apirest.php?")
    return page


def _refused(answer: GlpiResponse, what: str) -> GlpiError:
    word = re.sub(r"[^A-Z0-9_]", "", answer.error)[:64]
    if answer.document is None or answer.status // 100 == 3:
        return GlpiError(
            f"what answers is no GLPI ({answer.status}): does url end with apirest.php, and is its API on?"
        )
    kind = (
        GlpiListMissing
        if word in ("ERROR_RIGHT_MISSING",) or "COMMONDBTM" in word or answer.status in (403, 404)
        else GlpiError
    )
    why = _WHY.get(word) or f"it says {word or 'nothing more'}: look at its logs"
    return kind(f"GLPI refused {what} ({answer.status}): {why}")
