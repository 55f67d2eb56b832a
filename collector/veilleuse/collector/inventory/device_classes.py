# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Maps the words of inventories to our device classes.

An unknown word is listed, never guessed; a mapping file adds words.

GLPI's agent writes the chassis names of SMBIOS and dmidecode as types. They map as the agent maps the chassis
numbers (veilleuse.agent.host.machine.class_of), so that both agree on a machine. The French words are those
in common use in GLPI.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from veilleuse.collector.inventory.cells import folded
from veilleuse.collector.model.figures import EnergyClass
from veilleuse.collector.model.inventory import InventoryClass
from veilleuse.wire.vocabulary import DeviceClass

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
