# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Maps words of inventories to our device classes and statuses; an organisation's mapping file adds words.

An unknown word is listed, never guessed. GLPI's agent writes the chassis names of SMBIOS and dmidecode as
types. They map as the agent maps the chassis numbers (veilleuse.agent.host.machine.class_of), so that both
agree on a machine. The French words are those in common use in GLPI.

The mapping file is TOML, with types, statuses, places, entities and columns. All keys are optional.

date_format = "day_first"             # or month_first
[defaults]
entity = "Métropole"                  # for rows that name none
[tags]
"COL-012" = "Métropole > Collèges"    # TAG of FusionInventory → entity
[columns]
"Mise en prod" = "in_service_on"      # heading → field
[statuses]
in_service = ["Prêté"]
out_of_service = ["Chez Emmaüs"]
[[class]]                             # the first rule that matches; patterns with * and ?
item = "computer"
type = "UC*"
model = "OptiPlex * Micro*"
class = "mini_pc"
[[site]]
location = "Collège Jean Moulin*"
site = "jean-moulin"
[[entity]]                            # all rules that match, the last one wins
entity = "Métropole > Collèges*"
power_context = "eple"
population = "classroom"
site = "lyon"
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Any, Final

from veilleuse.collector.errors import UsageError
from veilleuse.collector.inventory.cells import CellError, entity_of, folded
from veilleuse.collector.inventory.rows import FIELDS
from veilleuse.collector.model.inventory import InventoryClass, PowerContext
from veilleuse.collector.model.sums import EnergyClass
from veilleuse.wire.settings_file import parse_toml
from veilleuse.wire.vocabulary import DeviceClass, Population

ITEMS: Final = (
    "computer", "monitor", "network_equipment", "printer", "phone", "peripheral", "storage", "other",
)  # fmt: skip
"""Kinds of list: GLPI's item types, and our own `storage` and `other`."""

DEVICE_CLASSES: Final = frozenset(
    {
        *(one.value for one in DeviceClass),
        *(one.value for one in EnergyClass),
        *(one.value for one in InventoryClass),
    }
)
"""Classes of assets."""
AGENT_CLASSES: Final = frozenset(one.value for one in DeviceClass)
"""Classes of machines on which an agent may run."""

