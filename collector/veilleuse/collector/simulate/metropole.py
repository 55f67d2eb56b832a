# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The preset of a large public body: 110 colleges, 30 directions, three server rooms (pure).

Names, sizes and habits are invented. Some colleges leave their PCs on at night. A pilot runs from the first
day, the roll-out begins 14 months before the end. Agents of classroom PCs, which send hours, come last.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Final

from veilleuse.collector.calendars.periods import months_before
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.simulate.places import (
    BOARD,
    COLLEGE_MODELS,
    DESK,
    DIRECTION_MODELS,
    NOTEBOOK,
    RACK_BARE,
    RACK_BMC,
    RACK_PDU,
    RACK_WIDE,
    TOWER,
    VIRTUAL,
    DeclaredLines,
    EntitySite,
    Oddities,
    Preset,
    Stock,
)
from veilleuse.wire.sums import apportion
from veilleuse.wire.vocabulary import Population

ROOT: Final = "Métropole de Lyon"
ROLL_OUT_MONTHS: Final = 14
ROLL_OUT_WAVES: Final = 6
CLASSROOM_MONTHS: Final = 2
"""Time of the classroom PCs' agents."""
COLLEGES: Final = (
    "Jean-Moulin", "Lucie-Aubrac", "Simone-Veil", "Victor-Hugo", "Marie-Curie", "Louis-Pasteur", "Jules-Ferry",
    "Molière", "Jean-Jaurès", "Joliot-Curie", "Antoine-de-Saint-Exupéry", "Ampère", "Vendôme", "Gilbert-Dru",
    "Clément-Marot", "Georges-Clemenceau", "Henri-Longchambon", "Jean-Mermoz", "Gabriel-Rosset", "Edgar-Quinet",
    "Professeur-Dargent", "Raoul-Dufy", "Charles-Sénard", "Lacassagne", "Les Battières", "Jean-Charcot",
    "La Favorite", "Les Iris", "Môrice-Leroux", "Lamartine", "Jean-Macé", "Du Tonkin", "Gratte-Ciel",
    "Jean-Vilar", "Alain", "Elsa-Triolet", "Paul-Éluard", "Aimé-Césaire", "Honoré-de-Balzac", "Jacques-Duclos",
    "Henri-Barbusse", "Pierre-Valdo", "Jean-Renoir", "Pierre-Brossolette", "Théodore-Monod", "Olivier-de-Serres",
    "Marcel-Pagnol", "Colette", "Boris-Vian", "Frédéric-Mistral", "Françoise-Dolto", "Martin-Luther-King",
    "Val d'Argent", "Maurice-Utrillo", "Christiane-Bernardin", "Plan du Loup", "Jacques-Cartier",
    "Jean-Philippe-Rameau", "Alexis-Kandelaft", "Jean-Giono", "Marcel-Achard", "Clos des Roses", "Daisy-Georges-Martin",
    "Hector-Berlioz", "Charles-de-Gaulle", "Jean-Perrin", "Pablo-Picasso", "Georges-Brassens", "Les Servizières",
    "Évariste-Galois", "Émile-Zola", "Rosa-Parks", "Louise-Michel", "Olympe-de-Gouges", "Germaine-Tillion",
    "Joséphine-Baker", "Berthie-Albrecht", "Gisèle-Halimi", "Sophie-Germain", "Ada-Lovelace", "Katia-Krafft",
    "Albert-Camus", "André-Malraux", "Louis-Aragon", "Jacques-Prévert", "Robert-Desnos", "René-Char", "Louis-Leprince-Ringuet",
    "Frédéric-Bartholdi", "Tony-Garnier", "Louise-Labé", "Maurice-Scève", "Philibert-Delorme", "Bernard-de-Jussieu",
    "Claude-Bernard", "Antoine-Lumière", "Gabrielle-Chanel", "Jacquard", "Claude-Martin", "Édouard-Herriot",
    "Les Monts d'Or", "Les Deux Rives", "Les Vallons", "Les Tilleuls", "La Tourette", "La Clavelière", "Le Belvédère",
    "Le Grand Parc", "La Haute Saône", "Les Balmes",
)  # fmt: skip
DIRECTIONS: Final = (
    "Eau et déchets", "Mobilités", "Voirie", "Patrimoine végétal", "Nettoiement", "Assainissement", "Habitat et logement",
    "Urbanisme", "Foncier et immobilier", "Développement économique", "Insertion et emploi", "Éducation", "Enfance",
    "Protection maternelle et infantile", "Personnes âgées et handicap", "Maisons de la Métropole", "Culture", "Sports",
    "Musées", "Archives", "Environnement et énergie", "Agriculture et alimentation", "Participation citoyenne",
    "Ressources humaines", "Finances", "Commande publique", "Affaires juridiques", "Communication", "Logistique et bâtiments",
    "Systèmes d'information",
)  # fmt: skip
ROOMS: Final = ("Part-Dieu", "Vaise", "Gerland")

