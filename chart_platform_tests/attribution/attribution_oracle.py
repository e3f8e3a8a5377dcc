"""What the attribution should hold, in plain Python: rows of visits, clicks and conversions to rows of every table.

Belongs here: the definitions of docs/attribution.md, written for reading, with fractions. Does not belong here: anything
of the code under test but its declarations.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from fractions import Fraction
from itertools import groupby, pairwise, permutations
from typing import Any

from chart_platform.settings import Settings

Row = dict[str, Any]
MILLION, BILLION = 1_000_000, 1_000_000_000


def largest_remainders(amount: int, weights: Sequence[Fraction]) -> list[int]:
    exact = [abs(amount) * weight / sum(weights) for weight in weights]
    parts = [int(share) for share in exact]
    order = sorted(range(len(weights)), key=lambda n: (parts[n] - exact[n], n))
    for n in order[: abs(amount) - sum(parts)]:
        parts[n] += 1
    return [part if amount >= 0 else -part for part in parts]


def _visitor(visit: Row) -> str:
    return f"u{visit['user_id_hash']}" if visit["user_id_hash"] is not None else f"s{visit['session_id']}"


def _order(visit: Row) -> tuple[datetime, str]:
    return visit["session_start_ts"], visit["session_id"]


class Oracle:
    """All tables of the attribution, from all rows of its sources."""

    def __init__(
        self, settings: Settings, visits: Iterable[Row], clicks: Iterable[Row], conversions: Iterable[Row]
    ) -> None:
        self.settings = settings
        self.clicks = list(clicks)
        self.reports: dict[tuple[str, date], list[Row]] = defaultdict(list)
        for report in conversions:
            if report["match"] == "matched":
                self.reports[report["click_event_id"], report["click_dt"]].append(report)
        self.of_visitor: dict[str, list[Row]] = defaultdict(list)
        self.named: dict[str, list[Row]] = defaultdict(list)
        for visit in sorted(visits, key=_order):
            self.of_visitor[_visitor(visit)].append(visit)
            self.named[visit["session_id"]].append(visit)
        self.lookback = max(
            timedelta(days=settings.attribution_lookback_days), timedelta(hours=settings.session_cap_hours)
        )

    def _visit_of(self, click: Row) -> Row | None:
        for visit in self.named.get(click["session_id"], []):
            if visit["session_start_ts"] <= click["ts"] <= visit["session_end_ts"]:
                return visit
        return None

    def _visits_before(self, visitor: str, moment: datetime) -> list[Row]:
        return [v for v in self.of_visitor[visitor] if moment - self.lookback <= v["session_start_ts"] <= moment]

    def journeys(self) -> dict[date, Counter[tuple[tuple[str, ...], bool]]]:
        """By day: path and whether it converted, as often as they are."""
        first_click: dict[tuple[str, date], datetime | None] = {}
        for visitor, visits in self.of_visitor.items():
            for visit in visits:
                first_click[visitor, visit["event_dt"]] = None
        for click in self.clicks:
            visit = self._visit_of(click)
            if visit is not None:
                key = _visitor(visit), click["event_dt"]
                first_click[key] = min(first_click.get(key) or click["ts"], click["ts"])
        found: dict[date, Counter[tuple[tuple[str, ...], bool]]] = defaultdict(Counter)
        for (visitor, day), moment in first_click.items():
            end = moment or datetime.combine(day, time.max)
            channels = [visit["channel"] for visit in self._visits_before(visitor, end)]
            if self.settings.attribution_collapse == "unique":
                channels = [c for n, c in enumerate(channels) if c not in channels[n + 1 :]]
            path = tuple(channel for channel, _ in groupby(channels))
            found[day][path, moment is not None] += 1
        return found

    def journey_rows(self) -> list[Row]:
        return [
            {
                "path": " > ".join(path),
                "journeys": paths[path, True] + paths[path, False],
                "converted": paths[path, True],
                "event_dt": day,
            }
            for day, paths in self.journeys().items()
            for path in {path for path, _ in paths}
        ]

    def weight_rows(self) -> list[Row]:
        journeys = self.journeys()
        rows = []
        for day in journeys:
            window: Counter[tuple[tuple[str, ...], bool]] = Counter()
            for back in range(self.settings.attribution_training_days):
                window += journeys.get(day - timedelta(days=back), Counter())
            for model, effects in (("markov", removal_effects(window)), ("shapley", shapley_values(window))):
                channels = sorted(effects)
                positive = [max(effects[c], Fraction(0)) for c in channels]
                if not any(positive):
                    continue
                for channel, weight in zip(channels, largest_remainders(BILLION, positive), strict=True):
                    with_it = {key: n for key, n in window.items() if channel in key[0]}
                    rows.append(
                        {
                            "model": model,
                            "channel": channel,
                            "weight_ppb": weight,
                            "effect_ppb": round(effects[channel] * BILLION),
                            "journeys": sum(with_it.values()),
                            "converted": sum(n for (_, converted), n in with_it.items() if converted),
                            "event_dt": day,
                        }
                    )
        return rows

    def fact_rows(self) -> list[Row]:
        weights: dict[tuple[str, date], dict[str, int]] = defaultdict(dict)
        for row in self.weight_rows():
            weights[row["model"], row["event_dt"]][row["channel"]] = row["weight_ppb"]
        rows = []
        there = {(click["event_id"], click["event_dt"]) for click in self.clicks}
        lost = {
            key: {"event_id": key[0], "ts": reports[0]["click_ts"], "event_dt": key[1], "session_id": None}
            for key, reports in self.reports.items()
            if key not in there
        }
        for click in [*self.clicks, *lost.values()]:
            own = self._visit_of(click)
            path: list[Row | None] = [*self._path(own, click)] if own is not None else [None]
            day = click["event_dt"]
            divisions = self._divisions(path, weights["markov", day], weights["shapley", day])
            conversions = []
            if (click["event_id"], day) in there:
                conversions = [("click", click["event_id"], click["payout_cents"] or 0, self.settings.payout_currency)]
            conversions += [
                ("report", f"{r['network']}/{r['transaction_id']}", r["due_cents"], r["currency"])
                for r in self.reports[click["event_id"], day]
            ]
            for kind, identity, amount, currency in conversions:
                cents = {model: largest_remainders(amount, shares) for model, shares in divisions.items()}
                parts = {model: largest_remainders(MILLION, shares) for model, shares in divisions.items()}
                for n, visit in enumerate(path):
                    rows.append(
                        {
                            "kind": kind,
                            "conversion_id": identity,
                            "touch": n + 1,
                            "touches": len(path),
                            "conversion_ts": click["ts"],
                            "amount_cents": amount,
                            "currency": currency,
                            "session_id": visit["session_id"] if visit else None,
                            "channel": visit["channel"] if visit else "(unknown)",
                            **{f"{model}_cents": cents[model][n] for model in divisions},
                            **{f"{model}_share": parts[model][n] for model in divisions},
                            "event_dt": day,
                        }
                    )
        return rows

    def _path(self, own: Row, click: Row) -> list[Row]:
        visits = self._visits_before(_visitor(own), click["ts"])
        after: Mapping[str, Callable[[int], list[Row]]] = {
            "none": lambda _: [],
            "consecutive": lambda n: visits[n + 1 : n + 2],
            "unique": lambda n: visits[n + 1 :],
        }
        later = after[self.settings.attribution_collapse]
        return [v for n, v in enumerate(visits) if v["channel"] not in {w["channel"] for w in later(n)}]

    def _divisions(
        self, path: Sequence[Row | None], markov: Mapping[str, int], shapley: Mapping[str, int]
    ) -> dict[str, list[Fraction]]:
        """The shares that each model gives to the touchpoints of a path."""
        n = len(path)
        channels = [visit["channel"] if visit else "(unknown)" for visit in path]

        def only(place: int) -> list[Fraction]:
            return [Fraction(int(i == place)) for i in range(n)]

        def of_channels(weights: Mapping[str, int]) -> list[Fraction]:
            counts = Counter(channels)
            # In millionths of a billionth, as a channel's weight is split among its touchpoints in whole numbers.
            shares = [Fraction(weights.get(c, 0) * MILLION // counts[c]) for c in channels]
            return shares if any(shares) else [Fraction(1)] * n

        indirect = [i for i, channel in enumerate(channels) if channel != "Direct"]
        middle = [Fraction(2, 5), *[Fraction(1, 5) / (n - 2) if n > 2 else Fraction(0)] * (n - 2), Fraction(2, 5)]
        position = {1: [Fraction(1)], 2: [Fraction(1, 2)] * 2}.get(n, middle)
        half_life_ms = timedelta(days=self.settings.attribution_half_life_days) / timedelta(milliseconds=1)
        decay = [self._decayed(v, path[-1], half_life_ms) for v in path]
        return {
            "first_touch": only(0),
            "last_touch": only(n - 1),
            "last_non_direct": only(indirect[-1] if indirect else n - 1),
            "linear": [Fraction(1)] * n,
            "position_based": position,
            "time_decay": decay,
            "markov": of_channels(markov),
            "shapley": of_channels(shapley),
        }

    @staticmethod
    def _decayed(visit: Row | None, last: Row | None, half_life_ms: float) -> Fraction:
        if visit is None or last is None:
            return Fraction(1)
        age_ms = (last["session_start_ts"] - visit["session_start_ts"]) // timedelta(milliseconds=1)
        return Fraction(int(BILLION * 2.0 ** (-age_ms / half_life_ms) + 0.5))

    def daily_rows(self) -> list[tuple[Any, ...]]:
        """(day, kind, model, channel, currency), conversions_millionths, amount_cents."""
        sums: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0])
        for row in self.fact_rows():
            for name in [key.removesuffix("_share") for key in row if key.endswith("_share")]:
                total = sums[row["event_dt"], row["kind"], name, row["channel"], row["currency"]]
                total[0] += row[f"{name}_share"]
                total[1] += row[f"{name}_cents"]
        return [(*key, *total) for key, total in sums.items() if any(total)]


Window = Mapping[tuple[tuple[str, ...], bool], int]


def removal_effects(window: Window) -> dict[str, Fraction]:
    """Share of conversions lost when every step into a channel leads nowhere, by Gauss' elimination on fractions."""
    steps: Counter[tuple[str, str]] = Counter()
    for (path, converted), count in window.items():
        for origin, target in pairwise(("start", *path, "won" if converted else "lost")):
            steps[origin, target] += count
    channels = sorted({channel for path, _ in window for channel in path})

    def won(gone: str | None) -> Fraction:
        states = ["start", *(c for c in channels if c != gone)]
        leaving = {s: sum(n for (origin, _), n in steps.items() if origin == s) for s in states}
        rows = [
            [
                *(Fraction(int(s == t)) - Fraction(steps[s, t], leaving[s]) for t in states),
                Fraction(steps[s, "won"], leaving[s]),
            ]
            for s in states
        ]
        for k in range(len(states)):
            swap = next(i for i in range(k, len(states)) if rows[i][k])
            rows[k], rows[swap] = rows[swap], rows[k]
            rows[k] = [value / rows[k][k] for value in rows[k]]
            for i in range(len(states)):
                if i != k:
                    rows[i] = [a - rows[i][k] * b for a, b in zip(rows[i], rows[k], strict=True)]
        return rows[0][-1]

    if not any(converted for _, converted in window):
        return {}
    return {channel: 1 - won(channel) / won(None) for channel in channels}


def shapley_values(window: Window) -> dict[str, Fraction]:
    """Average gain of a channel over all orders in which channels can join, as shares of the conversions."""
    journeys: Counter[frozenset[str]] = Counter()
    conversions: Counter[frozenset[str]] = Counter()
    for (path, converted), count in window.items():
        journeys[frozenset(path)] += count
        conversions[frozenset(path)] += count * converted
    channels = sorted(frozenset().union(*journeys))

    def worth(coalition: frozenset[str]) -> Fraction:
        kept = Counter[frozenset[str]]()
        for together, count in journeys.items():
            kept[together & coalition] += count
        return sum(
            (Fraction(conversions[rest], journeys[rest]) * n for rest, n in kept.items() if journeys[rest]), Fraction(0)
        )

    if not sum(conversions.values()):
        return {}
    values = dict.fromkeys(channels, Fraction(0))
    orders = list(permutations(channels))
    for order in orders:
        for n, channel in enumerate(order):
            values[channel] += worth(frozenset(order[: n + 1])) - worth(frozenset(order[:n]))
    return {c: value / len(orders) / sum(conversions.values()) for c, value in values.items()}
