# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Lists the dashboard's panels of I3 to I8: gauges of the last closed month, and of servers as of yesterday.

As panels.py.
"""

from __future__ import annotations

from typing import Final

from grafana.queries import Form, Panel, Query, Row, kwh, series
from veilleuse.collector.exposition import catalogue as c

SOBRIETY: Final = (
    Row(
        350,
        "Sobriété : réglages, énergie évitable, serveurs",
        (
            Panel(
                71,
                Form.BARS,
                "Réglages de veille conformes (I3)",
                "Part des PC dont le réglage est connu, et dont l’écran s’éteint puis qui se mettent en veille dans les délais fixés (15 et 30 min si rien n’a été changé). Relevé une fois par mois clos ; rien en dessous de k machines d’un côté ou de l’autre.",
                "percentunit",
                (Query(series(c.POWER_PLAN), "{{population}}"),),
                decimals=1,
            ),
            Panel(
                72,
                Form.BARS,
                "Énergie évitable du mois (I4)",
                "Énergie à la prise du dernier mois clos qui pouvait être évitée, par cause, sans extrapolation : au repos hors ouverture, veille dépassée, écrans pendant ce temps, serveurs comateux. « mixed » réunit les causes quand l’une compte moins de k machines.",
                "kwatth",
                (Query(kwh(series(c.AVOIDABLE_ENERGY)), "{{population}} {{cause}}"),),
                decimals=1,
            ),
            Panel(
                73,
                Form.BARS,
                "Nuit et week-end rapportés au jour (I5)",
                "Puissance moyenne hors ouverture divisée par celle pendant l’ouverture, sur le dernier mois clos. 1 : la nuit consomme autant que le jour.",
                "none",
                (Query(series(c.NIGHT_POWER), "{{population}} {{machines}}"),),
                decimals=2,
            ),
            Panel(
                74,
                Form.BARS,
                "Serveurs comateux (I6)",
                "Serveurs sans service utile : comatose sur 180 jours, suspect sur 30 (à confirmer par son responsable), excluded par son rôle, not_judged quand il n’a pas été observé assez longtemps.",
                "short",
                (Query(series(c.COMATOSE_SERVERS), "{{machines}} {{verdict}}"),),
            ),
            Panel(
                75,
                Form.BARS,
                "Serveurs sous-utilisés (I7)",
                "Serveurs dont le processeur travaille peu, en moyenne comme en pointe, sur 30 jours.",
                "short",
                (Query(series(c.UNDERUSED_SERVERS), "{{machines}} {{verdict}}"),),
            ),
            Panel(
                76,
                Form.BARS,
                "Serveurs surdimensionnés (I8)",
                "Serveurs dont ni le processeur, ni un cœur, ni la mémoire n’approchent leur limite sur 90 jours : la gamme inférieure suffirait.",
                "short",
                (Query(series(c.OVERSIZED_SERVERS), "{{machines}} {{verdict}}"),),
            ),
        ),
    ),
)