TOWERS: Final = (TOWER, TOWER, TOWER, NOTEBOOK, TOWER, TOWER, TOWER)
COMPACTS: Final = (DESK, DESK, DESK, NOTEBOOK, DESK, DESK, DESK)
RACKS: Final = (
    RACK_PDU,
    VIRTUAL,
    RACK_BMC,
    VIRTUAL,
    RACK_WIDE,
    VIRTUAL,
    RACK_PDU,
    VIRTUAL,
    RACK_BARE,
    VIRTUAL,
)
"""Models of the desks of old and of renewed colleges, and of a server room, in turn."""
_OFF: Final = (0.0, 0.0)
_NIGHTS: Final = (_OFF, (0.4, 0.85), None, (0.25, 0.6), _OFF)
"""Shares of nights on which desktops are left on, of colleges in turn; None: as usual."""
_OFFICE_NIGHTS: Final = (_OFF, (0.3, 0.7), None, None, _OFF, None)
"""The same of directions."""

# Of 2,000 agents; others are in proportion.
_DESK_AGENTS: Final = 15
_OFFICE_AGENTS: Final = 32
_FEW_OFFICE_AGENTS: Final = 7
_CLASSROOM_AGENTS: Final = 10
_ROOM_AGENTS: Final = (16, 12, 12)
_MEASURED_COLLEGES: Final = 70
_SPORADIC_COLLEGES: Final = 20
"""Further colleges with one agent."""
_CLASSROOM_COLLEGES: Final = 8
_MEASURED_DIRECTIONS: Final = 24
_PILOT_COLLEGES: Final = 6
_PILOT_DIRECTIONS: Final = 3
_ACTION_COLLEGES: Final = 30
"""Of the first of them, those that leave desktops on act."""


def _college(number: int, population: Population) -> EntitySite:
    name = COLLEGES[number]
    return EntitySite(
        f"{ROOT} > Collèges > Collège {name}",
        f"college-{_slug(name)}",
        population,
        PowerContext.EPLE,
        school=True,
        always_on=0.0 if _NIGHTS[number % len(_NIGHTS)] else 0.05,
        left_on=_NIGHTS[number % len(_NIGHTS)],
    )


def _direction(number: int) -> EntitySite:
    name = DIRECTIONS[number]
    return EntitySite(
        f"{ROOT} > Directions > {name}",
        f"direction-{_slug(name)}",
        Population.WORKSTATION,
        PowerContext.OWN_SITE,
        always_on=0.0 if _OFFICE_NIGHTS[number % len(_OFFICE_NIGHTS)] else 0.06,
        left_on=_OFFICE_NIGHTS[number % len(_OFFICE_NIGHTS)],
    )


def _room(number: int) -> EntitySite:
    name = f"Salle {ROOMS[number]}"
    return EntitySite(
        f"{ROOT} > Salles serveurs > {name}",
        f"salle-{_slug(ROOMS[number])}",
        Population.SERVER,
        PowerContext.OWN_SITE,
        room=name,
    )


def _slug(name: str) -> str:
    plain = unicodedata.normalize("NFD", name).encode("ascii", "ignore").decode().lower()
    return "".join(each if each.isalnum() else "-" for each in plain)


def _stocks(hosts: int, first: date, end: date) -> tuple[Stock, ...]:
    made = tuple(_of_2000(first, end))
    agents = apportion(hosts, [one.agents for one in made])
    return tuple(
        Stock(
            one.place,
            number,
            max(number, one.machines),
            one.models,
            one.begins,
            shut_down_from=one.shut_down_from,
        )
        for one, number in zip(made, agents, strict=True)
    )


def _of_2000(first: date, end: date) -> Iterator[Stock]:
    """Yield the machines of each place, of a fleet with 2,000 agents."""
    for number in range(len(COLLEGES)):
        yield _desks(number, first, end)
        agents = _CLASSROOM_AGENTS if 2 <= number < 2 + _CLASSROOM_COLLEGES else 0
        begins = (max(first, months_before(end.replace(day=1), CLASSROOM_MONTHS - 1)),)
        machines = 11 + 3 * (number % 3)
        yield Stock(
            _college(number, Population.CLASSROOM), agents, machines, (*COLLEGE_MODELS, BOARD), begins
        )
    for number in range(len(DIRECTIONS)):
        measured = number < _MEASURED_DIRECTIONS
        yield Stock(
            _direction(number),
            _OFFICE_AGENTS if measured else _FEW_OFFICE_AGENTS,
            44 + 7 * (number % 5),
            DIRECTION_MODELS,
            (first,) if number < _PILOT_DIRECTIONS else _wave(number, first, end),
        )
    for number, agents in enumerate(_ROOM_AGENTS):
        begins = _wave(2 * number, first, end)
        yield Stock(_room(number), agents, 6 * agents, RACKS, begins)