_COMPUTERS: Final = {
    DeviceClass.LAPTOP: (
        "laptop", "notebook", "sub notebook", "portable", "convertible", "detachable", "hand held", "ultrabook",
        "ordinateur portable", "pc portable", "micro portable", "portables", "docking station",
    ),
    DeviceClass.SFF: (
        "desktop", "low profile desktop", "lunch box", "space saving", "sealed case pc", "sff", "small form factor",
        "pc de bureau", "ordinateur de bureau", "bureau", "fixe", "pc fixe", "unite centrale",
    ),
    DeviceClass.TOWER: ("tower", "mini tower", "tour", "mini tour", "minitour", "workstation tower"),
    DeviceClass.MINI_PC: (
        "mini pc", "stick pc", "embedded pc", "iot gateway", "usff", "micro pc", "tiny", "nuc",
    ),
    DeviceClass.ALL_IN_ONE: ("all in one", "tout en un", "aio", "monobloc"),
    DeviceClass.THIN_CLIENT: ("thin client", "client leger", "terminal leger"),
    DeviceClass.SERVER: (
        "server", "serveur", "main server chassis", "main system chassis", "rack mount chassis", "multi system chassis",
        "multi system", "blade", "blade enclosure", "serveur physique", "serveur rack", "lame",
    ),
    DeviceClass.VIRTUAL_MACHINE: (
        "virtual machine", "machine virtuelle", "vm", "vmware", "kvm", "qemu", "hyper v", "virtualbox", "virtual",
        "serveur virtuel", "virtuel", "xen", "lxc", "openvz", "docker", "virtual server",
    ),
    InventoryClass.TABLET: ("tablet", "tablette"),
}  # fmt: skip
_NETWORK: Final = {
    InventoryClass.SWITCH: ("switch", "commutateur", "networking switch", "switch poe"),
    InventoryClass.WIFI_ACCESS_POINT: (
        "wifi", "wi fi", "access point", "wifi access point", "borne wifi", "borne wi fi", "point d acces",
        "point d acces wifi", "ap", "borne",
    ),
    InventoryClass.STORAGE: ("storage", "stockage", "nas", "san", "baie de stockage", "baie"),
    InventoryClass.OTHER: (
        "router", "routeur", "firewall", "pare feu", "modem", "hub", "controller", "controleur", "onduleur", "ups",
        "gateway", "passerelle", "load balancer",
    ),
}  # fmt: skip
_PRINTERS: Final = {
    InventoryClass.PRINTER: (
        "", "printer", "imprimante", "laser", "jet d encre", "inkjet", "mfp", "multifonction", "multifunction",
        "copieur", "photocopieur", "traceur", "plotter", "imprimante laser", "imprimante multifonction", "thermique",
    ),
}  # fmt: skip
_PHONES: Final = {
    InventoryClass.IP_PHONE: ("ip", "ip phone", "telephone ip", "voip", "telephone fixe", "sip", "fixe"),
    InventoryClass.SMARTPHONE: (
        "smartphone",
        "mobile",
        "telephone mobile",
        "telephone portable",
        "gsm",
        "portable",
    ),
    InventoryClass.TABLET: ("tablet", "tablette"),
}
_PERIPHERALS: Final = {
    InventoryClass.PROJECTOR: (
        "projector", "projecteur", "videoprojecteur", "video projecteur", "vp", "vpi", "tbi", "beamer",
    ),
    InventoryClass.TABLET: ("tablet", "tablette"),
    InventoryClass.STORAGE: ("storage", "stockage", "nas"),
}  # fmt: skip
_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    item: {word: one.value for one, words in table.items() for word in words}
    for item, table in (
        ("computer", _COMPUTERS),
        ("network_equipment", _NETWORK),
        ("printer", _PRINTERS),
        ("phone", _PHONES),
        ("peripheral", _PERIPHERALS),
        ("storage", {InventoryClass.STORAGE: ("", "nas", "san", "storage", "stockage", "baie de stockage")}),
    )
}
_UNKNOWN: Final = {"computer": DeviceClass.UNKNOWN.value}
"""Class of an item of unknown type: a computer of unknown form, else `other`."""
_ALWAYS: Final = {"monitor": EnergyClass.MONITOR.value}


def class_of(item: str, kind: str) -> tuple[str, bool]:
    """Return (device class, whether the word was known) for a type in a list of such items."""
    word = folded(kind)
    if item in _ALWAYS:
        return _ALWAYS[item], True
    found = _WORDS.get(item, {}).get(word)
    if found is None and kind in DEVICE_CLASSES:  # our own word
        found = kind
    return (found, True) if found else (_UNKNOWN.get(item, InventoryClass.OTHER.value), False)


IN_SERVICE: Final = frozenset(
    {
        "", "en service", "production", "en production", "in service", "in use", "in production", "active", "actif",
        "utilise", "en usage", "deployed", "deploye", "affecte", "operationnel", "ok", "en fonction",
    }
)  # fmt: skip
"""Statuses, folded; a mapping file adds statuses to this set and to the next."""
OUT_OF_SERVICE: Final = frozenset(
    {
        "reforme", "hors service", "rebut", "mis au rebut", "au rebut", "sorti", "sorti du parc", "sortie", "cede", "donne",
        "vendu", "vole", "perdu", "detruit", "recycle", "a reformer", "en stock", "stock", "spare", "reserve", "retired",
        "decommissioned", "disposed", "scrapped", "stolen", "lost", "sold", "donated", "in stock", "out of service",
        "archive", "obsolete", "non deploye", "en attente de reforme",
    }
)  # fmt: skip


MAXIMUM_BYTES: Final = 512 * 1024
MAXIMUM_RULES: Final = 2_000
COLUMN_FIELDS: Final = (FIELDS - {"device_class", "is_out"}) | {
    "key", "type", "status", "location", "device_class", "vm",
}  # fmt: skip
"""Fields that a column may be mapped to."""


