# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Verifies a closed year: its signature, and its figures against its statistics.
From a file alone, or from the store.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from veilleuse.collector.account.statement import METHOD_VERSION
from veilleuse.collector.closed_years.frozen import (
    ClosedRevision,
    NotAClosedYear,
    frozen_documents,
    read_closed,
    reproduces,
    revision_of,
)
from veilleuse.collector.closed_years.published_rows import released_again
from veilleuse.collector.closed_years.signatures import (
    SignatureFacts,
    SignatureWrong,
    check,
    known_public_key,
    public_pem,
)
from veilleuse.collector.closed_years.signed_year import SIGN_OFF
from veilleuse.collector.errors import CollectorError, UsageError
from veilleuse.collector.model.closed_years import (
    RELEASED,
    ClosedFile,
    ClosedYear,
    figures_of,
    file_parts,
    sha256,
)
from veilleuse.collector.model.query import DEFAULT_PERIMETERS
from veilleuse.collector.ports.months import ClosedYearReader
from veilleuse.wire.files import make_own_folder, read_owned, read_with_status, replace_owned
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

FOLDER: Final = "closed"
"""Folder within the data directory."""
KEY_NAME: Final = "key.pem"
FILE_NAME: Final = re.compile(r"(?P<year>\d{4})-r(?P<revision>[1-9]\d{0,5})\.json")


def signature_path(path: Path) -> Path:
    """Return the path of a file's signature."""
    return path.with_name(f"{path.name}.sig")


def export(
    folder: Path, closed_year: ClosedYear, file: ClosedFile, public_key: str, *, give: bool = True
) -> Path:
    """Write a revision, each file completely or not at all, mode 0600: it has sums of few servers.
    Raises CollectorError.

    `give`: files written by root get the owner of the folder, as in the data directory.
    """
    path = folder / f"{closed_year.report_id}.json"
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_own_folder(folder)
        replace_owned(path, file.content, give=give)
        replace_owned(signature_path(path), file.signature, give=give)
        replace_owned(folder / KEY_NAME, public_pem(public_key), give=give)
    except OSError as error:
        raise CollectorError(f"cannot write {path}: {error.strerror or error}") from error
    return path


MOST_BYTES: Final = 1 << 30
"""Limit of a closed year's file."""
SIGNATURE_BYTES: Final = 1 << 20
"""Limit of its .sig file."""


