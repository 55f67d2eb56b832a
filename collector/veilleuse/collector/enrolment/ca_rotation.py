# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Steps of a rotation: each returns the files to change in the authority's folder.

`Authority.change` writes them. The root is replaced in three steps, with months between them. See
docs/decisions/0012.

- `rotate`: agents get both roots.
- `switch`: the new intermediate issues. The cross certificate links it to the old root, for agents that only
  have that.
- `retire`: the old root is no longer trusted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from veilleuse.collector.enrolment.ca_files import (
    CaKeys,
    Folder,
    Issuer,
    Phase,
    fingerprint,
    parse_key,
    previous_content,
    previous_name,
)
from veilleuse.collector.enrolment.external_ca import ExternalCa
from veilleuse.collector.enrolment.x509 import (
    INTERMEDIATE_LIFE,
    INTERMEDIATE_NAME,
    ROOT_LIFE,
    ROOT_NAME,
    AuthorityKey,
    authority_certificate,
    cross_certificate,
    key_pem,
    new_key,
    pem,
)
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

Changes: TypeAlias = Mapping[str, bytes | None]
Step: TypeAlias = Callable[[Folder, CaKeys, datetime], Changes]

ANSWERS_UNDER_WAY: Final = timedelta(minutes=1)
"""Allowance for certificates issued during a step, which may be sent with the former roots.

The step counts later.
"""
_NO_CROSS: Final = "; when nobody has it, --no-cross makes the rotation wait for every machine instead"
_IMPORT: Final = "; under an organisation's root: 'veilleuse ca import' of its next intermediate"
_NEXT: Final = (
    "next-root.pem",
    "next-root.key",
    "next-intermediate.pem",
    "next-intermediate.key",
    "cross.pem",
)
_OLD: Final = ("old-root.pem", "old-root.key", "cross.pem")


def rotate(root_key_pem: bytes | None, *, cross: bool = True) -> Step:
    """Create the next root and intermediate; agents get both roots from now on.

    `root_key_pem` is the present root's key, when it is no longer in the folder. It is not needed without
    `cross`.
    """

    def step(folder: Folder, held: CaKeys, now: datetime) -> Changes:
        _require(held, Phase.STEADY)
        older_key = root_key(folder, held, root_key_pem, _NO_CROSS) if cross else None
        newer_key, key = new_key(), new_key()
        root = authority_certificate(ROOT_NAME, newer_key, None, now, ROOT_LIFE)
        intermediate = authority_certificate(
            INTERMEDIATE_NAME, key, (root, newer_key), now, INTERMEDIATE_LIFE
        )
        begun = _start_rotation(held, Issuer((intermediate,), root), key, older_key, now)
        return {**begun, "next-root.key": key_pem(newer_key)}

    return step


def renew_intermediate(root_key_pem: bytes | None) -> Step:
    """Create an intermediate under the present root, which issues at once; old leaves stay valid."""

    def step(folder: Folder, held: CaKeys, now: datetime) -> Changes:
        signer, key = root_key(folder, held, root_key_pem, _IMPORT), new_key()
        root = held.current.root
        made = authority_certificate(INTERMEDIATE_NAME, key, (root, signer), now, INTERMEDIATE_LIFE)
        return _issue_from(held, Issuer((made,), root), key_pem(key), now)

    return step


def import_intermediate(external: ExternalCa, root_key_pem: bytes | None, *, cross: bool = True) -> Step:
    """Import an external intermediate.

    Under the present root it issues at once; another root starts a rotation to it.
    """

    def step(folder: Folder, held: CaKeys, now: datetime) -> Changes:
        issuer = Issuer(external.chain, external.root)
        if external.root == held.current.root:
            if external.chain[0] == held.current.certificate:
                raise UsageError("this intermediate is the one that issues already: nothing to do")
            return _issue_from(held, issuer, key_pem(external.key), now)
        _require(held, Phase.STEADY)
        older_key = root_key(folder, held, root_key_pem, _NO_CROSS) if cross else None
        return _start_rotation(held, issuer, external.key, older_key, now)

    return step