@dataclass(frozen=True, slots=True)
class _Rule:
    patterns: tuple[tuple[str, re.Pattern[str]], ...]
    """(field of the row, pattern for its folded text)."""
    gives: str

    def fits(self, said: Mapping[str, str]) -> bool:
        return all(pattern.match(said[what]) for what, pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class EntityRule:
    """Site, power context and population of one part of the tree."""

    pattern: re.Pattern[str]
    site: str | None
    power_context: PowerContext | None
    population: Population | None


@dataclass(slots=True)
class InventoryMapping:
    """How to read an organisation's inventory. Empty: the built-in tables only."""

    day_first: bool = True
    default_entity: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    """FusionInventory's tag → entity."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Folded heading → field."""
    in_service: frozenset[str] = IN_SERVICE
    out_of_service: frozenset[str] = OUT_OF_SERVICE
    entities: tuple[EntityRule, ...] = ()
    sites: frozenset[str] = frozenset()
    """Sites that the collector knows, for a location that has a site's name."""
    class_rules: tuple[_Rule, ...] = ()
    site_rules: tuple[_Rule, ...] = ()
    _classes: dict[tuple[str, str, str], tuple[str, bool]] = field(default_factory=dict)
    _sites: dict[str, str | None] = field(default_factory=dict)
    _folded: dict[str, str] = field(default_factory=dict)

    def device_class(self, item: str, kind: str, model: str) -> tuple[str, bool]:
        """Return (device class, whether a rule or a table knew it)."""
        key = (item, kind, model)
        if key not in self._classes:
            said = {"item": folded(item), "type": folded(kind), "model": folded(model)}
            rule = next((rule for rule in self.class_rules if rule.fits(said)), None)
            self._classes[key] = (rule.gives, True) if rule else class_of(item, kind)
        return self._classes[key]

    def site(self, location: str) -> str | None:
        """Return the site of a location: by a rule, else the site named as it or its parent.

        None: not known.
        """
        if location not in self._sites:
            said = {"location": folded(location)}
            rule = next((rule for rule in self.site_rules if rule.fits(said)), None)
            self._sites[location] = rule.gives if rule else self._named(location)
        return self._sites[location]

    def _named(self, location: str) -> str | None:
        known = self._folded = self._folded or {folded(site): site for site in self.sites}
        parts = [part.strip() for part in location.split(">")]
        above = [" > ".join(parts[:length]) for length in range(len(parts), 0, -1)]
        names = (folded(text) for text in (*above, *reversed(parts)))
        return next((known[name] for name in names if name in known), None)

    def is_out(self, status: str) -> bool | None:
        """Tell whether a status means out of service; None: not known."""
        word = folded(status)
        if word in self.out_of_service:
            return True
        return False if word in self.in_service else None


def read_mapping(text: str, name: str, sites: Iterable[str] = ()) -> InventoryMapping:
    """Read a mapping file. Raises UsageError for an unknown word, with the nearest known one."""
    try:
        document = parse_toml(text)
    except ValueError as error:
        raise UsageError(f"{name} is no TOML: {error}") from error
    allowed = {"date_format", "defaults", "tags", "columns", "statuses", "class", "site", "entity"}
    require_known(document, allowed, name)
    if (order := document.get("date_format", "day_first")) not in ("day_first", "month_first"):
        raise UsageError(f"{name}: date_format is day_first or month_first, not {order!r}")
    require_known(_table(document, "defaults", name), {"entity"}, f"{name}, [defaults]")
    statuses = _table(document, "statuses", name)
    require_known(statuses, {"in_service", "out_of_service"}, f"{name}, [statuses]")
    into, out = (_words(statuses, key, name) for key in ("in_service", "out_of_service"))
    return InventoryMapping(
        day_first=order == "day_first",
        default_entity=entity_in(_table(document, "defaults", name), "entity", f"{name}, [defaults]"),
        tags=_tags(document, name),
        columns=_columns(document, name),
        in_service=(IN_SERVICE | into) - out,
        out_of_service=(OUT_OF_SERVICE | out) - into,
        entities=tuple(_entity_rules(document, name)),
        sites=frozenset(sites),
        class_rules=tuple(_class_rules(document, name)),
        site_rules=tuple(_rules(document, "site", ("location",), "site", name)),
    )


def _tags(document: Mapping[str, Any], name: str) -> dict[str, str]:
    tags = _table(document, "tags", name)
    return {tag: entity_in(tags, tag, f"{name}, [tags]") for tag in tags}


def entity_in(table: Mapping[str, Any], key: str, where: str) -> str:
    """Return the entity under a key, as stored. Raises UsageError."""
    try:
        return entity_of(text_in(table, key, where))
    except CellError as error:
        raise UsageError(f"{where}, '{key[:64]}': {error.what}: {error.remedy}") from error


def _columns(document: Mapping[str, Any], name: str) -> dict[str, str]:
    columns = _table(document, "columns", name)
    for heading in columns:
        require_known(
            {text_in(columns, heading, f"{name}, [columns]"): ""}, COLUMN_FIELDS, f"{name}, [columns]"
        )
    return {folded(heading): columns[heading] for heading in columns}


def _class_rules(document: Mapping[str, Any], name: str) -> Iterable[_Rule]:
    for rule in _rules(document, "class", ("item", "type", "model"), "class", name):
        require_known({rule.gives: ""}, DEVICE_CLASSES, f"{name}, [[class]]")
        yield rule
    for table in tables_in(document, "class", name):
        if "item" in table and not any(re.match(_pattern(table["item"]), folded(item)) for item in ITEMS):
            raise UsageError(f"{name}, [[class]]: no item '{table['item']}': use {', '.join(ITEMS)}")


def _rules(
    document: Mapping[str, Any], key: str, conditions: tuple[str, ...], gives: str, name: str
) -> Iterable[_Rule]:
    for number, table in enumerate(tables_in(document, key, name), 1):
        where = f"{name}, [[{key}]] {number}"
        require_known(table, {*conditions, gives}, where)
        given = text_in(table, gives, where)
        patterns = tuple(
            (what, _pattern(text_in(table, what, where))) for what in conditions if what in table
        )
        if not given or not patterns:
            raise UsageError(f"{where}: it needs '{gives}' and at least one of {', '.join(conditions)}")
        yield _Rule(patterns, given)


def _entity_rules(document: Mapping[str, Any], name: str) -> Iterable[EntityRule]:
    for number, table in enumerate(tables_in(document, "entity", name), 1):
        where = f"{name}, [[entity]] {number}"
        require_known(table, {"entity", "site", "power_context", "population"}, where)
        if len(table) < 2 or "entity" not in table:
            raise UsageError(
                f"{where}: it needs 'entity' and what to say of it: site, power_context or population"
            )
        for key, words in (("power_context", PowerContext), ("population", Population)):
            if key in table:
                require_known({text_in(table, key, where): ""}, {word.value for word in words}, where)
        yield EntityRule(
            _pattern(text_in(table, "entity", where)),
            text_in(table, "site", where) if "site" in table else None,
            PowerContext(table["power_context"]) if "power_context" in table else None,
            Population(table["population"]) if "population" in table else None,
        )


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(translate(folded(text)))


def tables_in(document: Mapping[str, Any], key: str, name: str) -> list[dict[str, Any]]:
    """Return the tables [[key]] of a document. Raises UsageError."""
    found = document.get(key, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UsageError(f"{name}: '{key}' must be tables: write [[{key}]]")
    if len(found) > MAXIMUM_RULES:
        raise UsageError(f"{name}: more than {MAXIMUM_RULES} [[{key}]]: use patterns with *")
    return found


def _table(document: Mapping[str, Any], key: str, name: str) -> dict[str, Any]:
    found = document.get(key, {})
    if not isinstance(found, dict):
        raise UsageError(f"{name}: '{key}' must be a table: write [{key}]")
    return found


def _words(table: Mapping[str, Any], key: str, name: str) -> frozenset[str]:
    found = table.get(key, [])
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise UsageError(f'{name}, [statuses] {key} must be a list of texts: ["…", "…"]')
    return frozenset(map(folded, found))


def text_in(table: Mapping[str, Any], key: str, where: str) -> str:
    """Return the text under a key; blank without one. Raises UsageError."""
    found = table.get(key, "")
    if not isinstance(found, str) or len(found) > 512:
        raise UsageError(f"{where}: '{key}' must be a text of at most 512 characters")
    return found


def require_known(table: Mapping[str, Any], allowed: Iterable[str], where: str) -> None:
    """Raise UsageError for a key that is not allowed, with the nearest allowed one."""
    known = sorted(allowed)
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"use {', '.join(known)}"
            raise UsageError(f"{where}: unknown '{key[:64]}': {hint}")
