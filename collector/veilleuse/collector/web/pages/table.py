# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The table of the pages, in the order of the menu. Routes, guards and menu come from it.

To add a page: a module with a `Build` function, a template, its texts in both languages, and a line here.
"""

from __future__ import annotations

from typing import Final

from veilleuse.collector.web.access import Guard
from veilleuse.collector.web.pages import actions, bilan, method, park, quality, servers, sobriete
from veilleuse.collector.web.pages.deploy import page as deploy
from veilleuse.collector.web.pages.entities import entity, site
from veilleuse.collector.web.pages.frame import WebPage
from veilleuse.collector.web.pages.home import home
from veilleuse.collector.web.pages.privacy import page as privacy
from veilleuse.collector.web.pages.reen import page as reen

PAGES: Final = (
    WebPage("/", "home", Guard.READERS, home),
    WebPage(bilan.PATH, "bilan", Guard.READERS, bilan.bilan),
    WebPage(sobriete.PATH, "sobriete", Guard.READERS, sobriete.sobriete),
    WebPage(actions.PATH, "actions", Guard.READERS, actions.actions),
    WebPage(entity.PATH, "entity", Guard.READERS, entity.entity),
    WebPage(servers.LIST, "servers", Guard.SERVERS, servers.servers),
    WebPage(park.PATH, "park", Guard.HOSTS, park.park),
    WebPage(quality.PATH, "quality", Guard.READERS, quality.quality),
    WebPage(reen.PATH, "reen", Guard.FLEET, reen.reen),
    WebPage(deploy.PATH, "deploy", Guard.HOSTS, deploy.deploy),
    WebPage(method.PATH, "method", Guard.READERS, method.method),
    WebPage(privacy.PATH, "privacy", Guard.OPEN, privacy.privacy),
    WebPage(site.PATH, "site", Guard.READERS, site.site, in_menu=False),
    WebPage(servers.ONE, "server", Guard.SERVERS, servers.server, in_menu=False),
)
