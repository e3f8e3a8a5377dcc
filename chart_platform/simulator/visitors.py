"""Who comes and what they do: visitors that return over days, their visits, and the steps of a visit.

Belongs here: seeded choice of content, free of faults.
Does not belong here: arrival at the collector, faults, pacing (``history``, ``live``), probabilities (``behaviour``).
"""

from __future__ import annotations

import math
import random
from itertools import accumulate
from typing import Final, NamedTuple

from chart_platform.simulator import catalog
from chart_platform.simulator.behaviour import (
    DAILY_TRANSITIONS,
    EXPERIMENT_KEY,
    INITIAL_INTENT_MIX,
    INTENTS,
    P_COMPARISON,
    Intent,
    Variant,
    click_probability,
)
from chart_platform.simulator.config import DAY_MS, Form
from chart_platform.simulator.messages import EventType
from chart_platform.simulator.render import SCHEMA_VERSION, schema_hash

REST_MS: Final = 45 * 60_000
"""A visitor rests this long between visits: more than the platform's 30-minute timeout, so that visits without a
session id can be told apart by time alone. Steps within a visit stay well below it."""

POOL_SIZE: Final = 150_000
"""Visitors who may return. Bounds memory (about 0.7 kB each); beyond it a new visitor replaces a random one."""

P_NEW_VISITOR: Final = 0.42
MAX_SKIPPED_DAYS: Final = 30


def _quantiles(mean_ms: int, least_ms: int, most_ms: int) -> tuple[int, ...]:
    """1,024 quantiles of a capped exponential: one lookup instead of a logarithm per event."""
    return tuple(min(most_ms, least_ms + int(-mean_ms * math.log1p(-(i + 0.5) / 1024))) for i in range(1024))


_PAGE_GAPS: Final = _quantiles(24_000, 900, 9 * 60_000)
_CHART_GAPS: Final = _quantiles(4_500, 350, 2 * 60_000)
_CLICK_GAPS: Final = _quantiles(8_000, 700, 3 * 60_000)

_INTERACTIONS: Final[dict[Intent, tuple[int, ...]]] = {
    "browse": (0, 0, 1, 1, 2, 3),
    "compare": (0, 1, 2, 3, 4, 5, 7),
    "buy": (0, 1, 2, 3, 4),
    "dormant": (0, 0, 1),
}
_PAGES_BEFORE: Final[dict[Intent, tuple[int, ...]]] = {
    "browse": (0, 1, 1, 2, 3),
    "compare": (0, 0, 1, 1),
    "buy": (0, 0, 0, 1),
    "dormant": (0, 1),
}
_REVIEWS_AFTER: Final[dict[Intent, tuple[int, ...]]] = {
    "browse": (0, 0, 1, 2),
    "compare": (0, 1, 2, 3),
    "buy": (0, 1, 1, 2),
    "dormant": (0,),
}
_INITIAL_CUMULATED: Final = tuple(accumulate(INITIAL_INTENT_MIX[intent] for intent in INTENTS))

_HEAD_START: Final = f'{{"schema_version":"{SCHEMA_VERSION}",'
_STORED_NOTHING: Final = ("", '"session_id":null,', '"session_id":"",')
"""Absent, null and empty: an SDK without storage may send any, and all mean the same."""


