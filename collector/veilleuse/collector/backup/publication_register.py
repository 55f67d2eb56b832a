# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Appends each publication, content and all, to a file beside the register, before anybody can read it.

A collector restored from a backup reads it back, so that no month is published twice: the difference of two
publications is the machines that were forgotten or lost in between. Sources: docs/operations.md, *Restore*;
decision 0013. The file has one JSON object per line, appended and fsynced before the commit:

- `n`: its number. The database notes number and hash of the last line that it contains, as of the register.
- `of`: the data directory to which it belongs; lines of other directories are left alone.
- `kind`: `publication`, `taken_back` (one publication), or `held` (the hold in force, or none: with it a file
  begins).
- `sha256`: start of the hash of the line without this field, so that damage inside a line is seen.

Of each publication its last line counts. The file is rewritten when it is mostly earlier lines.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from veilleuse.collector.backup.notes import RESTORE_NOTE
from veilleuse.collector.backup.publication_lines import (
    HELD,
    PUBLICATION,
    TAKEN_BACK,
    Line,
    LineFile,
    LinePlace,
    PublicationKey,
    hold_facts,
    hold_from,
    key_facts,
    publication_facts,
    publication_from,
)
from veilleuse.collector.enrolment.register import known_line
from veilleuse.collector.errors import StoreFailing
from veilleuse.collector.model.months import WAIT_DAYS
from veilleuse.collector.model.publications import HOLD_NOTE, Publication, PublicationHold
from veilleuse.collector.ports.months import Publications
from veilleuse.collector.ports.registry import Registry
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

log = logging.getLogger(__name__)

ENDING: Final = ".publications"
LINE_NOTE: Final = "publication_line"
"""Key in the table meta: `number:hash` of the last line that the database contains."""
JUDGED_NOTE: Final = "publication_restore"
"""Key in the table meta: time of the last restore after which the file was read, as RESTORE_NOTE."""
GROWN: Final = 2
"""The file is rewritten when it has this many times the bytes of the lines that count."""
SPARE_BYTES: Final = 1 << 20


def publication_file(register: Path) -> Path:
    """Return the path of the file beside this register."""
    return register.with_name(register.name + ENDING)


@dataclass(slots=True)
class ReadBack:
    """What was read back at a start."""

    periods: int = 0
    """Publications of the file that the database did not have."""
    trouble: str = ""
    """What is wrong with the file, for people; empty when it is whole."""


