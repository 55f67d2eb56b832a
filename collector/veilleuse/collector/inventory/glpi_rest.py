# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""GLPI's REST API: a session, pages of items, the session's end. Source: GLPI's apirest.md, versions 9.5 to 11.

GET initSession (App-Token, Authorization: user_token …) → {"session_token"}; GET <itemtype>?range=0-199 → 200 or 206 with
Content-Range: 0-199/1234; a range beyond the end is 400 ERROR_RANGE_EXCEED_TOTAL; GET killSession.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote

from veilleuse.collector.inventory import glpi_files
from veilleuse.collector.inventory.cells import CellRefused, entity_of
from veilleuse.collector.inventory.glpi_api import Answer, GlpiFailed, Wire
from veilleuse.collector.inventory.glpi_json import add_item
from veilleuse.collector.inventory.mapping import Words
from veilleuse.collector.inventory.rows import MAXIMUM_ROWS, EntityRow, Reading, Refusal

log = logging.getLogger(__name__)

PAGE: Final = 200
"""Items a request. GLPI's own default is 50, its cap some 1,000."""
SESSIONS: Final = 3
"""Begun at most for one list: GLPI ends them when it likes."""
_RANGE: Final = re.compile(r"\s*(\d+)\s*-\s*(\d+)\s*/\s*(\d+)\s*")
_LINKS: Final = (
    ("Computer_Item", "itemtype", "computers_id"),
    ("Glpi\\Asset\\Asset_PeripheralAsset", "itemtype_peripheral", "items_id_asset"),
)
"""Which monitors hang on which computer: up to GLPI 10, and since 11. (item type, whose type, whose computer)."""
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
    """One session at a time; a context manager: the session is ended on leaving."""

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
            except GlpiFailed as error:  # it ends by itself; what was read is whole
                log.info("session of glpi not ended", extra={"error": str(error)})

    def items(self, item_type: str, *, names: bool = True) -> list[dict[str, Any]]:
        """All of a type, in GLPI's order, each once. `names`: of what they point to, instead of numbers. Raises GlpiFailed.

        When items came or went meanwhile, so that pages do not fit together, all is read once more.
        """
        for _ in range(2):
            found, whole = self._pages(item_type, names=names)
            if whole:
                return list(found.values())
        raise GlpiFailed(f"GLPI's list of {item_type} changes while it is read: try when nobody works on it")

    def _pages(self, item_type: str, *, names: bool) -> tuple[dict[Any, dict[str, Any]], bool]:
        found: dict[Any, dict[str, Any]] = {}
        total: int | None = None
        for start in range(0, MAXIMUM_ROWS + PAGE, PAGE):
            answer = self._page(item_type, start, names=names)
            if answer.error == "ERROR_RANGE_EXCEED_TOTAL":  # the end, where a page ended just there
                return found, total is None or len(found) == total
            page = _page_of(answer, item_type)
            for thing in page:
                found[thing.get("id")] = thing
            matched = _RANGE.fullmatch(answer.headers.get("content-range", ""))
            total = int(matched[3]) if matched else None
            if not page or (len(page) < PAGE if total is None else start + PAGE >= total):
                return found, total is None or len(found) == total
        raise GlpiFailed(f"GLPI has more than {MAXIMUM_ROWS} {item_type}: import exports of its parts")

    def _page(self, item_type: str, start: int, *, names: bool) -> Answer:
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


def pull(reading: Reading, words: Words, session: Glpi, items: Iterable[str]) -> None:
    """These items, the tree of entities, the days of service and the monitors of each computer. Raises GlpiFailed."""
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


def _entities(reading: Reading, session: Glpi) -> None:
    for thing in session.items("Entity"):
        where = f"GLPI, Entity {thing.get('id')}"
        try:
            name = entity_of(glpi_files.plain(str(thing.get("completename") or thing.get("name") or "")))
        except CellRefused as error:
            reading.refuse(Refusal(where, "completename", error.what, error.remedy))
            continue
        if name:
            reading.entities.append(EntityRow(where, name))


def _days(reading: Reading, session: Glpi) -> dict[tuple[Any, Any], dict[str, str]]:
    """(item type, number) → days of service; none when the user may not read them, which is noted."""
    found: dict[tuple[Any, Any], dict[str, str]] = {}
    for thing in _or_none(reading, session, "Infocom") or ():
        days = {
            field: str(thing.get(theirs) or "")[:10]
            for theirs, field in glpi_files.INFOCOM_FIELDS.items()
            if theirs in thing
        }
        found[thing.get("itemtype"), thing.get("items_id")] = days
    return found


def _displays(reading: Reading, session: Glpi) -> Counter[Any] | None:
    """Computer's number → monitors on it; None when GLPI does not tell."""
    for item_type, whose, computer in _LINKS:
        things = _or_none(reading, session, item_type, quiet=item_type != _LINKS[-1][0])
        if things is not None:
            return Counter(
                thing.get(computer)
                for thing in things
                if thing.get(whose) == "Monitor"
                and thing.get("itemtype_asset", "Computer") == "Computer"
                and not thing.get("is_deleted")
            )
    return None


def _or_none(
    reading: Reading, session: Glpi, item_type: str, *, quiet: bool = False
) -> list[dict[str, Any]] | None:
    """What a profile may not read, or a version does not know, is noted and left out."""
    try:
        return session.items(item_type, names=False)
    except NotServed:
        if not quiet:
            reading.not_known("not readable in GLPI", item_type)
        return None


class NotServed(GlpiFailed):
    """This GLPI, or this profile, has no such list."""


def _page_of(answer: Answer, item_type: str) -> list[dict[str, Any]]:
    if answer.status not in (200, 206):
        raise _refused(answer, item_type)
    page = answer.document
    if not isinstance(page, list) or not all(isinstance(thing, dict) for thing in page):
        raise GlpiFailed(f"GLPI answered no list of {item_type}: does url end with apirest.php?")
    return page


def _refused(answer: Answer, what: str) -> GlpiFailed:
    word = re.sub(r"[^A-Z0-9_]", "", answer.error)[:64]
    if answer.document is None or answer.status // 100 == 3:
        return GlpiFailed(
            f"what answers is no GLPI ({answer.status}): does url end with apirest.php, and is its API on?"
        )
    kind = (
        NotServed
        if word in ("ERROR_RIGHT_MISSING",) or "COMMONDBTM" in word or answer.status in (403, 404)
        else GlpiFailed
    )
    why = _WHY.get(word) or f"it says {word or 'nothing more'}: look at its logs"
    return kind(f"GLPI refused {what} ({answer.status}): {why}")
