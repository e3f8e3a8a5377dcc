"""The outlet between a real Kafka and a real disk: what it has called durable is in one of them, whatever fails."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from chart_platform.edge import outlet as outlet_module
from chart_platform.edge import spill as spill_module
from chart_platform.edge.outlet import Outlet, Unavailable
from chart_platform.edge.records import Record
from chart_platform.edge.spill import Spill, frame, parse
from chart_platform.settings import Settings
from chart_platform.stream.clients import consumer
from chart_platform.stream.topics import ensure_topics
from chart_platform_tests.conftest import KafkaTopics
from chart_platform_tests.edge.flaky_kafka import FlakyKafka

pytestmark = pytest.mark.kafka

Sent = list[tuple[bytes | None, bytes]]


@pytest.fixture
def broken(kafka_topics: KafkaTopics) -> Iterator[tuple[FlakyKafka, Settings]]:
    """A way to Kafka that can fail, and settings that go it; ``delivery timeout`` is short."""
    settings = kafka_topics(edge_delivery_timeout_ms=400, kafka_partitions=2)
    with FlakyKafka(int(settings.bootstrap_servers.rpartition(":")[2])) as way:
        yield way, settings.model_copy(update={"kafka_bootstrap_servers": f"127.0.0.1:{way.port}"})


@asynccontextmanager
async def running(settings: Settings, name: str = "0", grace: float = 5) -> AsyncIterator[Outlet]:
    outlet = Outlet(settings, settings.edge_home / "spill" / name)
    await outlet.start()
    try:
        yield outlet
    finally:
        await outlet.close(grace)


def records(settings: Settings, numbers: Sequence[int], keys: int = 3) -> list[Record]:
    return [Record(settings.kafka_topic, b"key %d" % (n % keys), b"%d" % n) for n in numbers]


def topic(settings: Settings, name: str | None = None) -> Sent:
    """All (key, value) of a topic, a partition after the other, read without the proxy."""
    found: Sent = []
    reader = consumer(settings)
    partitions = reader.list_topics(name or settings.kafka_topic).topics[name or settings.kafka_topic].partitions
    for partition in partitions:
        place = TopicPartition(name or settings.kafka_topic, partition, 0)
        _, end = reader.get_watermark_offsets(place)
        reader.assign([place])
        at = 0
        while at < end:
            for message in reader.consume(min(1_000, end - at), timeout=1):
                assert message.error() is None
                found.append((message.key(), message.value()))
                at = message.offset() + 1
    reader.close()
    return found


def numbers_by_key(sent: Sent) -> dict[bytes | None, list[int]]:
    """The numbers of each key in the order of their first arrival."""
    order: dict[bytes | None, dict[int, None]] = defaultdict(dict)
    for key, value in sent:
        order[key].setdefault(int(value))
    return {key: list(numbers) for key, numbers in order.items()}


async def until(condition: Callable[[], Any], patience: float = 30) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0.01)


def spilled(settings: Settings, name: str = "0") -> list[int]:
    """What the spill holds, looked at from outside."""
    content = b"".join(file.read_bytes() for file in sorted((settings.edge_home / "spill" / name).glob("*.seg")))
    found, _, damage = parse(content, 1_000_000, whole=True)
    assert not damage
    return [int(record.value) for record in found]


def test_what_is_submitted_is_in_kafka_when_the_future_is_done(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics()
    event = Record(settings.kafka_topic, b"session", b"event")
    dead = Record(settings.kafka_dlq_topic, None, b"dead", (("reasons", b"[]"), ("attempt", b"1")))

    async def go() -> None:
        async with running(settings) as outlet:
            await outlet.submit([event, dead])
            assert topic(settings) == [(b"session", b"event")]
            assert topic(settings, settings.kafka_dlq_topic) == [(None, b"dead")]
            assert outlet.state == "kafka"
            assert (outlet.figures()["delivered"], outlet.figures()["spilled"]) == (2, 0)
            await outlet.submit([])

    asyncio.run(go())
    reader = consumer(settings)
    reader.assign([TopicPartition(settings.kafka_dlq_topic, n, 0) for n in range(settings.kafka_partitions)])
    (message,) = reader.consume(1, timeout=10)
    assert message.headers() == list(dead.headers)
    reader.close()


def test_many_submits_at_once_are_each_answered_and_keep_the_order_of_their_keys(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics()

    async def go() -> None:
        async with running(settings) as outlet:
            await asyncio.gather(*[outlet.submit(records(settings, range(n, n + 5), 7)) for n in range(0, 5_000, 5)])

    asyncio.run(go())
    sent = topic(settings)
    assert len(sent) == 5_000
    assert numbers_by_key(sent) == {b"key %d" % k: list(range(k, 5_000, 7)) for k in range(7)}


def test_a_spilled_record_is_on_the_disk_when_its_future_is_done_and_soon_in_kafka(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics()

    async def go() -> None:
        async with running(settings) as outlet:
            await outlet.spill(records(settings, [1]))
            assert spilled(settings) == [1]
            await until(lambda: outlet.figures()["drained"] == 1)
            assert topic(settings) == [(b"key 1", b"1")]
            assert outlet.figures()["backlog_records"] == outlet.figures()["backlog_bytes"] == 0
            assert outlet.state == "kafka"

    asyncio.run(go())
    assert not list((settings.edge_home / "spill" / "0").glob("*.seg"))


@pytest.mark.parametrize("outage", ["cut", "stall", "mute"])
def test_an_outage_loses_nothing_and_no_record_overtakes_an_earlier_one_of_its_key(
    broken: tuple[FlakyKafka, Settings], outage: str
) -> None:
    way, settings = broken
    acknowledged: list[int] = []

    async def go() -> None:
        async with running(settings) as outlet:
            over = False

            async def client(key: int) -> None:
                # One at a time, as a browser does: what comes later was sent when the earlier was acknowledged.
                number = key
                while not over:
                    await outlet.submit(records(settings, [number], 20))
                    acknowledged.append(number)
                    number += 20

            clients = [asyncio.create_task(client(key)) for key in range(20)]
            await until(lambda: len(acknowledged) > 200)
            getattr(way, outage)()
            await until(lambda: outlet.state == "spill")
            in_outage = len(acknowledged)
            await until(lambda: len(acknowledged) > in_outage + 500)
            assert outlet.figures()["backlog_records"] >= 500
            way.mend()
            await until(lambda: outlet.state == "kafka")
            delivered = outlet.figures()["delivered"]
            await until(lambda: outlet.figures()["delivered"] > delivered + 200)
            over = True
            await asyncio.gather(*clients)
            await until(lambda: outlet.figures()["backlog_bytes"] == 0)

    asyncio.run(go())
    sent = topic(settings)
    assert set(acknowledged) == {int(value) for _, value in sent}
    for key, numbers in numbers_by_key(sent).items():
        assert numbers == sorted(numbers), key


def test_it_starts_and_accepts_without_a_broker_and_sends_when_there_is_one(
    broken: tuple[FlakyKafka, Settings],
) -> None:
    way, settings = broken
    way.cut()

    async def go() -> None:
        async with running(settings) as outlet:
            await outlet.submit(records(settings, range(10)))
            assert outlet.state == "spill"
            assert spilled(settings) == list(range(10))
            await asyncio.wait_for(outlet.submit(records(settings, range(10, 12))), 5)
            way.mend()
            await until(lambda: outlet.state == "kafka" and outlet.figures()["backlog_bytes"] == 0)
            await outlet.submit(records(settings, [12]))
            assert outlet.figures()["delivered"] == 1

    asyncio.run(go())
    assert {int(value) for _, value in topic(settings)} == set(range(13))


def test_it_accepts_while_the_topics_are_missing_and_sends_when_they_are_made(kafka: Settings, tmp_path: Path) -> None:
    name = f"missing.{os.urandom(4).hex()}"
    settings = kafka.model_copy(
        update={
            "home": tmp_path, "kafka_topic": name, "kafka_dlq_topic": f"{name}.dlq", "edge_delivery_timeout_ms": 400,
        }
    )  # fmt: skip

    async def go() -> None:
        async with running(settings) as outlet:
            await outlet.submit(records(settings, range(10)))
            assert outlet.state == "spill"
            await asyncio.to_thread(ensure_topics, settings)
            await until(lambda: outlet.state == "kafka" and outlet.figures()["backlog_bytes"] == 0)

    asyncio.run(go())
    assert {int(value) for _, value in topic(settings)} == set(range(10))


def test_a_key_with_a_backlog_queues_behind_it_while_others_go_straight(
    kafka_topics: KafkaTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = kafka_topics(kafka_partitions=1)

    async def go() -> None:
        async with running(settings) as outlet:
            held = asyncio.Event()
            send_on = outlet._send_on

            async def wait(window: spill_module.Window) -> bool:
                await held.wait()
                return await send_on(window)

            monkeypatch.setattr(outlet, "_send_on", wait)
            await outlet.spill(records(settings, [0], 2))
            await outlet.submit(records(settings, [1, 2, 3, 4], 2))
            assert [int(value) for _, value in topic(settings)] == [1, 3]
            assert spilled(settings) == [0, 2, 4]
            held.set()
            await until(lambda: outlet.figures()["backlog_bytes"] == 0)
            await outlet.submit(records(settings, [6], 2))

    asyncio.run(go())
    assert [int(value) for _, value in topic(settings)] == [1, 3, 0, 2, 4, 6]


def test_a_full_spill_refuses_with_a_time_to_come_back_and_keeps_what_it_acknowledged(
    broken: tuple[FlakyKafka, Settings],
) -> None:
    way, settings = broken
    settings = settings.model_copy(update={"edge_spill_max_bytes": 1024 * 1024})
    way.cut()
    acknowledged: list[int] = []

    def large(number: int) -> list[Record]:
        return [Record(settings.kafka_topic, b"key", b"%d" % number + b" " * 40_000)]

    async def go() -> None:
        async with running(settings) as outlet:
            for number in range(100):
                try:
                    await outlet.submit(large(number))
                except Unavailable as error:
                    assert error.retry_after_seconds > 0
                    break
                acknowledged.append(number)
            assert outlet.state == "full"
            assert 20 < len(acknowledged) < 27
            with pytest.raises(Unavailable):
                await outlet.spill(large(100))
            assert outlet.figures()["unavailable"] == 2
            assert spilled(settings) == acknowledged
            way.mend()
            await until(lambda: outlet.state == "kafka" and outlet.figures()["backlog_bytes"] == 0)
            await outlet.submit(large(200))
            acknowledged.append(200)

    asyncio.run(go())
    assert set(acknowledged) == {int(value) for _, value in topic(settings)}


def test_a_disk_that_fails_during_an_outage_makes_it_full_until_kafka_is_back(
    broken: tuple[FlakyKafka, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    way, settings = broken

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    async def go() -> None:
        async with running(settings) as outlet:
            await outlet.submit(records(settings, [0]))
            way.cut()
            monkeypatch.setattr(spill_module.os, "fdatasync", fail)
            with pytest.raises(Unavailable, match="Input/output error"):
                await outlet.submit(records(settings, [1]))
            assert outlet.state == "full"
            way.mend()
            await until(lambda: outlet.state == "kafka")
            await outlet.submit(records(settings, [2]))

    asyncio.run(go())
    assert {0, 2} <= {int(value) for _, value in topic(settings)}


def test_a_full_producer_queue_overflows_to_the_spill_and_blocks_nobody(
    kafka_topics: KafkaTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet_module, "_QUEUE_MESSAGES", 100)
    settings = kafka_topics()

    async def go() -> None:
        async with running(settings) as outlet:
            await asyncio.gather(*[outlet.submit(records(settings, range(n, n + 150))) for n in range(0, 1_500, 150)])
            assert outlet.figures()["spilled"] > 1_000
            assert outlet.figures()["outages"] == 0
            await until(lambda: outlet.figures()["backlog_bytes"] == 0)

    asyncio.run(go())
    sent = topic(settings)
    assert len(sent) == 1_500, "an overflow doubles nothing"
    assert numbers_by_key(sent) == {b"key %d" % k: list(range(k, 1_500, 3)) for k in range(3)}


def test_a_producer_that_failed_for_good_is_replaced_and_nothing_is_lost(broken: tuple[FlakyKafka, Settings]) -> None:
    way, settings = broken
    way.fail_producers_for_good(2)

    async def go() -> None:
        async with running(settings) as outlet:
            await outlet.submit(records(settings, range(10)))
            assert outlet.state == "spill"
            await until(lambda: outlet.state == "kafka" and outlet.figures()["backlog_bytes"] == 0)
            assert outlet.figures()["producers"] == 3
            await outlet.submit(records(settings, range(10, 20)))
            assert outlet.figures()["delivered"] == 10

    asyncio.run(go())
    assert {int(value) for _, value in topic(settings)} == set(range(20))


def test_a_record_that_kafka_never_takes_is_set_aside_and_holds_up_no_other(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics()
    # Does not compress below the topic's limit.
    monster = Record(settings.kafka_topic, b"key 0", os.urandom(3 * 1024 * 1024))

    async def go() -> None:
        async with running(settings) as outlet:
            await outlet.submit([*records(settings, range(5)), monster, *records(settings, range(5, 10))])
            await outlet.submit(records(settings, [10]))
            await until(lambda: outlet.figures()["backlog_bytes"] == 0)
            assert outlet.figures()["refused_by_kafka"] == 1
            assert outlet.state == "kafka"

    asyncio.run(go())
    assert {int(value) for _, value in topic(settings)} == set(range(11))
    kept = (settings.edge_home / "spill" / "0" / "refused.bin").read_bytes()
    assert parse(kept, 10, whole=True)[0] == [monster]


def test_closing_spills_what_kafka_has_not_confirmed_and_the_next_start_sends_it(
    broken: tuple[FlakyKafka, Settings],
) -> None:
    way, settings = broken
    slow = settings.model_copy(update={"edge_delivery_timeout_ms": 60_000})

    async def shut_down() -> None:
        outlet = Outlet(slow, settings.edge_home / "spill" / "0")
        await outlet.start()
        await outlet.submit(records(settings, [0]))
        way.stall()
        waiting = [outlet.submit(records(settings, [n])) for n in range(1, 50)]
        await outlet.close(0.2)
        assert all(future.done() and future.exception() is None for future in waiting)
        with pytest.raises(Unavailable):
            await outlet.submit(records(settings, [100]))
        with pytest.raises(Unavailable):
            await outlet.spill(records(settings, [100]))

    async def start_again() -> None:
        async with running(settings) as outlet:
            await until(lambda: outlet.figures()["backlog_bytes"] == 0)

    asyncio.run(shut_down())
    assert spilled(settings) == list(range(1, 50))
    way.mend()
    asyncio.run(start_again())
    assert set(range(50)) == {int(value) for _, value in topic(settings)}


def test_closing_waits_for_kafka_within_the_grace(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics()

    async def go() -> None:
        async with running(settings) as outlet:
            outlet.submit(records(settings, range(1_000)))
            outlet.spill(records(settings, range(1_000, 1_100)))

    asyncio.run(go())
    assert sorted(int(value) for _, value in topic(settings)) == list(range(1_100))
    assert spilled(settings) == []


def test_what_a_dead_process_left_in_a_directory_beside_is_sent(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics()
    left = Spill(settings.edge_home / "spill" / "1", 1024 * 1024)
    left.append(b"".join(map(frame, records(settings, range(100)))))
    os.close(left._lock)

    async def go() -> None:
        async with running(settings) as outlet:
            await until(lambda: outlet.figures()["backlog_bytes"] == 0)

    asyncio.run(go())
    assert sorted(int(value) for _, value in topic(settings)) == list(range(100))


def test_a_client_that_went_away_disturbs_nobody(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics()

    async def go() -> None:
        async with running(settings) as outlet:
            gone, stays, at_the_disk = (
                outlet.submit(records(settings, [0])),
                outlet.submit(records(settings, [1])),
                outlet.spill(records(settings, [2])),
            )
            gone.cancel()
            at_the_disk.cancel()
            await stays
            await until(lambda: outlet.figures()["backlog_bytes"] == 0)

    asyncio.run(go())
    assert Counter(int(value) for _, value in topic(settings)) == {0: 1, 1: 1, 2: 1}
