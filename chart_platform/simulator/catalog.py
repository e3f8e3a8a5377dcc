"""The invented site: its pages, products, chart controls, affiliate links, campaigns and audience.

Belongs here: constant content and its JSON fragments. All names and hosts are reserved or made up.
Does not belong here: who looks at what (``visitors``).

Two traps are planted on purpose: pages whose path merely *contains* the word compare are no comparison pages, and
direct visits have the empty referrer that browsers report (the platform turns it into null).
"""

from __future__ import annotations

import json
import random
from functools import lru_cache
from itertools import accumulate
from typing import Final, NamedTuple

SITE: Final = "https://www.builderchart.example"

COMPARISON_PAGES: Final = (
    f"{SITE}/compare/website-builders",
    f"{SITE}/compare/website-builders",
    f"{SITE}/compare/website-builders",
    f"{SITE}/compare/website-builders/ecommerce",
    f"{SITE}/compare/website-builders/free",
    f"{SITE}/compare/website-builders/small-business",
    f"{SITE}/de/compare/homepage-baukasten",
    f"{SITE}/compare/ai-website-builders",
)
"""Repeated as often as popular."""

PRODUCTS: Final = (
    ("sitesmith", 9200),
    ("pagecraft", 7400),
    ("webloom", 6800),
    ("shopkite", 12500),
    ("blogyard", 3100),
    ("onepager", 2400),
    ("tilekit", 5600),
    ("foliohub", 4300),
    ("quickdraft", 1900),
    ("storefrontly", 15800),
    ("gridnest", 5100),
    ("launchpad-one", 8700),
)
"""Product and the payout of its best plan in cents."""

REVIEW_PAGES: Final = tuple(f"{SITE}/reviews/{product}" for product, _ in PRODUCTS)

OTHER_PAGES: Final = (
    f"{SITE}/",
    f"{SITE}/",
    f"{SITE}/",
    f"{SITE}/best/ecommerce",
    f"{SITE}/guides/how-to-compare-website-builders",
    f"{SITE}/guides/choosing-a-domain",
    f"{SITE}/blog/compare-like-a-pro",
    f"{SITE}/about?from=/compare/website-builders",
)


class Link(NamedTuple):
    fragment: str
    """``,"affiliate":{…}``"""
    payout_cents: int


