# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Lists the dashboard's panels of the agents and of the collector itself. As panels.py."""

from __future__ import annotations

from typing import Final

from grafana.queries import Form, Panel, Query, Row, by_label, rate, series, total
from veilleuse.collector.exposition import catalogue as c

SERVICE: Final = (
    Row(
        400,
        "Agents",
        (
            Panel(
                41,
                Form.STAT,
                "Machines",
                "Machines du registre, par population et statut.",
                "short",
                (Query(series(c.HOSTS), "{{population}} {{status}}"),),
            ),
            Panel(
                42,
                Form.LINES,
                "Agents silencieux",
                "Serveurs sans contact depuis deux intervalles ; postes et PC de classe sans contact sur leurs deux derniers jours ouvrés (au moins, une fois par jour).",
                "short",
                (Query(series(c.SILENT), "{{population}}"),),
            ),
            Panel(
                43,
                Form.LINES,
                "Âge du dernier contact",
                "Serveurs : âge médian et âge maximal.",
                "s",
                (Query(series(c.CONTACT_AGE), "{{population}} {{statistic}}"),),
            ),
            Panel(
                44,
                Form.BARS,
                "Sources de mesure des serveurs",
                "Serveurs où chaque source est lue (success), échoue (failure) ou n’existe pas (unavailable).",
                "short",
                (Query(series(c.SOURCE_SUCCESS), "{{source}} {{outcome}}"),),
            ),
            Panel(
                45,
                Form.LINES,
                "Relevés en attente sur les agents",
                "File d’attente annoncée par les agents des serveurs à leur dernier contact.",
                "short",
                (Query(series(c.SPOOL_RECORDS), "{{population}}"),),
            ),
            Panel(
                46,
                Form.LINES,
                "Relevés perdus par les agents",
                "Relevés qui n’ont jamais quitté les serveurs, par raison : ce qui manque aux totaux.",
                "short",
                (Query(series(c.DROPPED), "{{population}} {{reason}}"),),
            ),
            Panel(
                47,
                Form.STAT,
                "Versions de l’agent",
                "Serveurs inscrits, par version de l’agent.",
                "short",
                (Query(series(c.AGENT_INFO), "{{version}}"),),
            ),
            Panel(
                48,
                Form.LINES,
                "Trous déclarés",
                "Temps que les agents des serveurs déclarent ne pas avoir mesuré, par raison.",
                "s",
                (Query(series(c.GAP_SECONDS), "{{population}} {{reason}}"),),
            ),
            Panel(
                49,
                Form.LINES,
                "Temps non expliqué",
                "Temps des 7 derniers jours entiers des serveurs qui n’est ni stocké ni dans un trou déclaré : 0, ou des "
                "relevés se sont perdus. Compté deux fois : horloges reculées, machines remises à un instantané.",
                "s",
                (
                    Query(series(c.UNEXPLAINED), "{{population}} : non expliqué"),
                    Query(series(c.EXCESS), "{{population}} : compté deux fois"),
                ),
            ),
            Panel(
                50,
                Form.LINES,
                "Quarantaine",
                "Relevés refusés que les agents des serveurs gardent pour examen ; pour les postes et les PC de classe : « veilleuse doctor ».",
                "short",
                (Query(series(c.QUARANTINE), "{{population}}"),),
            ),
        ),
    ),
    Row(
        500,
        "Collecteur",
        (
            Panel(
                51,
                Form.STAT,
                "Service de réception",
                "1 quand le service de réception répond, 0 quand seul le service web répond.",
                "short",
                (Query(series(c.COLLECTOR_UP), "répond"),),
                6,
                5,
                steps=((None, "red"), (1, "green")),
            ),
            Panel(
                52,
                Form.STAT,
                "Certificats : temps restant",
                "Temps avant la fin des certificats du collecteur. Rouge : 14 jours ou moins ; « server » se renouvelle de lui-même 30 jours avant sa fin.",
                "s",
                (Query(series(c.CERTIFICATE) + " - time()", "{{name}}"),),
                6,
                5,
                steps=((None, "red"), (14 * 86_400, "green")),
            ),
            Panel(
                53,
                Form.STAT,
                "Place libre au-dessus de la réserve",
                "Place libre du disque des données, moins la réserve sous laquelle plus aucun relevé n’est accepté.",
                "bytes",
                (Query(f"{series(c.STORE_FREE)} - {series(c.STORE_RESERVE)}", "libre"),),
                6,
                5,
                steps=((None, "red"), (0, "green")),
            ),
            Panel(
                54,
                Form.STAT,
                "Relevés stockés",
                "Relevés présents dans la base.",
                "short",
                (Query(series(c.RECORDS_STORED), "relevés"),),
                6,
                5,
            ),
            Panel(
                55,
                Form.STACK,
                "Envois",
                "Envois des agents traités par seconde, par issue.",
                "reqps",
                (by_label(rate(series(c.PUSHES)), "outcome"),),
            ),
            Panel(
                56,
                Form.STACK,
                "Relevés",
                "Relevés reçus par seconde, par issue.",
                "cps",
                (by_label(rate(series(c.RECORDS)), "outcome"),),
            ),
            Panel(
                57,
                Form.LINES,
                "Refus",
                "Appels et relevés refusés par seconde, par raison.",
                "cps",
                (
                    Query(total(rate(series(c.REFUSED_CALLS)), "reason"), "appel : {{reason}}"),
                    Query(total(rate(series(c.REFUSED_RECORDS)), "reason"), "relevé : {{reason}}"),
                ),
            ),
            Panel(
                58,
                Form.LINES,
                "Écriture",
                "Durée d’une écriture durable, fsync compris : la moyenne, et ce que 99 % ne dépassent pas.",
                "s",
                (
                    Query(
                        f"histogram_quantile(0.99, {rate(series(c.COMMIT, suffix='_bucket'))})",
                        "99 %",
                    ),
                    Query(
                        f"{rate(series(c.COMMIT, suffix='_sum'))} / {rate(series(c.COMMIT, suffix='_count'))}",
                        "moyenne",
                    ),
                ),
            ),
            Panel(
                59,
                Form.LINES,
                "Travail en attente",
                "Envois en attente d’écriture, et périodes en attente de calcul.",
                "short",
                (
                    Query(series(c.QUEUE), "envois"),
                    Query(series(c.DIRTY), "périodes à calculer"),
                ),
            ),
            Panel(
                60,
                Form.LINES,
                "Taille de la base",
                "Base de données et son journal, sur le disque.",
                "bytes",
                (Query(series(c.STORE_BYTES), "taille"),),
            ),
            Panel(
                63,
                Form.LINES,
                "Identités",
                "Appels refusés parce qu’une autre machine a la même identité, copies qui en ont demandé une, et signes d’un "
                "collecteur restauré d’une sauvegarde plus ancienne, par seconde.",
                "cps",
                (
                    Query(total(rate(series(c.IDENTITY_CONFLICTS)), "reason"), "conflit : {{reason}}"),
                    Query(total(rate(series(c.COPIES)), "outcome"), "copie : {{outcome}}"),
                    Query(total(rate(series(c.BEHIND)), "reason"), "collecteur en retard : {{reason}}"),
                ),
            ),
            Panel(
                64,
                Form.LINES,
                "Séries exposées",
                "Séries de /metrics, et leur plafond, calculé du registre : aucun agent ne peut le relever.",
                "short",
                (Query(series(c.SERIES), "séries"), Query(series(c.SERIES_BOUND), "plafond")),
            ),
            Panel(
                61,
                Form.LINES,
                "Coût de /metrics",
                "Temps pour rassembler et écrire une exposition.",
                "s",
                (Query(series(c.RENDER), "rendu"),),
            ),
            Panel(
                62,
                Form.LINES,
                "Pages",
                "Requêtes HTTP traitées par seconde, par route et code de statut.",
                "reqps",
                (by_label(rate(series(c.HTTP_DURATION, suffix="_count")), "route", "code"),),
                12,
            ),
        ),
    ),
)