@dataclass(slots=True)
class Verification:
    """Result for one revision."""

    name: str
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Checks that were not possible, and remarks."""
    closed: ClosedRevision | None = None
    signed: SignatureFacts | None = None

    def document(self) -> dict[str, Any]:
        """Return the result for JSON."""
        found: dict[str, Any] = {"name": self.name, "verified": not self.wrong, "wrong": self.wrong}
        found["notes"] = self.notes
        if self.closed is not None and not self.wrong:
            closed_year = self.closed.closed_year
            found |= {
                "year": closed_year.year,
                "revision": closed_year.revision,
                "state": closed_year.state.value,
                "sha256": closed_year.sha256,
                "totals": figures_of(self.closed.report)["totals"],
            }
            if self.closed.kept.perimeters != DEFAULT_PERIMETERS:
                found["perimeters"] = self.closed.kept.perimeters.document()
            if SIGN_OFF in self.closed.report:
                found[SIGN_OFF] = self.closed.report[SIGN_OFF]
        if self.signed is not None:
            found |= {"public_key": self.signed.public_key, "root_sha256": self.signed.root_sha256}
        return found


def verify_file(path: Path, key: str | None) -> Verification:
    """Verify a file with its .sig file; `key`: its expected public key, None = not known here.

    Raises UsageError without such files.
    """
    content, signature = _read(path), _read(signature_path(path), SIGNATURE_BYTES)
    verdict = _verify(str(path), content, signature, key)
    if verdict.closed is None:
        return verdict
    closed_year = verdict.closed.closed_year
    if (match := FILE_NAME.fullmatch(path.name)) is None:
        verdict.notes.append("the file's name is not YEAR-rN.json: its year and revision are those it tells")
    elif (int(match["year"]), int(match["revision"])) != (closed_year.year, closed_year.revision):
        verdict.wrong.append(f"it is {closed_year.report_id}, and lies under the name of another")
    _look_beside(path.parent, verdict, closed_year)
    return verdict


def verify_year(reader: ClosedYearReader, data_dir: Path, year: int) -> list[Verification]:
    """Verify every revision of the store, and its exports. Raises UsageError when there is none."""
    revisions = reader.revisions(year)
    if not revisions:
        raise UsageError(
            f"{year} was never closed{_statistics_note(reader, year)}: see 'veilleuse close --list'"
        )
    key = known_public_key(data_dir)
    found: list[Verification] = []
    previous: str | None = None
    for number, closed_year in enumerate(revisions, 1):
        verdict = _of_store(reader, closed_year, key)
        closed = verdict.closed
        if closed_year.revision != number:
            verdict.wrong.append(f"revision {number} is missing before it")
        if closed is not None and closed.report["previous_sha256"] != previous:
            verdict.wrong.append("it does not follow the revision before it")
        previous = closed_year.sha256
        _compare_export(data_dir / FOLDER, verdict, closed_year)
        found.append(verdict)
    _later_export(data_dir / FOLDER, found[-1], revisions)
    return found


def _statistics_note(reader: ClosedYearReader, year: int) -> str:
    kept_year = next((one for one in reader.kept_years() if one.year == year), None)
    if kept_year is None or kept_year.statistics_sha256 is None:
        return ""
    return (
        f", its statistics were kept on {kept_year.kept_on} and are not signed: 'veilleuse close "
        f"{year}' makes a report"
    )


def _of_store(reader: ClosedYearReader, closed_year: ClosedYear, key: str | None) -> Verification:
    try:
        file = reader.file(closed_year)
    except CollectorError as error:
        return Verification(closed_year.report_id, [str(error)])
    verdict = _verify(closed_year.report_id, file.content, file.signature, key)
    if verdict.closed is not None:
        try:
            revision_of(closed_year, file)
        except NotAClosedYear as error:
            verdict.wrong.append(str(error))
    return verdict


def _verify(name: str, content: bytes, signature: bytes, key: str | None) -> Verification:
    verdict = Verification(name)
    try:
        report, statistics = file_parts(content)
        closed = read_closed(report, statistics, sha256(content))
        if ClosedFile(report, statistics, b"").content != content:
            raise NotAClosedYear("it is not written as this program writes it")
        moment = datetime.fromtimestamp(
            closed.closed_year.closed_unix_milliseconds / MILLISECONDS_PER_SECOND, UTC
        )
        verdict.signed = check(content, signature, moment)
    except (NotAClosedYear, SignatureWrong, ValueError, OverflowError, OSError) as error:
        verdict.wrong.append(str(error))
        return verdict
    verdict.closed = closed
    if key is None:
        verdict.notes.append(
            f"signed by key {verdict.signed.public_key}: compare it with what 'veilleuse close --key' "
            "prints, or give it with --key"
        )
    elif key != verdict.signed.public_key:
        verdict.wrong.append(f"it is signed by another key, {verdict.signed.public_key}")
    _recompute(verdict, closed)
    return verdict


def _recompute(verdict: Verification, closed: ClosedRevision) -> None:
    made_by = closed.report["method_version"]
    if made_by != METHOD_VERSION:
        verdict.notes.append(
            f"its figures are of method {made_by}, this program computes {METHOD_VERSION}: the "
            "signature holds, figures were not computed again"
        )
        return
    try:
        again = json.loads(json.dumps(frozen_documents(closed.kept, closed.terms)))
        same = reproduces(again, closed.report["figures"])
        if RELEASED in closed.report:
            summed = json.loads(json.dumps(released_again(closed)))
            if not reproduces(summed, closed.report[RELEASED]["figures"]):
                verdict.wrong.append("its released figures are not the sums of its released months")
    except (CollectorError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        verdict.wrong.append(f"its figures cannot be computed from its statistics ({error})")
        return
    if not same:
        verdict.wrong.append("its figures are not those of its statistics")


def _look_beside(folder: Path, verdict: Verification, closed_year: ClosedYear) -> None:
    """Check the previous revision and later ones in the same folder."""
    assert verdict.closed is not None
    before = folder / f"{closed_year.year}-r{closed_year.revision - 1}.json"
    if (
        closed_year.revision > 1
        and before.is_file()
        and sha256(_read(before)) != verdict.closed.report["previous_sha256"]
    ):
        verdict.wrong.append(f"it does not follow {before.name}, which lies beside it")
    later = [
        number for number in _exported_revisions(folder, closed_year.year) if number > closed_year.revision
    ]
    if later:
        verdict.notes.append(f"it is superseded: revision {max(later)} lies beside it")


def _compare_export(folder: Path, verdict: Verification, closed_year: ClosedYear) -> None:
    path = folder / f"{closed_year.report_id}.json"
    try:
        content = read_owned(path, MOST_BYTES)
    except FileNotFoundError:
        return
    except OSError as error:
        verdict.wrong.append(f"{path} cannot be read: {error.strerror or error}")
        return
    if sha256(content) != closed_year.sha256:
        verdict.wrong.append(f"{path} is not what is stored: it was changed")


def _later_export(folder: Path, verdict: Verification, revisions: Sequence[ClosedYear]) -> None:
    last = revisions[-1]
    later = [number for number in _exported_revisions(folder, last.year) if number > last.revision]
    if later:
        verdict.wrong.append(
            f"{folder} has revision {max(later)}, the store has {last.revision} at most: it is of an "
            "older backup, or a revision was removed"
        )


def _exported_revisions(folder: Path, year: int) -> list[int]:
    found = []
    if folder.is_dir():
        for path in folder.iterdir():
            match = re.fullmatch(FILE_NAME, path.name)
            if match is not None and int(match["year"]) == year:
                found.append(int(match["revision"]))
    return sorted(found)


def _read(path: Path, maximum_bytes: int = MOST_BYTES) -> bytes:
    """Read a regular file: a pipe or a device has no .sig file. Raises UsageError."""
    try:
        return read_with_status(path, maximum_bytes, regular=True)[0]
    except OSError as error:
        remedy = "name what 'veilleuse close --export' wrote"
        raise UsageError(f"cannot read {path}: {error.strerror or error}; {remedy}") from error