@dataclass(slots=True)
class PublicationRegister:
    """The file of an open data directory. Used only in jobs of the writer."""

    path: Path
    _file: LineFile
    _registry: Registry
    _lines: dict[PublicationKey, LinePlace] = field(default_factory=dict)
    """Key → place of its last line; of one taken back, without content."""
    hold: PublicationHold | None = None
    trouble: str = ""
    """Why the file could not be read at the start; then nothing is appended."""
    read_back: ReadBack = field(default_factory=ReadBack)

    def find(self, one: Publication) -> Publication | None:
        """Return the noted publication of the same kind and period; None when none counts."""
        place = self._lines.get(_key(one))
        if place is None or place.kind != PUBLICATION:
            return None
        return publication_from(self._file.read(place))

    def append(self, one: Publication) -> None:
        """Note a publication durably. Raises StoreFailing: then it must not be stored."""
        self._append([{"kind": PUBLICATION, **publication_facts(one)}])

    def take_back(self, keys: Iterable[PublicationKey]) -> None:
        """Note that publications are taken back. Raises StoreFailing."""
        self._append([{"kind": TAKEN_BACK, **key_facts(key)} for key in keys])

    def set_hold(self, hold: PublicationHold) -> None:
        """Note a hold, in the file and in the database. Raises StoreFailing."""
        self._append([{"kind": HELD, **hold_facts(hold)}])
        self._put_hold(hold)

    def _put_hold(self, hold: PublicationHold) -> None:
        self.hold = hold
        self._registry.put_meta(HOLD_NOTE, hold.to_json())

    def _append(self, lines: list[dict[str, Any]]) -> None:
        if self.trouble:
            raise StoreFailing(
                f"the file of publications {self.path} could not be read at the start: {self.trouble}; look at "
                "its disk and rights, then start again"
            )
        with self._translated():
            for place in self._file.append(lines):
                self._lines[place.key] = place
            live = sum(place.bytes for place in self._lines.values())
            if self._file.size > GROWN * live + SPARE_BYTES:
                places = sorted(self._lines.values(), key=lambda place: place.number)
                self._rewrite(self._file.read(place) for place in places)
        self._note()

    def _rewrite(self, lines: Iterable[Mapping[str, Any]]) -> None:
        self._lines = {place.key: place for place in self._file.rewrite(lines)}

    def _note(self) -> None:
        self._registry.put_meta(LINE_NOTE, self._file.note)

    @staticmethod
    def _error(path: Path, error: OSError) -> StoreFailing:
        log.error("publications cannot be noted", extra={"path": str(path), "error": error.strerror})
        return StoreFailing(
            f"cannot write the file of publications {path} ({error.strerror or error}): nothing is published "
            "until it can be written; look at its disk and rights"
        )

    def _translated(self) -> _Translated:
        return _Translated(lambda error: self._error(self.path, error))

    # --- at the start

    def reconcile(self, publications: Publications, restored: str) -> None:
        """Give the database what it lacks of the file, and the file what it lacks of the database.

        `restored`: RESTORE_NOTE of a restore after which the file was not read yet, else empty. Runs in one
        transaction. Faults of the file are told in `read_back`.
        """
        number, line_hash = known_line(self._registry.data_kind().extra.get(LINE_NOTE, ""))
        contents = self._file.load(number)
        self._lines = {place.key: place for place in contents.places}
        fault = contents.fault_after(number, line_hash)
        self._take_hold(contents.places)
        if contents.is_continued(number, line_hash):
            self._apply(publications, contents.after(number))
        elif restored or self.hold:  # else the database holds all, and what it lacks was removed there
            self._apply(publications, contents.places, fill=True)
        self.read_back.trouble = fault if restored else ""
        if fault and (restored or number):
            log.warning(
                "file of publications is not whole: it is written anew",
                extra={"path": str(self.path), "fault": fault},
            )
        if restored:
            day = datetime.fromtimestamp(int(restored) / MILLISECONDS_PER_SECOND, UTC).date()
            # A copy of the file may be older than the last publication: what was due by then is held too.
            due = (day - timedelta(days=WAIT_DAYS)).replace(day=1)
            self._put_hold(PublicationHold(day if fault else due, fault or "it may be an older copy"))
        if fault or restored:
            with suppress(StoreFailing), self._translated():
                self._rewrite(self._known(publications))
        self._note()
        if restored:
            self._registry.put_meta(JUDGED_NOTE, restored)

    def _take_hold(self, places: Iterable[LinePlace]) -> None:
        """Take the hold of the file, else of the database."""
        for place in places:
            if place.kind == HELD and (hold := hold_from(self._file.read(place))) is not None:
                self._put_hold(hold)
        text = self._registry.data_kind().extra.get(HOLD_NOTE)
        if self.hold is None and text is not None:
            with suppress(ValueError):
                self.hold = PublicationHold.from_json(text)

    def _apply(self, publications: Publications, places: Iterable[LinePlace], *, fill: bool = False) -> None:
        """Store what these lines say; `fill`: only where the database has nothing."""
        for place in places:
            if place.kind == PUBLICATION:
                one = publication_from(self._file.read(place))
                stored = publications.find(one.kind, one.first, one.end)
                if stored is None or (not fill and stored.content != one.content):
                    publications.remove(one.kind, one.first, one.end)
                    publications.put(one)
                    self.read_back.periods += 1
            elif place.kind == TAKEN_BACK and not fill:
                publications.remove(*place.key[:3])  # type: ignore[arg-type]  # a key of a publication

    def _known(self, publications: Publications) -> Iterator[Line]:
        """Yield the lines of all that the database contains."""
        yield {"kind": HELD, **hold_facts(self.hold)}
        for summary in publications.summaries():
            one = publications.find(summary.kind, summary.first, summary.end)
            if one is not None:
                yield {"kind": PUBLICATION, **publication_facts(one)}


class _Translated:
    """Turns OSError into StoreFailing."""

    def __init__(self, error: Callable[[OSError], StoreFailing]) -> None:
        self._error = error

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, OSError):
            raise self._error(error) from error


def open_publication_register(
    register: Path, registry: Registry, publications: Publications
) -> PublicationRegister:
    """Open the file, and bring it and the database together. The caller is in a transaction.

    A file that exists and cannot be read is not appended to: nothing is published before it can be read.
    """
    kind = registry.data_kind()
    path = publication_file(register)
    opened = PublicationRegister(path, LineFile(path, kind.created_unix_milliseconds), registry)
    restore = kind.extra.get(RESTORE_NOTE, "")
    try:
        opened.reconcile(publications, restore if restore != kind.extra.get(JUDGED_NOTE, "") else "")
    except OSError as error:
        opened.trouble = opened.read_back.trouble = error.strerror or str(error)
        log.error(
            "file of publications cannot be read: nothing is published",
            extra={"path": str(path), "error": opened.trouble},
        )
    return opened


def _key(one: Publication) -> PublicationKey:
    return PublicationKey(one.kind, one.first, one.end)
