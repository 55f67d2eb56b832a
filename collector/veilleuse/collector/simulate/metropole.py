# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The preset of a large public body: 110 colleges, 30 directions, three server rooms (pure).

Names, sizes and habits are invented. Some colleges leave their PCs on at night. A pilot runs from the first
day, the roll-out begins 14 months before the end. Agents of classroom PCs, which send hours, come last.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
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
    EntitySite,
    Preset,
    SimulatedAction,
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
    "Clément-Marot", "Georges-Clemenceau", "Henri-Longchambon", "Jean-Mermoz", "Gabriel-Rosset", "Dargent",
    "Professeur-Dargent", "Raoul-Dufy", "Charles-Sénard", "Lacassagne", "Les Battières", "Jean-Charcot",
    "La Favorite", "Les Iris", "Môrice-Leroux", "Lamartine", "Jean-Macé", "Du Tonkin", "Gratte-Ciel",
    "Jean-Vilar", "Alain", "Elsa-Triolet", "Paul-Éluard", "Aimé-Césaire", "Honoré-de-Balzac", "Jacques-Duclos",
    "Henri-Barbusse", "Pierre-Valdo", "Jean-Renoir", "Pierre-Brossolette", "Théodore-Monod", "Olivier-de-Serres",
    "Marcel-Pagnol", "Colette", "Boris-Vian", "Frédéric-Mistral", "Françoise-Dolto", "Martin-Luther-King",
    "Val d'Argent", "Maurice-Utrillo", "Christiane-Bernardin", "Plan du Loup", "Le Plan du Loup Sud",
    "Jean-Philippe-Rameau", "Alexis-Kandelaft", "Jean-Giono", "Marcel-Dargent", "Clos des Roses", "Daisy-Georges-Martin",
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
RACKS: Final = (RACK_PDU, VIRTUAL, RACK_BMC, VIRTUAL, RACK_WIDE, VIRTUAL, RACK_PDU, VIRTUAL, RACK_BARE, VIRTUAL)
"""Models of the desks of old and of renewed colleges, and of a server room, in turn."""
_NIGHTS: Final = (0.02, 0.5, 0.05, 0.15, 0.02)
"""Shares of desktops that are always on, of colleges in turn."""

# Of 2,000 agents; others are in proportion.
_DESK_AGENTS: Final = 15
_OFFICE_AGENTS: Final = 30
_FEW_OFFICE_AGENTS: Final = 7
_CLASSROOM_AGENTS: Final = 10
_ROOM_AGENTS: Final = (20, 20, 20)
_MEASURED_COLLEGES: Final = 70
_SPORADIC_COLLEGES: Final = 20
"""Further colleges with one agent."""
_CLASSROOM_COLLEGES: Final = 12
_MEASURED_DIRECTIONS: Final = 24
_PILOT_COLLEGES: Final = 8
_PILOT_DIRECTIONS: Final = 4
_ACTION_COLLEGES: Final = 12


def _college(number: int, population: Population) -> EntitySite:
    name = COLLEGES[number]
    return EntitySite(
        f"{ROOT} > Collèges > Collège {name}",
        f"college-{_slug(name)}",
        population,
        PowerContext.EPLE,
        school=True,
        always_on=_NIGHTS[number % len(_NIGHTS)],
    )


def _direction(number: int) -> EntitySite:
    name = DIRECTIONS[number]
    return EntitySite(
        f"{ROOT} > Directions > {name}",
        f"direction-{_slug(name)}",
        Population.WORKSTATION,
        PowerContext.OWN_SITE,
        always_on=0.3 if number % 6 == 1 else 0.06,
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
        yield Stock(_room(number), agents, 4 * agents, RACKS, begins)


def _desks(number: int, first: date, end: date) -> Stock:
    agents = 0
    if number < _MEASURED_COLLEGES:
        agents = _DESK_AGENTS
    elif number < _MEASURED_COLLEGES + _SPORADIC_COLLEGES:
        agents = 1
    acts = number < _ACTION_COLLEGES
    return Stock(
        _college(number, Population.WORKSTATION),
        agents,
        15 + 2 * (number % 4),
        TOWERS if number % 3 else COMPACTS,
        (first,) if number < _PILOT_COLLEGES else _wave(number, first, end),
        shut_down_from=_action_day(first, end) if acts else None,
    )


def _roll_out(first: date, end: date) -> date:
    return max(first, months_before(end, ROLL_OUT_MONTHS))


def _wave(number: int, first: date, end: date) -> tuple[date]:
    """Return the first day of a place: the waves are over two thirds of the roll-out."""
    begun = _roll_out(first, end)
    return (begun + number % ROLL_OUT_WAVES * ((end - begun) * 2 // (3 * ROLL_OUT_WAVES)),)


def _action_day(first: date, end: date) -> date:
    """Return a Monday in the middle of the roll-out."""
    middle = _roll_out(first, end) + (end - _roll_out(first, end)) // 2
    return middle - timedelta(days=middle.weekday())


def _actions(first: date, end: date) -> tuple[SimulatedAction, ...]:
    """Return one action that shuts PCs down, and one without an effect."""
    day = _action_day(first, end)
    colleges = tuple(_college(number, Population.WORKSTATION).site for number in range(_ACTION_COLLEGES))
    offices = tuple(_direction(number).site for number in range(6, 12))
    return (
        SimulatedAction("extinction-19h", "Extinction programmée des postes à 19 h", day, colleges),
        SimulatedAction("affiches", "Affiches et message aux agents : éteindre le soir", day, offices),
    )


METROPOLE: Final = Preset("metropole", 2_000, _stocks, _actions, silent=0.015, is_served=True)