class Visitor:
    """A browser. Its identity, client and variant never change, its intent does."""

    __slots__ = ("channel", "ctx", "free_ms", "head", "intent", "intent_day", "stored_nothing", "variant")

    def __init__(self, rng: random.Random, day: int, stored_nothing: str | None, form: Form) -> None:
        self.intent: Intent = rng.choices(INTENTS, cum_weights=_INITIAL_CUMULATED)[0]
        self.intent_day = day
        self.variant: Variant = "A" if rng.random() < 0.5 else "B"
        self.channel = rng.choices(catalog.CHANNELS, cum_weights=catalog.CHANNEL_CUMULATED)[0]
        self.stored_nothing = stored_nothing
        self.free_ms = 0
        country, _, locales = rng.choices(catalog.COUNTRIES, cum_weights=catalog.COUNTRY_CUMULATED)[0]
        agent = rng.choices(catalog.USER_AGENTS, cum_weights=catalog.USER_AGENT_CUMULATED)[0][0]
        ads = ("true", "false", "null")[int(rng.random() * 3)]
        bits = rng.getrandbits(32)
        # Benchmarking and documentation ranges: no prefix belongs to anybody.
        prefix = f"2001:db8:{bits & 0xFFFF:x}::/48" if bits >> 30 == 0 else f"198.18.{bits & 0xFF}.0/24"
        sdk = catalog.SDK_VERSIONS[bits >> 8 & 3]
        user = f'"user_id_hash":"sha256:{rng.getrandbits(256):064x}","geo_country":"{country}"'
        metadata = f'"sdk_version":"{sdk}","experiment_keys":["{EXPERIMENT_KEY}"]'
        if form == "client":
            consent = f'"consent":{{"analytics":true,"ads":{ads}}}'
            self.head = f'{_HEAD_START}"user":{{{user},{consent}}},"metadata":{{{metadata}}},'
        else:
            privacy = f'"analytics":true,"ads":{ads},"source_ip_anonymized":"{prefix}"'
            metadata += f',"schema_hash":"{schema_hash()}"'
            self.head = (
                f'{_HEAD_START}"source":"web","privacy":{{{privacy}}},"user":{{{user}}},"metadata":{{{metadata}}},'
            )
        locale = locales[(bits >> 16) % len(locales)]
        self.ctx = f'"locale":"{locale}","user_agent":"{agent}","ab_variant":"{self.variant}"}}'

    def live_until(self, rng: random.Random, day: int) -> None:
        """Let the intent move for each day since the last look."""
        for _ in range(min(day - self.intent_day, MAX_SKIPPED_DAYS)):
            draw = rng.random()
            for intent, chance in DAILY_TRANSITIONS[self.intent]:
                if draw < chance:
                    self.intent = intent
                    break
                draw -= chance
        self.intent_day = max(day, self.intent_day)


class Step(NamedTuple):
    """One event of a visit, all but its times."""

    event_type: EventType
    gap_ms: int
    """Since the step before; 0 for the first."""
    tail: str
    """The end of the event's text."""
    id_bits: int
    payout_cents: int | None


class Visit:
    __slots__ = ("head", "intent", "number", "session_id", "steps", "visitor")

    def __init__(
        self, number: int, visitor: Visitor, session_id: str | None, head: str, intent: Intent, steps: list[Step]
    ) -> None:
        self.number = number
        self.visitor = visitor
        self.session_id = session_id
        self.head = head
        self.intent = intent
        self.steps = steps


