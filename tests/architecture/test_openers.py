# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse.wire.files` opens files, without links or up to a bound; ALLOWED names every other opener."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.architecture.tree import ROOT, files, is_generated

HELPER = "proto/veilleuse/wire/files.py"
METHODS = frozenset(
    [
        "read_text",
        "read_bytes",
        "write_text",
        "write_bytes",
        "touch",
        "chmod",
        "lchmod",
        "mkdir",
        "rename",
        "unlink",
        "rmdir",
        "symlink_to",
        "hardlink_to",
    ]
)
"""Methods of a path, whatever object they are called on."""
OF_MODULE = {
    "os": frozenset(
        [
            "open",
            "mkdir",
            "makedirs",
            "chmod",
            "chown",
            "replace",
            "rename",
            "unlink",
            "remove",
            "rmdir",
            "link",
            "symlink",
            "truncate",
            "mkfifo",
        ]
    ),
    "sqlite3": frozenset({"connect"}),
    "json": frozenset({"load"}),
    "tomllib": frozenset({"load"}),
    "zipfile": frozenset({"ZipFile"}),
    "gzip": frozenset({"open"}),
    "io": frozenset({"open", "FileIO"}),
}
WHOLE_MODULES = frozenset({"shutil", "tempfile"})
HARMLESS = frozenset({"disk_usage", "which"})
MODE = re.compile(r"[rwaxbt+]{1,4}")

PACKAGED = "packaged data"
KERNEL = "the kernel's file, or one of root's outside the service's directory; its first bytes alone are read"
NEW = "a name of the operator's: O_EXCL makes a new file and follows no link"
NAMED = "a name of the operator's, in a folder of the operator's"
ENTRY = "removes or renames a name in the directory itself, whose own parents are root's: neither call follows a link"
OWN_FOLDER = "makes the directory itself, which a setting names; what is in it goes through the helper"
NO_LINKS = "rmtree refuses a link, and walks by descriptors"
WINDOWS = "there are no descriptors of folders; the access list is the folder's"
AS_OWNER = "as the owner (as_owner_of), or as the service itself: it can do no more than whoever laid a link"
CHECKED = "SQLite opens by name: checked before and after by check_owned"

C, A = "collector/veilleuse/collector/", "agent/veilleuse/agent/"
ALLOWED: dict[str, dict[str, str]] = {
    f"{A}identity/reset.py": {"rename": ENTRY, "unlink": ENTRY},
    f"{A}identity/clone.py": {"rename": ENTRY, "shutil.rmtree": NO_LINKS},
    f"{A}sending/enrol.py": {"unlink": ENTRY},
    f"{A}identity/store.py": {"mkdir": OWN_FOLDER},
    f"{A}host/machine.py": {"open": KERNEL},
    f"{A}host/macos.py": {"open": KERNEL},
    f"{A}platforms/macos.py": {"os.open": "a folder, for F_FULLFSYNC"},
    f"{A}host/components.py": {"open": KERNEL},
    f"{A}platforms/posix.py": {"open": KERNEL, "os.open": KERNEL},
    f"{A}host/power_plan.py": {"open": KERNEL},
    f"{A}resident/process.py": {"mkdir": OWN_FOLDER},
    f"{A}spool/recovery.py": {"os.link": ENTRY, "rename": ENTRY, "unlink": ENTRY, "sqlite3.connect": CHECKED},
    f"{A}sources/files.py": {"os.open": KERNEL},
    f"{A}sources/linux_displays.py": {"open": KERNEL},
    f"{A}sources/linux_units.py": {"open": KERNEL, "os.open": KERNEL},
    f"{A}spool/database.py": {"sqlite3.connect": CHECKED, "unlink": ENTRY},
    f"{A}platforms/windows/system.py": {"os.open": WINDOWS, "os.replace": WINDOWS},
    f"{A}commands/selftest.py": {"os.open": NEW, "unlink": NAMED},
    f"{A}commands/windows_setup.py": {"shutil.rmtree": "an administrator's folder, which is no link"},
    f"{A}commands/prepare_image.py": {"shutil.rmtree": NO_LINKS, "unlink": AS_OWNER},
    f"{C}app/gateway/server.py": {"unlink": ENTRY},
    f"{C}backup/copies.py": {"shutil.rmtree": NO_LINKS},
    f"{C}backup/destination.py": {"os.open": NEW, "rename": NAMED, "unlink": NAMED},
    f"{C}backup/restore.py": {
        "shutil.rmtree": NO_LINKS,
        "os.chown": "by descriptors of folders; follows no link",
    },
    f"{C}backup/encryption.py": {"os.open": NEW},
    f"{C}cli/inventory.py": {"os.open": NEW},
    f"{C}app/child.py": {"read_text": KERNEL},
    f"{C}ingest/own_use.py": {"read_text": KERNEL, "read_bytes": KERNEL},
    f"{C}cli/output.py": {
        "write_bytes": "a device or a pipe that -o names",
        "tempfile.mkstemp": NAMED,
        "chmod": NAMED,
        "replace": NAMED,
        "unlink": NAMED,
        "os.open": "a folder, for fsync",
    },
    f"{C}cli/shared.py": {"os.open": NEW, "unlink": NAMED},
    f"{C}cli/simulate.py": {"os.open": NEW},
    f"{C}closed_years/verify.py": {"mkdir": NAMED},
    f"{C}enrolment/external_ca.py": {
        "tempfile.TemporaryDirectory": "of an unguessable name, 0700",
        "write_bytes": "in it",
        "load_cert_chain": "what was just written there",
    },
    f"{C}ipc.py": {"os.open": "O_PATH: opens nothing; O_NOFOLLOW for a socket", "unlink": ENTRY},
    f"{C}documents/document.py": {"read_text": PACKAGED},
    f"{C}documents/formats/html.py": {"read_text": PACKAGED},
    f"{C}documents/text.py": {"read_text": PACKAGED},
    f"{C}store/sqlite/connection.py": {
        "sqlite3.connect": "what open_owned has just made with O_EXCL",
        "mkdir": OWN_FOLDER,
    },
    f"{C}store/directory.py": {
        "mkdir": OWN_FOLDER,
        "chmod": OWN_FOLDER,
        "os.open": "the directory itself, to lock it",
    },
    f"{C}store/sqlite/migrations.py": {"read_text": PACKAGED, "sqlite3.connect": "in memory"},
    f"{C}shipped_tables.py": {"read_text": PACKAGED},
    f"{C}web/pages/privacy/page.py": {"read_text": PACKAGED},
    f"{C}web/app.py": {"read_bytes": PACKAGED},
    "proto/veilleuse/wire/process.py": {"os.open": "/dev/null"},
    "proto/veilleuse/wire/translations.py": {"read_text": PACKAGED},
}
"""File → call → why it is safe there."""


def calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield (call, line) of each call that opens or changes a file by its name."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id == "open":
            yield "open", node.lineno
        if not isinstance(called, ast.Attribute):
            continue
        owner = called.value.id if isinstance(called.value, ast.Name) else ""
        if called.attr in OF_MODULE.get(owner, ()) or (
            owner in WHOLE_MODULES and called.attr not in HARMLESS
        ):
            yield f"{owner}.{called.attr}", node.lineno
        elif owner not in OF_MODULE and (called.attr in METHODS or _by_name(called.attr, node)):
            yield called.attr, node.lineno


def _by_name(attribute: str, node: ast.Call) -> bool:
    """Return whether the arguments name a file; Path.replace takes one argument, str.replace two."""
    named = {word.arg for word in node.keywords}
    match attribute:
        case "open":
            first = node.args[0] if node.args else None
            return (
                "fileobj" not in named
                and isinstance(first, ast.Constant)
                and bool(MODE.fullmatch(str(first.value)))
            )
        case "replace":
            return len(node.args) == 1 and not node.keywords
        case "load_verify_locations":
            return "cadata" not in named
        case "create_default_context":
            return "cafile" in named or "capath" in named
        case "load_cert_chain":
            return True
    return False


@cache
def found() -> dict[str, dict[str, list[int]]]:
    """Return file → call → lines."""
    result: dict[str, dict[str, list[int]]] = {}
    for root in ("agent", "collector", "proto/veilleuse"):
        for file in files(".py", under=ROOT / root):
            name = str(file.relative_to(ROOT))
            if is_generated(file) or name == HELPER:
                continue
            for what, line in calls(ast.parse(file.read_text(encoding="utf-8"))):
                result.setdefault(name, {}).setdefault(what, []).append(line)
    return result


def test_files_are_opened_by_the_helper():
    """No file is opened by hand: root followed links in the service's directory and read endless devices."""
    bare = {
        f"{name}:{lines}: {what}"
        for name, whats in found().items()
        for what, lines in whats.items()
        if what not in ALLOWED.get(name, {})
    }
    assert not bare, "use veilleuse.wire.files, or say in ALLOWED why it is safe:\n" + "\n".join(sorted(bare))


def test_no_exception_outlives_its_reason():
    """Each entry of ALLOWED has its call: an entry without one would allow a new call."""
    there = found()
    stale = [
        (name, what) for name, whats in ALLOWED.items() for what in whats if what not in there.get(name, {})
    ]
    assert not stale


@pytest.mark.parametrize(
    "line",
    [
        "open(path)", "path.open('rb')", "os.open(path, 0)", "path.read_text()", "sqlite3.connect(path)", "shutil.copy(a, b)",
        "tempfile.mkstemp()", "a.replace(b)", "context.load_verify_locations(file)", "tomllib.load(file)", "path.touch()",
    ],
)  # fmt: skip
def test_the_rule_sees(line):
    """The rule finds each kind of opener."""
    assert list(calls(ast.parse(line)))


@pytest.mark.parametrize(
    "line", ["source.open()", "text.replace('a', 'b')", "context.load_verify_locations(cadata=text)"]
)
def test_the_rule_leaves_alone(line):
    """The rule ignores calls that only look like openers."""
    assert not list(calls(ast.parse(line)))