def _links(product: str, payout: int) -> tuple[Link, ...]:
    return tuple(
        Link(
            ',"affiliate":'
            + json.dumps(
                {
                    "link_id": f"{product}-{plan}-{place}",
                    "target": f"https://www.{product}.example/{plan}",
                    "payout_cents": cents,
                },
                separators=(",", ":"),
            ),
            cents,
        )
        for plan, cents in (("premium", payout), ("basic", payout * 3 // 5), ("trial", 0))
        for place in ("table", "top")
    )


LINKS: Final = tuple(link for product, payout in PRODUCTS for link in _links(product, payout))

_CONTROLS: Final[tuple[tuple[str, str, tuple[str | int | float | bool | None, ...]], ...]] = (
    ("toggle", "billing-yearly", (True, False)),
    ("toggle", "show-free-plans", (True, False)),
    ("toggle", "highlight", ("differences", "none")),
    ("sort", "plan-price", ("asc", "desc")),
    ("sort", "editor-rating", ("desc",)),
    ("filter", "max-price", (5, 10, 12.5, 19.99, 30)),
    ("filter", "min-rating", (3, 3.5, 4, 4.5)),
    ("filter", "use-case", ("online shop", "portfolio", "Größe S", "ресторан", None)),
    ("compare_expand", "feature-rows", (None, 3, 10)),
    ("compare_expand", "product-card", (None, "hosting", "support")),
    ("compare_collapse", "feature-rows", (None, 3, 10)),
    ("compare_collapse", "product-card", (None,)),
)


@lru_cache(maxsize=1)
def chart_fragments() -> tuple[str, ...]:
    """1,024 interactions, ready as ``,"chart":{…},"affiliate":null``: rendering one per event would cost 2 µs."""
    rng = random.Random("chart-fragments")
    names = [product for product, _ in PRODUCTS]
    fragments = []
    for number in range(1024):
        action, control_id, values = _CONTROLS[number % len(_CONTROLS)]
        chart = {
            "product_ids": rng.sample(names, rng.randint(1, 4)),
            "action": action,
            "control_id": control_id,
            "control_value": rng.choice(values),
        }
        fragments.append(f',"chart":{json.dumps(chart, separators=(",", ":"), ensure_ascii=False)},"affiliate":null')
    return tuple(fragments)


class Channel(NamedTuple):
    name: str
    weight: float
    referrers: tuple[str, ...]
    utms: tuple[tuple[str, str], ...]
    """Pairs of the utm JSON and the query of the landing page."""


def _utm(source: str, medium: str, campaign: str, term: str | None = None) -> tuple[str, str]:
    utm = {"source": source, "medium": medium, "campaign": campaign} | ({"term": term} if term else {})
    query = f"?utm_source={source}&utm_medium={medium}&utm_campaign={campaign}"
    return json.dumps(utm, separators=(",", ":"), ensure_ascii=False), query


_NO_UTM: Final = (("null", ""),)

CHANNELS: Final = (
    Channel("organic", 0.36, ("https://www.google.com/", "https://www.bing.com/", "https://duckduckgo.com/"), _NO_UTM),
    Channel("direct", 0.18, ("",), _NO_UTM),
    Channel(
        "paid_search",
        0.24,
        ("https://www.google.com/", "https://www.bing.com/"),
        (
            _utm("google", "cpc", "brand", "builderchart"),
            _utm("google", "cpc", "generic", "best website builder"),
            _utm("google", "cpc", "generic-de", "homepage baukasten für anfänger"),
            _utm("bing", "cpc", "generic", "website builder comparison"),
        ),
    ),
    Channel(
        "social",
        0.10,
        ("https://l.facebook.example/", "https://t.social.example/"),
        (_utm("facebook", "paid_social", "retargeting"), _utm("reddit", "social", "ama")),
    ),
    Channel("email", 0.06, ("",), (_utm("newsletter", "email", "weekly-deals"),)),
    Channel("referral", 0.06, ("https://forum.smallbiz.example/thread/4711", "https://blog.dev.example/"), _NO_UTM),
)
CHANNEL_CUMULATED: Final = tuple(accumulate(channel.weight for channel in CHANNELS))

COUNTRIES: Final = (
    ("US", 0.34, ("en-US", "es-US")),
    ("GB", 0.14, ("en-GB",)),
    ("DE", 0.11, ("de-DE",)),
    ("CA", 0.07, ("en-CA", "fr-CA")),
    ("FR", 0.07, ("fr-FR",)),
    ("IL", 0.06, ("he-IL", "en-US")),
    ("AU", 0.05, ("en-AU",)),
    ("NL", 0.04, ("nl-NL",)),
    ("BR", 0.05, ("pt-BR",)),
    ("IN", 0.07, ("en-IN", "hi-IN")),
)
COUNTRY_CUMULATED: Final = tuple(accumulate(weight for _, weight, _ in COUNTRIES))

USER_AGENTS: Final = (
    ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36", 0.32),
    ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.0 Safari/605.1.15", 0.14),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0", 0.06),
    ("Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1 Mobile/15E148 Safari/604.1", 0.24),
    ("Mozilla/5.0 (Linux; Android 16; Pixel 10) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36", 0.20),
    ("Mozilla/5.0 (iPad; CPU OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1 Safari/604.1", 0.04),
)  # fmt: skip
USER_AGENT_CUMULATED: Final = tuple(accumulate(weight for _, weight in USER_AGENTS))

SDK_VERSIONS: Final = ("0.4.2", "0.4.2", "0.4.2", "0.4.1")