def _desks(number: int, first: date, end: date) -> Stock:
    agents = 0
    if number < _MEASURED_COLLEGES:
        agents = _DESK_AGENTS
    elif number < _MEASURED_COLLEGES + _SPORADIC_COLLEGES:
        agents = 1
    acts = _acts(number)
    return Stock(
        _college(number, Population.WORKSTATION),
        agents,
        15 + 2 * (number % 4),
        TOWERS if number % 3 else COMPACTS,
        (first,) if number < _PILOT_COLLEGES else _wave(number, first, end),
        shut_down_from=_action_day(first, end) if acts else None,
    )


def _acts(number: int) -> bool:
    """Return whether a college shuts its desktops down from the day of the action on."""
    return number < _ACTION_COLLEGES and sum(_NIGHTS[number % len(_NIGHTS)] or _OFF) > 0


def _roll_out(first: date, end: date) -> date:
    return max(first, months_before(end, ROLL_OUT_MONTHS))


def _wave(number: int, first: date, end: date) -> tuple[date]:
    """Return the first day of a place: the last wave is two months before the end."""
    begun = _roll_out(first, end)
    return (begun + number % ROLL_OUT_WAVES * ((end - begun) * 6 // (7 * ROLL_OUT_WAVES)),)


def _action_day(first: date, end: date) -> date:
    """Return a Monday in the middle of the roll-out."""
    middle = _roll_out(first, end) + (end - _roll_out(first, end)) // 2
    return middle - timedelta(days=middle.weekday())


def _declared(first: date, end: date) -> DeclaredLines:
    """Return an action that shuts PCs down, one without an effect, and a strategy."""
    day, year = _action_day(first, end), end.year
    colleges = [
        _college(number, Population.WORKSTATION).site for number in range(_ACTION_COLLEGES) if _acts(number)
    ]
    offices = [_direction(number).site for number in range(6, 12)]
    return {
        "actions": [
            _action("extinction-19h", day, colleges, "Extinction programmée des postes à 19 h"),
            _action("affiches", day, offices, "Affiches et message aux agents : éteindre le soir"),
        ],
        "objectives": [
            _objective("2", "I1", year + 1, "0.05", "Extinction programmée des postes"),
            _objective("2", "I6", year + 1, "0.05", "Arrêt des serveurs sans service utile"),
            _objective("1", "I10", year, "0.2", "Lots réservés au matériel reconditionné"),
            _objective("2", "I9", year + 2, "6", "Allongement de la durée d'usage"),
        ],
        "measures": [
            {
                "measure_id": "M1",
                "objective": "2",
                "what": "Extinction programmée à 19 h dans les collèges",
                "indicator": "I1",
                "action": "extinction-19h",
                "from_day": day.isoformat(),
                "pilot": "Systèmes d'information",
                "status": "under_way",
            },
            {
                "measure_id": "M2",
                "objective": "4",
                "what": "Affiches et message aux agents",
                "indicator": "I1",
                "action": "affiches",
                "from_day": day.isoformat(),
                "pilot": "Communication",
                "status": "done",
            },
        ],
        "retired_stock": [
            {"year": str(one), "units": "420", "source": "simulé"} for one in range(first.year, year + 1)
        ],
    }


def _action(action_id: str, day: date, sites: Sequence[str], what: str) -> dict[str, str]:
    return {"action_id": action_id, "sites": "|".join(sites), "from_day": day.isoformat(), "what": what}


def _objective(objective: str, indicator: str, year: int, value: str, measure: str) -> dict[str, str]:
    return {
        "objective": objective,
        "indicator": indicator,
        "target_year": str(year),
        "target_value": value,
        "measure": measure,
    }


METROPOLE: Final = Preset(
    "metropole",
    2_000,
    _stocks,
    _declared,
    Oddities(silent=0.015, outdated=0.2, failing=0.02, copies=3, doubtful_models=12),
    (("unit:postgresql", 0.45), ("unit:tomcat9", 0.25), ("unit:nginx", 0.1), ("unit:zabbix-agent", 0.02)),
    is_served=True,
)
