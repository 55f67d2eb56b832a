# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Lists the dashboard's panels of the fleet.

I3 to I8 are in panels_sobriety.py, the service in panels_service.py.

Titles and descriptions are in French, the language of their readers; metric names come from the collector's
catalogue, never from a string here.

To add a panel: one `Panel` in one of the rows below, with an id never used before; then `make dashboards`.
"""

from __future__ import annotations

from typing import Final

from grafana.panels_service import SERVICE
from grafana.panels_sobriety import SOBRIETY
from grafana.queries import (
    CHOSEN,
    CHOSEN_ENTITY,
    PHYSICAL,
    VIRTUAL,
    Form,
    Panel,
    Query,
    Row,
    by_label,
    hourly,
    increase,
    kwh,
    series,
    total,
)
from veilleuse.collector.exposition import catalogue as c

ROWS: Final = (
    Row(
        100,
        "Les serveurs maintenant",
        (
            Panel(
                1,
                Form.STAT,
                "Puissance",
                "Puissance moyenne à la prise des serveurs physiques, sur leur dernier relevé complet. « Pas de donnée » veut dire inconnu, pas 0 W.",
                "watt",
                (Query(total(series(c.POWER, PHYSICAL, CHOSEN)), "serveurs physiques"),),
                6,
                5,
                1,
            ),
            Panel(
                2,
                Form.STAT,
                "Énergie sur la période affichée",
                "Énergie à la prise des serveurs physiques sur la période affichée, telle que calculée la première fois. Les corrections ultérieures sont dans les rapports.",
                "kwatth",
                (Query(kwh(total(increase(series(c.ENERGY, PHYSICAL, CHOSEN)))), "serveurs physiques"),),
                6,
                5,
                2,
            ),
            Panel(
                3,
                Form.STAT,
                "Émissions sur la période affichée",
                "Équivalent CO₂ de cette énergie : comptabilité officielle, facteur annuel, phase d’usage seule.",
                "massg",
                (
                    Query(
                        total(increase(series(c.EMISSIONS, PHYSICAL, CHOSEN, 'ledger="official"'))),
                        "serveurs physiques",
                    ),
                ),
                6,
                5,
                1,
            ),
            Panel(
                4,
                Form.STAT,
                "Couverture d’aujourd’hui (I13)",
                "Part observée du temps des serveurs physiques depuis minuit, pour les états et pour l’énergie ; toutes entités réunies.",
                "percentunit",
                (
                    Query(
                        series(
                            c.COVERAGE,
                            'population="server"',
                            'machines="physical"',
                            'period="today"',
                        ),
                        "{{kind}}",
                    ),
                ),
                6,
                5,
                1,
            ),
            Panel(
                5,
                Form.STACK,
                "Puissance par type de machine",
                "Puissance moyenne de l’heure passée, tirée du compteur d’énergie, serveurs physiques, par type de machine.",
                "watt",
                (by_label(hourly(series(c.ENERGY, PHYSICAL, CHOSEN)), "device_class"),),
                12,
            ),
            Panel(
                6,
                Form.STACK,
                "Puissance par méthode",
                "La même puissance selon la façon dont elle est connue : metered, battery et counter_calibrated sont mesurés, le reste est modélisé.",
                "watt",
                (by_label(hourly(series(c.ENERGY, PHYSICAL, CHOSEN)), "method"),),
                12,
            ),
            Panel(
                7,
                Form.STACK,
                "État des serveurs",
                "Nombre moyen de machines dans chaque état pendant l’heure passée, machines virtuelles comprises : secondes passées dans l’état, par seconde.",
                "short",
                (by_label(hourly(series(c.STATE_SECONDS, CHOSEN)), "state"),),
                12,
            ),
            Panel(
                8,
                Form.LINES,
                "Machines virtuelles (pour mémoire)",
                "Puissance estimée des machines virtuelles, moyenne de l’heure passée. Hors de tout total : la machine qui les héberge la compte déjà.",
                "watt",
                (by_label(hourly(series(c.ENERGY, VIRTUAL, CHOSEN)), "method"),),
                12,
            ),
        ),
    ),
    Row(
        200,
        "Serveurs, dernier jour clos",
        (
            Panel(
                21,
                Form.BARS,
                "Énergie du jour",
                "Énergie à la prise des serveurs physiques pendant le dernier jour clos, selon le calcul en vigueur.",
                "kwatth",
                (
                    by_label(
                        series(c.DAY_ENERGY, PHYSICAL, CHOSEN), "population", "device_class", in_kwh=True
                    ),
                ),
                decimals=2,
            ),
            Panel(
                22,
                Form.BARS,
                "Émissions du jour",
                "Équivalent CO₂ de cette énergie, comptabilité officielle.",
                "massg",
                (by_label(series(c.DAY_EMISSIONS, PHYSICAL, CHOSEN), "population", "device_class"),),
                decimals=1,
            ),
            Panel(
                24,
                Form.BARS,
                "Temps par état",
                "Heures que les serveurs ont passées dans chaque état pendant le dernier jour clos, machines virtuelles comprises.",
                "h",
                (
                    Query(
                        total(series(c.DAY_STATE, CHOSEN), "population", "state") + " / 3600",
                        "{{population}} {{state}}",
                    ),
                ),
                decimals=0,
            ),
            Panel(
                25,
                Form.BARS,
                "D’où vient l’énergie du jour",
                "Énergie des serveurs physiques pendant le dernier jour clos, par méthode.",
                "kwatth",
                (by_label(series(c.DAY_ENERGY, PHYSICAL, CHOSEN), "method", in_kwh=True),),
                decimals=2,
            ),
            Panel(
                26,
                Form.BARS,
                "Machines derrière ces chiffres",
                "Serveurs qui ont contribué au dernier jour clos.",
                "short",
                (by_label(series(c.DAY_HOSTS, CHOSEN), "population", "device_class"),),
            ),
        ),
    ),
    Row(
        240,
        "Parc entier, mois publiés",
        (
            Panel(
                91,
                Form.BARS,
                "Émissions de l’année par périmètre",
                "Équivalent CO₂ du parc entier, mesuré et extrapolé, phase d’usage : somme des mois publiés de l’année (to_date), ou année close (closed). Mêmes chiffres que le rapport d’émissions.",
                "massg",
                (by_label(series(c.FLEET_YEAR_EMISSIONS), "year", "state", "perimeter"),),
                decimals=1,
            ),
            Panel(
                92,
                Form.BARS,
                "Émissions par périmètre et par mois",
                "Équivalent CO₂ du parc entier, pour chaque mois publié de l’année. Un mois est publié trois jours après sa fin.",
                "massg",
                (
                    Query(
                        f"sort({total(series(c.FLEET_MONTH_EMISSIONS), 'month', 'perimeter')})",
                        "{{month}} {{perimeter}}",
                    ),
                ),
                decimals=1,
            ),
            Panel(
                93,
                Form.BARS,
                "Énergie de l’année par type de matériel",
                "Énergie à la prise du parc entier, mesurée et extrapolée, avec les salles de serveurs et les matériels de l’inventaire.",
                "kwatth",
                (by_label(series(c.FLEET_YEAR_ENERGY), "year", "device_class", in_kwh=True),),
                decimals=1,
            ),
            Panel(
                94,
                Form.BARS,
                "Intervalle des émissions de l’année",
                "Bornes basse et haute, par périmètre et au total. « sample only » : la façon dont les machines mesurées ont été choisies n’y est pas.",
                "massg",
                (
                    Query(series(c.FLEET_YEAR_EMISSIONS_LOW), "{{year}} {{perimeter}}, bas ({{interval}})"),
                    Query(series(c.FLEET_YEAR_EMISSIONS_HIGH), "{{year}} {{perimeter}}, haut ({{interval}})"),
                ),
                decimals=1,
            ),
            Panel(
                95,
                Form.STAT,
                "Facteur de ces émissions",
                "Facteur appliqué à chaque année, et dernier mois compris dans son chiffre. Provisoire tant que celui de l’année n’est pas publié.",
                "short",
                (
                    Query(
                        series(c.FLEET_EMISSIONS_INFO),
                        "{{year}} {{zone}} : {{factor_kgco2e_per_kwh}} kg/kWh, {{factor_id}}, provisoire : {{provisional}}, jusqu’à {{last_month}}",
                    ),
                ),
            ),
        ),
    ),
    Row(
        250,
        "Postes et PC de classe mesurés, dernier mois publié",
        (
            Panel(
                27,
                Form.BARS,
                "Énergie du mois",
                "Énergie à la prise des postes, des PC de classe et de leurs écrans (monitor) pendant le dernier mois publié, machines mesurées seules (le parc entier est au-dessus), par groupes d’au moins k machines ; « autres » réunit les plus petits. Publié une fois, trois jours après la fin du mois. Sans les machines virtuelles.",
                "kwatth",
                (
                    by_label(
                        series(c.MONTH_ENERGY, PHYSICAL, CHOSEN_ENTITY),
                        "population",
                        "device_class",
                        in_kwh=True,
                    ),
                ),
                decimals=1,
            ),
            Panel(
                28,
                Form.BARS,
                "Émissions du mois",
                "Équivalent CO₂ de cette énergie, comptabilité officielle : facteur de l’année du mois, dans la zone de chaque groupe.",
                "massg",
                (by_label(series(c.MONTH_EMISSIONS, PHYSICAL, CHOSEN_ENTITY), "population", "device_class"),),
                decimals=1,
            ),
            Panel(
                29,
                Form.BARS,
                "Temps par état dans le mois",
                "Heures passées dans chaque état pendant ce mois, par population.",
                "h",
                (
                    Query(
                        total(series(c.MONTH_STATE, PHYSICAL, CHOSEN_ENTITY), "population", "state")
                        + " / 3600",
                        "{{population}} {{state}}",
                    ),
                ),
                decimals=0,
            ),
            Panel(
                30,
                Form.BARS,
                "Machines derrière ces chiffres du mois",
                "Machines de chaque groupe publié ; monitor : machines qui ont un écran externe.",
                "short",
                (by_label(series(c.MONTH_HOSTS, CHOSEN_ENTITY), "population", "device_class"),),
            ),
            Panel(
                37,
                Form.STAT,
                "Mois montré",
                "Premier jour du mois dont viennent ces chiffres.",
                "dateTimeAsIso",
                (Query(series(c.MONTH_START) + " * 1000", "{{population}}"),),
            ),
            Panel(
                36,
                Form.STAT,
                "Groupes réunis ou non montrés",
                "Parties du mois publié (les machines d’une population dans une zone du réseau électrique) dont de petits groupes sont réunis sous « autres », ou qui ne sont pas montrées du tout.",
                "short",
                (by_label(series(c.SUPPRESSED), "population", "outcome"),),
            ),
        ),
    ),
    Row(
        300,
        "Sobriété",
        (
            Panel(
                31,
                Form.BARS,
                "Allumées hors des heures d’ouverture (I1)",
                "Part du temps hors ouverture pendant laquelle les machines étaient allumées, sans les serveurs. Objectif : moins de 5 % si le réglage n’a pas été changé ; au-delà, la barre est orange.",
                "percentunit",
                (Query(series(c.OUTSIDE_OPENING), "{{population}} {{machines}}, {{period}}"),),
                decimals=1,
                steps=((None, "green"), (0.05, "orange")),
            ),
            Panel(
                32,
                Form.BARS,
                "Allumées mais au repos (I2)",
                "Part du temps allumé pendant laquelle les machines étaient au repos. Lire une page est aussi du repos : voir les longues durées dans les rapports.",
                "percentunit",
                (Query(series(c.IDLE_WHILE_ON), "{{population}} {{machines}}, {{period}}"),),
                decimals=1,
            ),
            Panel(
                33,
                Form.BARS,
                "Énergie consommée pendant ce temps",
                "Énergie à la prise hors des heures d’ouverture (I1), et au repos (I2).",
                "kwatth",
                (
                    Query(
                        kwh(series(c.OUTSIDE_OPENING_ENERGY)),
                        "I1 {{population}} {{machines}}, {{period}}",
                    ),
                    Query(
                        kwh(series(c.IDLE_WHILE_ON_ENERGY)),
                        "I2 {{population}} {{machines}}, {{period}}",
                    ),
                ),
                decimals=2,
            ),
            Panel(
                34,
                Form.LINES,
                "Couverture (I13)",
                "Part observée du temps-machine de chaque population. Un chiffre vaut ce que vaut sa couverture.",
                "percentunit",
                (Query(series(c.COVERAGE), "{{population}} {{machines}}, {{kind}}, {{period}}"),),
            ),
            Panel(
                35,
                Form.STAT,
                "Facteur d’émission",
                "Facteur appliqué, en grammes d’équivalent CO₂ par kWh. Provisoire tant que celui de l’année n’est pas publié.",
                "suffix: g/kWh",
                (Query(series(c.FACTOR), "{{zone}} {{factor_id}}, provisoire : {{provisional}}"),),
                decimals=1,
            ),
        ),
    ),
    *SOBRIETY,
    *SERVICE,
)
"""Rows of the dashboard, from top to bottom."""