class Population:
    """All visitors. Calls in the same order with the same arguments give the same visits."""

    def __init__(self, seed: int, missing_session: float, form: Form) -> None:
        self._form: Form = form
        self._rng = random.Random(f"{seed}:traffic")
        # Own generator: whether browsers store a session id must not change what their visitors do.
        self._storage_rng = random.Random(f"{seed}:storage")
        self._missing_session = missing_session
        self._pool: list[Visitor] = []
        self._visits = 0

    def visit(self, start_ms: int, limit: int) -> Visit:
        """The next visit, of at most ``limit`` steps. Call :meth:`ended` when it is over: till then, no other one
        of the same visitor begins."""
        rng = self._rng
        visitor = self._pick(start_ms)
        visitor.live_until(rng, start_ms // DAY_MS)
        visitor.free_ms = 1 << 62
        channel = visitor.channel
        if rng.random() < 0.25:
            channel = rng.choices(catalog.CHANNELS, cum_weights=catalog.CHANNEL_CUMULATED)[0]
        utm, query = channel.utms[int(rng.random() * len(channel.utms))]
        referrer = channel.referrers[int(rng.random() * len(channel.referrers))]
        session_id: str | None = f"sid_{rng.getrandbits(96):024x}"
        stored = f'"session_id":"{session_id}",'
        if visitor.stored_nothing is not None:
            session_id, stored = None, visitor.stored_nothing
        head = f'{visitor.head}"session":{{{stored}"utm":{utm}}},'
        steps = self._steps(visitor, referrer, query)[:limit]
        self._visits += 1
        return Visit(self._visits - 1, visitor, session_id, head, visitor.intent, steps)

    @staticmethod
    def ended(visit: Visit, last_ms: int) -> None:
        visit.visitor.free_ms = last_ms + REST_MS

    def _pick(self, now_ms: int) -> Visitor:
        rng, pool = self._rng, self._pool
        if pool and rng.random() >= P_NEW_VISITOR:
            for _ in range(4):
                # Squared: who came lately is more likely to return than who came long ago.
                visitor = pool[-1 - int(len(pool) * rng.random() ** 2)]
                if visitor.free_ms > now_ms:
                    continue
                visitor.live_until(rng, now_ms // DAY_MS)
                if visitor.intent != "dormant" or rng.random() < 0.15:
                    return visitor
        missing = self._storage_rng.random() < self._missing_session
        how = _STORED_NOTHING[int(self._storage_rng.random() * 3)] if missing else None
        visitor = Visitor(rng, now_ms // DAY_MS, how, self._form)
        if len(pool) < POOL_SIZE:
            pool.append(visitor)
        else:
            pool[int(len(pool) * rng.random())] = visitor
        return visitor

    def _steps(self, visitor: Visitor, referrer: str, query: str) -> list[Step]:
        rng = self._rng
        draw, getrandbits = rng.random, rng.getrandbits
        intent, ctx = visitor.intent, visitor.ctx
        compared = draw() < P_COMPARISON[intent]
        clicked = draw() < click_probability(intent, visitor.variant, compared=compared)
        fragments = catalog.chart_fragments()
        steps: list[Step] = []
        add = steps.append
        seq = 0
        page = middle = ""

        def open_page(url: str) -> None:
            nonlocal page, middle, referrer, seq
            if page:
                referrer = page
            page = url if seq else (url + query if "?" not in url else url)
            bits = getrandbits(148)
            middle = f'"page_view_id":"pv_{bits >> 84:016x}","ctx":{{"page_url":"{page}","referrer":"{referrer}",{ctx}'
            gap = _PAGE_GAPS[bits >> 74 & 1023] if seq else 0
            add(Step("page_view", gap, f'"seq":{seq},{middle}}}', bits & (1 << 74) - 1, None))
            seq += 1

        before = _PAGES_BEFORE[intent]
        pages = before[int(draw() * len(before))]
        for _ in range(pages if compared else max(pages, 1)):
            others = catalog.OTHER_PAGES if draw() < 0.6 else catalog.REVIEW_PAGES
            open_page(others[int(draw() * len(others))])
        if compared:
            open_page(catalog.COMPARISON_PAGES[getrandbits(3)])
            counts = _INTERACTIONS[intent]
            for _ in range(counts[int(draw() * len(counts))]):
                bits = getrandbits(94)
                tail = f'"seq":{seq},{middle}{fragments[bits >> 84]}}}'
                add(Step("chart_interaction", _CHART_GAPS[bits >> 74 & 1023], tail, bits & (1 << 74) - 1, None))
                seq += 1
        reviews = _REVIEWS_AFTER[intent]
        for _ in range(reviews[int(draw() * len(reviews))]):
            open_page(catalog.REVIEW_PAGES[int(draw() * len(catalog.REVIEW_PAGES))])
        if clicked:
            for _ in range(2 if draw() < 0.15 else 1):
                link = catalog.LINKS[int(draw() * len(catalog.LINKS))]
                bits = getrandbits(180)
                tail = f'"seq":{seq},"click_id":"clk_{bits >> 84:024x}",{middle}{link.fragment}}}'
                gap = _CLICK_GAPS[bits >> 74 & 1023]
                add(Step("affiliate_click", gap, tail, bits & (1 << 74) - 1, link.payout_cents))
                seq += 1
        return steps
