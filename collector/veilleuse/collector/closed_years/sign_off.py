# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the sign-off of a closing, and writes the file to fill in (pure). docs/closing.md.

A sign-off says who prepared, reviewed and approved a year, and on which boundary, exclusions, base year and
GWP edition it stands. People type it: nothing here proves who they are.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeAlias

from veilleuse.collector.calendars.files import parse_day, require_known
from veilleuse.collector.documents.document import LANGUAGES
from veilleuse.collector.documents.text import words
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.query import AUTRES, ENTERED_YEARS
from veilleuse.wire.settings_file import parse_toml

SignOff: TypeAlias = Mapping[str, Any]
"""Table → key → value, and EXCLUSION → list of such tables. Blank texts and zeros are absent; no floats."""
PEOPLE: Final = ("preparer", "reviewer", "approver")
"""In the order in which they sign."""
EXCLUSION: Final = "exclusion"
NETWORK: Final = frozenset({"switch", "wifi_access_point"})
"""Device classes of network equipment."""
MAXIMUM_BYTES: Final = 256 * 1024
_LONGEST: Final = 500
_LARGEST: Final = 10**12


class _Key(NamedTuple):
    """One key of the file."""

    read: Callable[[Any, str], Any]
    """Returns the value as it is frozen. Raises UsageError, which begins with the second argument."""
    comment: str
    """French / English: comment of the template; the English part says what to write where it is missing."""
    blank: str = '""'
    """Value in the template, TOML."""
    optional: bool = False


def _text(value: Any, where: str) -> str:
    """Return the text on one line; a French spreadsheet writes spaces that do not break."""
    text = " ".join(value.split()) if isinstance(value, str) else "\0"
    if not text.isprintable() or len(text) > _LONGEST:
        raise UsageError(f"{where}: write a text of at most {_LONGEST} characters, in quotes")
    return text


def _choose(*known: str) -> Callable[[Any, str], str]:
    def read(value: Any, where: str) -> str:
        if value in ("", *known):
            return str(value)
        raise UsageError(f"{where} = {value!r}: write one of {', '.join(known)}")

    return read


def _read_whole(value: Any, where: str) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise UsageError(f"{where} = {value!r}: write a whole number, such as 12500")
    return value


def _read_year(value: Any, where: str) -> int:
    year = _read_whole(value, where)
    if year and not ENTERED_YEARS.holds(year):
        raise UsageError(f"{where} = {year}: write {ENTERED_YEARS.first} to {ENTERED_YEARS.last}")
    return year


def _read_percent(value: Any, where: str) -> str:
    if type(value) not in (int, float) or not 0 <= value <= 100:
        raise UsageError(f"{where} = {value!r}: write per cent, 0 to 100, such as 5 or 2.5")
    return f"{Decimal(str(value)):f}"


def _read_day(value: Any, where: str) -> str:
    return "" if value == "" else parse_day(value, where).isoformat()


def _read_flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{where} = {value!r}: write true or false")
    return value


_PERSON: Final = {
    "function": _Key(_text, "Fonction. / function of this person"),
    "name": _Key(_text, "Nom. / name of this person"),
    "date": _Key(_read_day, "Jour de la signature, AAAA-MM-JJ. / day of the signature, YYYY-MM-DD"),
    "publish_name": _Key(
        _read_flag,
        "true : nom montré aussi par --public, avec son accord. / true: --public shows the name too",
        "false",
        optional=True,
    ),
}
TABLES: Final[Mapping[str, Mapping[str, _Key]]] = {
    "organisation": {
        "name": _Key(_text, "Organisation qui déclare. / reporting organisation"),
        "control": _Key(
            _choose("operational", "financial", "equity_share"),
            "operational (contrôle opérationnel), financial (contrôle financier), equity_share (part du capital). / operational, financial or equity_share",
        ),
        "boundary": _Key(
            _text, "Périmètre : ce qui est dedans, ce qui est dehors. / what is inside, what is outside"
        ),
        "exclusion_threshold_percent": _Key(
            _read_percent,
            "Part du total que les exclusions ne dépassent pas, en %. / most that exclusions may be, in % of the total with them",
            "5",
        ),
    },
    "base_year": {
        "year": _Key(_read_year, "L’année. / year with which later ones are compared, such as 2024", "0"),
        "why": _Key(_text, "Pourquoi celle-ci. / why this one"),
        "recalculation_threshold_percent": _Key(
            _read_percent,
            "Recalculée si méthode et périmètre changent un total de plus que cela, en %. / recalculated above such a change of a total, in %",
            "5",
        ),
        "kgco2e": _Key(
            _read_whole,
            "Son chiffre en kgCO2e, seulement si Veilleuse ne l’a pas close. / its kgCO2e, only where Veilleuse has not closed it",
            "0",
            optional=True,
        ),
    },
    "gwp": {
        "edition": _Key(
            _choose("IPCC AR4", "IPCC AR5", "IPCC AR6"),
            "PRG à 100 ans des facteurs : IPCC AR4, IPCC AR5 ou IPCC AR6. / GWP of the factors: IPCC AR4, IPCC AR5 or IPCC AR6",
        ),
        "source": _Key(
            _text,
            "Document de l’éditeur des facteurs qui le dit. / document of the factors’ publisher that says so",
        ),
    },
    "preparer": _PERSON,
    "reviewer": _PERSON,
    "approver": _PERSON,
    EXCLUSION: {
        "what": _Key(_text, "Dans le périmètre, absent du chiffre. / inside the boundary, not in the figure"),
        "why": _Key(_text, "Pourquoi. / why it is excluded"),
        "kwh": _Key(_read_whole, "Taille estimée, kWh par an. / estimated kWh of the year", "0"),
        "estimated_by": _Key(_text, "Méthode de l’estimation. / how that was estimated"),
    },
}


