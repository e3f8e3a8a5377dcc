"""Dead letters, after a fix, through validation again and back to the topic of events.

A fix is a JSON Patch, or a newer contract, or only time that has passed (a clock that ran ahead). What is accepted now
says where it comes from (``metadata.replayed_from``: topic/partition/offset of its dead letter), which is how a replay
knows what was replayed before; nothing is ever deleted, and what is refused again stays where it is.

Belongs here: choosing dead letters, judging them again, sending. Does not belong here: the judging itself
(``admission`` for what the edge refused, ``transform.bronze`` for the rest), printing (``cli``).
"""

from __future__ import annotations

import copy
import fcntl
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import jsonpatch
import jsonpointer
import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from pyiceberg.expressions import And, GreaterThanOrEqual, LessThanOrEqual

from chart_platform.contracts.events import parse, well_formed
from chart_platform.contracts.feeds import events_feed
from chart_platform.contracts.tables import BRONZE_DEAD_LETTERS, BRONZE_EVENTS
from chart_platform.edge.admission import Accepted, Admission, Discarded
from chart_platform.edge.links import Links
from chart_platform.edge.records import Client, Record
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Lake
from chart_platform.lakehouse.progress import progress_of
from chart_platform.settings import Settings
from chart_platform.stream.clients import producer
from chart_platform.stream.offsets import TopicOffsets
from chart_platform.stream.planning import OffsetRange
from chart_platform.stream.reader import read_ranges
from chart_platform.transform.bronze import Decoder, refusals

Source = Literal["edge", "stream"]

_AT_ONCE = 500
_MOST_SAMPLES = 10
_FLUSH_SECONDS = 60.0
_NEEDED = {
    "add": {"value"},
    "replace": {"value"},
    "test": {"value"},
    "move": {"from"},
    "copy": {"from"},
    "remove": set[str](),
}
_LINEAGE = b"replayed_from"
_client = msgspec.json.Decoder(Client).decode


class ReplayError(RuntimeError):
    """The replay can't begin or go on. What was sent stays sent, and running it again sends none of that twice."""


@dataclass(frozen=True)
class Selection:
    """Which dead letters: of ingestion days ``first`` to ``last`` (both included), with any of ``reasons`` if given."""

    first: date
    last: date
    reasons: frozenset[str] = frozenset()
    source: Source | None = None


@dataclass(frozen=True)
class Letter:
    """A row of bronze.dead_letters. ``appended_ms`` is the broker's time of the refused message, epoch milliseconds."""

    source: Source
    topic: str
    partition: int
    offset: int
    appended_ms: int
    raw: bytes | None
    codes: tuple[str, ...]
    headers: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What ``metadata.replayed_from`` says of it."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True)
class Verdict:
    """What would become of a letter: a record to send, or why there is none."""

    record: Record | None = None
    refused: tuple[str, ...] = ()
    discarded: str | None = None
    patched: bool = False


@dataclass
class ReplayReport:
    """Letters by what became of them. ``refused`` and ``by_reason`` count a letter under each of its reasons.

    ``in_flight`` were sent before and are on their way to bronze. ``accepted`` were sent now, or would be in a dry run.
    """

    dry_run: bool = False
    selected: int = 0
    by_reason: Counter[str] = field(default_factory=Counter)
    already_replayed: int = 0
    in_flight: int = 0
    patched: int = 0
    accepted: int = 0
    still_refused: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    discarded: Counter[str] = field(default_factory=Counter)
    sample: list[dict[str, Any]] = field(default_factory=list)

    def note(self, letter: Letter, verdict: Verdict) -> None:
        """Count one judged letter. The sample has no content of it, as that may be personal."""
        self.patched += verdict.patched
        self.accepted += verdict.record is not None
        self.still_refused += bool(verdict.refused)
        self.refused.update(set(verdict.refused))
        if verdict.discarded is not None:
            self.discarded[verdict.discarded] += 1
        if len(self.sample) < _MOST_SAMPLES:
            outcome = "accepted" if verdict.record is not None else verdict.discarded or "refused"
            self.sample.append(
                {"letter": letter.name, "was": list(letter.codes), "is": list(verdict.refused), "outcome": outcome}
            )