def switch(folder: Folder, held: CaKeys, now: datetime) -> Changes:
    """Let the next intermediate issue certificates and sign the collector's own."""
    _require(held, Phase.OVERLAP)
    if held.coming is None or held.began_unix_milliseconds is None:
        raise UsageError("no rotation is under way: begin one with 'veilleuse ca rotate'")
    if not held.coming.not_before <= now < held.coming.not_after:
        raise UsageError(
            f"the next intermediate is valid from {held.coming.not_before:%Y-%m-%d} to "
            f"{held.coming.not_after:%Y-%m-%d}, and now "
            f"it is {now:%Y-%m-%d}: set the clock, or begin again with 'veilleuse ca cancel'"
        )
    moments = {
        "began_unix_milliseconds": held.began_unix_milliseconds,
        "switched_unix_milliseconds": _from_now(now),
    }
    return {
        **dict.fromkeys(name for name in _NEXT if name != "cross.pem"),
        **_issue_from(held, held.coming, folder.read("next-intermediate.key") or b"", now),
        "root.pem": pem(held.coming.root),
        "root.key": folder.read("next-root.key"),
        "old-root.pem": pem(held.current.root),
        "old-root.key": folder.read("root.key"),
        "rotation.json": json.dumps(moments).encode(),
    }


def retire(folder: Folder, held: CaKeys, now: datetime) -> Changes:
    """Stop trusting the old root, and remove its key if it is still in the folder."""
    _require(held, Phase.SWITCHED)
    return {**dict.fromkeys(_OLD), "rotation.json": None}


def cancel(folder: Folder, held: CaKeys, now: datetime) -> Changes:
    """Cancel what `rotate` or `import_intermediate` started; only before the switch."""
    _require(held, Phase.OVERLAP)
    return {**dict.fromkeys(_NEXT), "rotation.json": None}


def forget(sha256: str) -> Step:
    """Stop recognising the leaves of an earlier intermediate whose key was stolen."""

    def step(folder: Folder, held: CaKeys, now: datetime) -> Changes:
        wanted = sha256.lower().replace(":", "")
        found = [
            kept.chain[0]
            for kept in held.previous
            if len(wanted) >= 8 and fingerprint(kept.chain[0]).startswith(wanted)
        ]
        if len(found) != 1:
            raise UsageError(
                f"{len(found)} earlier intermediates have a fingerprint that begins with '{sha256}': "
                "see 'veilleuse ca show', give 8 digits or more"
            )
        return {previous_name(found[0]): None}

    return step


def root_key(folder: Folder, held: CaKeys, given_pem: bytes | None, hint: str) -> AuthorityKey:
    """Return the present root's key: the given one, else that of the folder. Raises UsageError."""
    key_pem = given_pem if given_pem is not None else folder.read("root.key")
    if key_pem is None:
        raise UsageError(
            f"the root's key is needed and is not in {folder.path}: give it with --root-key FILE{hint}"
        )
    try:
        key = parse_key(key_pem)
    except TypeError as error:
        raise UsageError("the root's key is encrypted: give its file to a terminal that can ask") from error
    except ValueError as error:
        raise UsageError(
            f"the root's key cannot be read ({error}): give another with --root-key FILE"
        ) from error
    if key.public_key() != held.current.root.public_key():
        raise UsageError(
            f"this is not the key of the present root (SHA-256 {fingerprint(held.current.root)}): give that "
            "one's"
        )
    return key


def _start_rotation(
    held: CaKeys, issuer: Issuer, key: AuthorityKey, older_key: AuthorityKey | None, now: datetime
) -> dict[str, bytes | None]:
    older = held.current.root
    cross = (
        None
        if older_key is None
        else cross_certificate(issuer.root, len(issuer.chain), older, older_key, now)
    )
    return {
        **dict.fromkeys(_NEXT),
        "next-root.pem": pem(issuer.root),
        "next-intermediate.pem": b"".join(map(pem, issuer.chain)),
        "next-intermediate.key": key_pem(key),
        "cross.pem": None if cross is None else pem(cross),
        "rotation.json": json.dumps({"began_unix_milliseconds": _from_now(now)}).encode(),
    }


def _issue_from(held: CaKeys, issuer: Issuer, key: bytes, now: datetime) -> dict[str, bytes | None]:
    return {
        previous_name(held.current.certificate): previous_content(held.current, now),
        "intermediate.pem": b"".join(map(pem, issuer.chain)),
        "intermediate.key": key,
    }


def _require(held: CaKeys, wanted: Phase) -> None:
    if held.phase is wanted:
        return
    hint = {
        Phase.STEADY: "no rotation is under way: begin one with 'veilleuse ca rotate'",
        Phase.OVERLAP: "a rotation is under way: go on with 'veilleuse ca switch', or give it up with "
        "'veilleuse ca cancel'",
        Phase.SWITCHED: "a rotation is under way: end it with 'veilleuse ca retire'",
    }
    raise AdminError(hint[held.phase])


def _from_now(now: datetime) -> int:
    return round((now + ANSWERS_UNDER_WAY).timestamp() * MILLISECONDS_PER_SECOND)