def read_sign_off(text: str, name: str) -> dict[str, Any]:
    """Read a file, complete or not. Raises UsageError with the first fault of each table."""
    try:
        document = parse_toml(text)
    except ValueError as error:
        raise UsageError(
            f"{name}: no TOML: {error}: texts stand in quotes, days are like 2027-05-31"
        ) from error
    several = document.pop(EXCLUSION, [])
    tables = [(table, f"[{table}]", given) for table, given in document.items()]
    several = several if isinstance(several, list) else [several]
    tables += [(EXCLUSION, _numbered(i), one) for i, one in enumerate(several, 1)]
    found: dict[str, Any] = {EXCLUSION: []}
    faults = []
    for table, where, given in tables:
        try:
            values = _read_table(table, given, where)
        except UsageError as error:
            faults.append(str(error))
        else:
            found |= {table: [*found[EXCLUSION], values] if table == EXCLUSION else values}
    if faults:
        raise UsageError(f"{name}: {'; '.join(faults)}")
    return {table: one for table, one in found.items() if one}


def _read_table(table: str, given: Any, where: str) -> dict[str, Any]:
    require_known((table,), tuple(TABLES), "")
    keys = TABLES[table]
    if not isinstance(given, dict):
        raise UsageError(f"'{table}' must be a table: write {where}")
    require_known(given, tuple(keys), where)
    values = {key: keys[key].read(value, f"{where} {key}") for key, value in given.items()}
    return {key: value for key, value in values.items() if value not in ("", 0)}


def _numbered(number: int) -> str:
    return f"[[{EXCLUSION}]] number {number}"


def missing_keys(signed: SignOff) -> Iterator[str]:
    """Yield the keys that a sign-off lacks, and what to write."""
    given = {f"[{table}]": (table, signed.get(table, {})) for table in TABLES if table != EXCLUSION}
    given |= {_numbered(i): (EXCLUSION, one) for i, one in enumerate(signed.get(EXCLUSION, ()), 1)}
    for where, (table, values) in given.items():
        for key, one in TABLES[table].items():
            if key not in values and not one.optional:
                yield f"{where} {key} is missing: {one.comment.partition(' / ')[2]}"


def classes_without_energy(figures: Mapping[str, Any]) -> str:
    """Name the device classes whose machines have no energy in frozen figures, and their number."""
    found: Counter[str] = Counter()
    for row in figures["rows"]:
        if "energy_millijoules" not in row:
            found[row.get("device_class", AUTRES)] += row.get("n_fleet", row["n"])
    return ", ".join(f"{name} ({number})" for name, number in sorted(found.items()))


def write_template(year: int, before: SignOff, figures: Mapping[str, Any]) -> str:
    """Write the file to fill in: `before` is an earlier sign-off, whose dates are left out."""
    lines = [
        f"# Signature de {year}. À remplir, puis : veilleuse close {year} --definitive --sign-off FICHIER",
        f"# Sign-off of {year}: fill it in, then run that command.",
        '# Ce qui reste à "" ou 0 manque ; kgco2e et publish_name sont facultatifs. / "" and 0 are missing.',
    ]
    lines += [f"# {year} : {_total(row)}" for row in figures["totals"]]
    told: set[str] = set()
    for table in TABLES:
        if table != EXCLUSION:
            titles = dict.fromkeys(words(language).word("declaration", table) for language in LANGUAGES)
            lines += ["", f"# {' / '.join(titles)}", f"[{table}]", *_keys(table, before.get(table, {}), told)]
    return "\n".join((*lines, *_exclusions(before.get(EXCLUSION, ()), figures))) + "\n"


def _total(row: Mapping[str, Any]) -> str:
    return f"{float(row.get('kwh_total', 0)):.0f} kWh, {float(row.get('kgco2e_total', 0)):.0f} kgCO2e"


def _keys(table: str, before: Mapping[str, Any], told: set[str]) -> Iterator[str]:
    for key, one in TABLES[table].items():
        if one.comment not in told:
            yield f"# {one.comment}"
            told.add(one.comment)
        value = None if key == "date" else before.get(key)
        if isinstance(value, str) and one.read is not _read_percent:
            yield f"{key} = {json.dumps(value, ensure_ascii=False)}"
        else:
            yield f"{key} = {one.blank if value is None else str(value).lower()}"


def _exclusions(before: Sequence[Mapping[str, Any]], figures: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the program knows to be in no figure, and the exclusions of before, or a first one."""
    without = classes_without_energy(figures)
    yield from ("", f"# Sans énergie dans le chiffre / no energy in the figure: {without or '–'}")
    if figures["memo"]:
        memo = sum(float(row.get("kwh_total", 0)) for row in figures["memo"])
        yield f"# Machines virtuelles, dans leurs hôtes / virtual machines, in their hosts: {memo:.0f} kWh"
    if NETWORK.isdisjoint(row.get("device_class") for row in figures["rows"]):
        yield "# Réseau : aucun équipement dans l’inventaire / network: no equipment in the inventory"
    told: set[str] = set()
    for one in before or [{"what": without}] * bool(without):
        yield from ("", f"[[{EXCLUSION}]]", *_keys(EXCLUSION, one, told))
    if not told:
        yield "# Une table pour chaque exclusion, ôter les # : / a table for each exclusion, without the #:"
        yield from (f"# {line}" for line in (f"[[{EXCLUSION}]]", *_keys(EXCLUSION, {}, told)))