def read_patch(path: Path) -> list[dict[str, Any]]:
    """The operations of a JSON Patch file (RFC 6902).

    Raises:
        ReplayError: it is none; says why.
    """
    try:
        operations = _numbers_kept(path.read_text())
        jsonpatch.JsonPatch(operations)
        # The library would notice only in the middle of a document.
        if incomplete := [o for o in operations if not _NEEDED[o["op"]] <= o.keys()]:
            raise ValueError(f"{incomplete[0]} lacks {', '.join(_NEEDED[incomplete[0]['op']] - incomplete[0].keys())}")
    except (OSError, ValueError, TypeError, jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        raise ReplayError(
            f"{path} is no JSON Patch: {error}. Expected a list such as "
            '[{"op": "replace", "path": "/user/country", "value": "DE"}].'
        ) from error
    return list(operations)


class Bench:
    """Judges dead letters again, as the first attempt would have been judged but for the fix."""

    def __init__(self, settings: Settings, patch: Sequence[dict[str, Any]] = ()) -> None:
        self._topic = settings.kafka_topic
        self._patch = patch
        self._admission = Admission(settings, Links.load(settings.edge_links))
        self._decoder = Decoder(settings, settings.kafka_topic, datetime.now(UTC).date())

    def judge(self, letters: Sequence[Letter]) -> list[Verdict]:
        """What would become of each letter."""
        verdicts = [
            self._at_the_edge(letter) if letter.source == "edge" else self._stamped(letter) for letter in letters
        ]
        streamed = [i for i, v in enumerate(verdicts) if letters[i].source == "stream" and v.record is not None]
        values = [record.value for i in streamed if (record := verdicts[i].record) is not None]
        for index, reasons in refusals(self._decoder, values).items():
            at = streamed[index]
            verdicts[at] = Verdict(refused=tuple(reason.code for reason in reasons), patched=verdicts[at].patched)
        return verdicts

    def _at_the_edge(self, letter: Letter) -> Verdict:
        if letter.raw is None:
            return Verdict(refused=("empty",))
        try:
            client = _client(letter.headers["context"])
            attempt = int(letter.headers.get("attempt") or 1)
        except (KeyError, TypeError, ValueError, msgspec.MsgspecError):
            return Verdict(refused=("no_context",))
        document = self._patched(letter.raw)
        raw = letter.raw if document is None else _text(document)
        found = self._admission.admit(raw, client, replayed_from=letter.name, attempt=attempt + 1)
        patched = document is not None
        if isinstance(found, Accepted):
            return Verdict(found.record, patched=patched)
        if isinstance(found, Discarded):
            return Verdict(discarded=found.why, patched=patched)
        return Verdict(refused=tuple(reason.code for reason in found.reasons), patched=patched)

    def _stamped(self, letter: Letter) -> Verdict:
        """A whole payload, as it was on the topic: with its lineage, and the time it was received at first."""
        if letter.raw is None:
            return Verdict(refused=("empty",))
        document = self._patched(letter.raw)
        patched = document is not None
        try:
            event = document if patched else _numbers_kept(letter.raw.decode())
        except UnicodeDecodeError:
            return Verdict(refused=("invalid_utf8",))
        except ValueError:
            return Verdict(refused=("invalid_json",))
        metadata = event.get("metadata") if isinstance(event, dict) else None
        if isinstance(event, dict) and isinstance(metadata, dict | None):
            event["metadata"] = (metadata or {}) | {"replayed_from": letter.name}
            if event.get("ingest_ts") is None:
                event["ingest_ts"] = letter.appended_ms
        return Verdict(Record(self._topic, _key(event), _text(event)), patched=patched)

    def _patched(self, raw: bytes) -> Any | None:
        """The event with the patch applied; None where there is none, or it can't be: a ``test`` or path fails."""
        if not self._patch:
            return None
        try:
            document = _numbers_kept(raw.decode())
            # A copy, as operations put their own values into the document, where the next ones may change them.
            return jsonpatch.apply_patch(document, copy.deepcopy(self._patch), in_place=True)
        except (ValueError, TypeError, KeyError, jsonpatch.JsonPatchException, jsonpointer.JsonPointerException):
            return None


def replay(
    settings: Settings,
    selection: Selection,
    patch: Sequence[dict[str, Any]] = (),
    rate: float = 0.0,
    dry_run: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> ReplayReport:
    """Judge the selected dead letters again and send what is accepted now, ``rate`` a second (0: as fast as it goes).

    Sends nothing that bronze holds already or that is on its way there, so it may be run again at any time, also after
    it was killed. ``on_progress`` is told how many of how many letters are done.

    Raises:
        ReplayError: another replay of this home is running, or Kafka didn't confirm what was sent.
    """
    report = ReplayReport(dry_run=dry_run)
    lake, bench = Lake(settings), Bench(settings, patch)
    with _alone(settings):
        # In this order: what bronze takes in between the two is then found twice, and not missed by both.
        in_flight = _in_flight(lake)
        replayed = _replayed(lake, selection.first)
        total = _count(lake, selection)
        sender = None if dry_run else _Sender(settings, rate)
        for letters in _letters(lake, selection):
            report.selected += len(letters)
            report.by_reason.update(code for letter in letters for code in set(letter.codes))
            report.already_replayed += sum(letter.name in replayed for letter in letters)
            report.in_flight += sum(letter.name in in_flight and letter.name not in replayed for letter in letters)
            left = [letter for letter in letters if letter.name not in replayed | in_flight]
            judged = list(zip(left, bench.judge(left), strict=True))
            too_large = sender.send(v.record for _, v in judged if v.record is not None) if sender else frozenset()
            for letter, verdict in judged:
                big = verdict.record is not None and id(verdict.record) in too_large
                report.note(letter, Verdict(refused=("too_large",), patched=verdict.patched) if big else verdict)
            if on_progress is not None:
                on_progress(report.selected, total)
    return report


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Two replays at once could both send a letter that neither has seen on the topic yet."""
    settings.edge_home.mkdir(parents=True, exist_ok=True)
    path = settings.edge_home / "replay.lock"
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ReplayError(f"Another replay holds {path}. Wait until it is done, then run this again.") from None
        yield


def _source(lake: Lake, selection: Selection) -> str:
    """SQL of the selected dead letters."""
    current = lake.load(BRONZE_DEAD_LETTERS)
    days = And(GreaterThanOrEqual("ingest_dt", selection.first), LessThanOrEqual("ingest_dt", selection.last))
    return f"""
        select * from {relation(current, BRONZE_DEAD_LETTERS, lake.files(current, days))}
        where ingest_dt between $first and $last and ($source is null or source = $source)
            and (len($reasons) = 0 or list_has_any(list_transform(reasons, lambda r: r.code), $reasons))
    """


def _parameters(selection: Selection) -> dict[str, Any]:
    return {
        "first": selection.first,
        "last": selection.last,
        "source": selection.source,
        "reasons": sorted(selection.reasons),
    }


def _count(lake: Lake, selection: Selection) -> int:
    connection = connect(lake.settings)
    counted = connection.execute(f"select count(*) from ({_source(lake, selection)})", _parameters(selection))
    (count,) = counted.fetchall()[0]
    connection.close()
    return int(count)


def _letters(lake: Lake, selection: Selection) -> Iterator[list[Letter]]:
    """The selected letters in the order of their offsets, some at once."""
    connection = connect(lake.settings)
    query = f"""
        select source, topic, kafka_partition as partition, kafka_offset as "offset", epoch_ms(kafka_ts) as appended_ms,
            raw, list_transform(reasons, lambda r: r.code) as codes, headers
        from ({_source(lake, selection)}) order by topic, kafka_partition, kafka_offset
    """
    for batch in connection.sql(query, params=_parameters(selection)).to_arrow_reader(_AT_ONCE):
        yield [
            Letter(**row | {"codes": tuple(row["codes"]), "headers": json.loads(row["headers"] or "{}")})
            for row in batch.to_pylist()
        ]
    connection.close()


def _replayed(lake: Lake, first: date) -> frozenset[str]:
    """Names of the letters that bronze has events of, or has refused again, since the day ``first``."""
    connection = connect(lake.settings)
    # A day more, as the brokers of two topics may disagree about midnight.
    since = GreaterThanOrEqual("ingest_dt", first - timedelta(days=1))
    events, letters = lake.load(BRONZE_EVENTS), lake.load(BRONZE_DEAD_LETTERS)
    source = relation(events, BRONZE_EVENTS, lake.files(events, since))
    names = {
        name
        for (name,) in connection.sql(
            f"select metadata.replayed_from as name from {source} where name is not null"
        ).fetchall()
    }
    source = relation(letters, BRONZE_DEAD_LETTERS, lake.files(letters, since))
    again = connection.execute(
        f"select raw from {source} as t where {events_feed(lake.settings).own(BRONZE_DEAD_LETTERS)} "
        f"and contains(cast(raw as varchar), '{_LINEAGE.decode()}')"
    ).fetchall()
    connection.close()
    return frozenset(names | set(_names(raw for (raw,) in again)))


def _in_flight(lake: Lake) -> frozenset[str]:
    """Names of the letters that were replayed to the topic and that bronze hasn't taken in yet."""
    settings = lake.settings
    progress = progress_of(lake.load(BRONZE_EVENTS))
    offsets = TopicOffsets(settings)
    earliest, latest = offsets.earliest(), offsets.latest()
    committed = progress.offsets if progress else {}
    starts = {p: max(committed.get(p, 0), earliest[p]) for p in latest}
    ranges = [OffsetRange(p, start, latest[p]) for p, start in starts.items() if start < latest[p]]
    chunks = read_ranges(settings, settings.kafka_topic, ranges, chunk_messages=5_000)
    return frozenset(name for chunk in chunks for name in _names(chunk.values))


def _names(values: Iterable[bytes | None]) -> Iterator[str]:
    for value in values:
        if value is None or _LINEAGE not in value:
            continue
        try:
            name = parse(value)["metadata"]["replayed_from"]
        except (ValueError, TypeError, KeyError):
            continue
        if isinstance(name, str):
            yield name


class _Sender:
    """Sends records at no more than a rate and waits for the broker to confirm each."""

    def __init__(self, settings: Settings, rate: float) -> None:
        self._producer: Producer = producer(settings)
        self._rate = rate
        self._began = time.monotonic()
        self._sent = 0
        self._failed: KafkaError | None = None

    def send(self, records: Iterable[Record]) -> frozenset[int]:
        """Send and await all; the ids of the records that are larger than the topic takes.

        Raises:
            ReplayError: the broker did not confirm one of them.
        """
        too_large: set[int] = set()
        for record in records:
            self._pace()
            try:
                self._produce(record)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
                    raise
                too_large.add(id(record))
        left = self._producer.flush(_FLUSH_SECONDS)
        if left or self._failed is not None:
            why = self._failed.str() if self._failed is not None else f"{left} unconfirmed after {_FLUSH_SECONDS:g} s"
            raise ReplayError(
                f"Kafka did not take all that was sent: {why}. Run the same command again when the broker is well: what "
                "arrived isn't sent twice."
            )
        return frozenset(too_large)

    def _produce(self, record: Record) -> None:
        while True:
            try:
                self._producer.produce(
                    record.topic, record.value, record.key, headers=list(record.headers), on_delivery=self._delivered
                )
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(0.1)

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        self._failed = self._failed or error

    def _pace(self) -> None:
        if self._rate > 0:
            ahead = self._began + self._sent / self._rate - time.monotonic()
            if ahead > 0:
                self._producer.poll(0)
                time.sleep(ahead)
        self._sent += 1


class _Number(Decimal):
    """A number that keeps its text: 1.10 stays 1.10, which a control's value is shown and stored as."""

    text: str

    def __deepcopy__(self, _memo: Any) -> _Number:
        return self


def _number(text: str) -> _Number:
    number = _Number(text)
    number.text = text
    return number


def _integer(text: str) -> int | _Number:
    # An encoder takes 64 bits, and Python's int has no minus zero.
    return int(text) if len(text) < 19 and text != "-0" else _number(text)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _numbers_kept(text: str) -> Any:
    """Parse JSON as ``contracts.events.parse`` does, but with numbers that are written as they were read."""
    try:
        return well_formed(json.loads(text, parse_float=_number, parse_int=_integer, parse_constant=_refuse_constant))
    except RecursionError:
        raise ValueError("nested too deep") from None


def _raw_number(number: Any) -> msgspec.Raw:
    return msgspec.Raw(number.text.encode())


_text = msgspec.json.Encoder(enc_hook=_raw_number).encode


def _key(event: Any) -> bytes | None:
    """The partition key of an event: its session, else its id."""
    if not isinstance(event, dict):
        return None
    session = event.get("session")
    found = (session.get("session_id") if isinstance(session, dict) else None) or event.get("event_id")
    return found.encode() if isinstance(found, str) else None
