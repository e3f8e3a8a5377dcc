"""Postbacks over real HTTP: who may, what is kept, durable before it is answered, counted once in gold."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from chart_platform.contracts.tables import CONVERSION_REJECTS, CONVERSION_REPORTS, FACT_CONVERSIONS
from chart_platform.conversions.intake import take_in
from chart_platform.edge import keys
from chart_platform.edge.http import Refused
from chart_platform.edge.postbacks import Journal
from chart_platform.quality.schemas import audit
from chart_platform.settings import Settings
from chart_platform_tests.conversions.conversion_world import World
from chart_platform_tests.edge.collecting import Collecting, event, until

CALL = {"tx": "sale-4711", "sub": "click-0815", "state": "approved", "amount": "92.00"}
SECRETS = {"email": "buyer@example.org", "ip": "203.0.113.7"}


class Calling(Collecting):
    """A collector without Kafka, which postbacks don't need, with the key of network ``plain``."""

    def __init__(self, world: World, **settings: Any) -> None:
        self.world = world
        # Nobody listens there.
        away = {"kafka_bootstrap_servers": "127.0.0.1:9", "edge_unready_seconds": 0.0, **settings}
        given = world.settings.model_dump(exclude_unset=True) | away
        super().__init__(Settings(**given))
        self.key, self.secret = keys.create(self.keys, "plain", "network", "plain")

    @property
    def keys(self) -> Path:
        return keys.keys_file(self.settings)

    def call(self, network: str = "plain", secret: str | None = None, **parameters: str) -> httpx.Response:
        given = {"key": secret or self.secret} | (parameters or CALL)
        return self.client.get(f"/v1/postbacks/{network}", params=given)

    def taken(self) -> World:
        """The world after all that was acknowledged has been taken in to gold."""
        take_in(self.world.lake, audit, datetime.now(UTC).replace(tzinfo=None) + timedelta(minutes=1))
        self.world.update()
        return self.world


@pytest.fixture
def make_calling(tmp_path: Path) -> Iterator[Callable[..., Calling]]:
    made: list[Calling] = []

    def make(**settings: Any) -> Calling:
        made.append(Calling(World(tmp_path / str(len(made))), **settings))
        return made[-1]

    yield make
    for running in made:
        running.kill()


@pytest.fixture(scope="module")
def calling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calling]:
    running = Calling(World(tmp_path_factory.mktemp("calling")))
    try:
        yield running.start()
        assert running.figures()["chart_edge_internal_errors_total"] == 0
    finally:
        running.kill()


@pytest.mark.slow
def test_a_postback_is_a_conversion_of_its_click_once_however_often_it_is_repeated(
    make_calling: Callable[..., Calling],
) -> None:
    running = make_calling().start()
    running.world.click("click-0815", ts=datetime.now(UTC).replace(tzinfo=None, microsecond=0) - timedelta(minutes=5))
    path = "/v1/postbacks/plain"
    header = {"authorization": f"Bearer {running.secret}"}
    answers = [
        running.call(**CALL, **SECRETS),
        running.call(**CALL),
        running.client.post(path, data=CALL | SECRETS, headers=header),
        running.client.post(path, json=CALL | {"amount": 92.0, "buyer": SECRETS}, headers=header),
        running.client.post(
            f"{path}?tx=sale-4711&sub=click-0815", json={"state": "approved", "amount": "92.00"}, headers=header
        ),
    ]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, {"status": "accepted"})] * 5
    for refused, reason in [
        ({"amount": "a lot"}, ("not_an_amount", "amount")),
        ({"state": "?"}, ("unknown_status", "state")),
    ]:
        answer = running.call(**{**CALL, "tx": "sale-2", **refused})
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "rejected"
        assert [(found["code"], found["column"]) for found in answer.json()["reasons"]] == [reason]
    doubled = running.client.get(f"{path}?key={running.secret}&tx=t3&tx=t4&state=approved&amount=1")
    assert [found["code"] for found in doubled.json()["reasons"]] == ["duplicate_column"]
    figures = running.figures()
    assert figures['chart_edge_postbacks_total{network="plain",result="accepted"}'] == 5
    assert figures['chart_edge_postbacks_total{network="plain",result="rejected"}'] == 3
    assert running.stop() == 0
    world = running.taken()
    fact = world.fact("sale-4711")
    assert (fact["click_id"], fact["match"], fact["commission_cents"], fact["status"]) == (
        "click-0815",
        "matched",
        9200,
        "approved",
    )
    assert len(world.rows(FACT_CONVERSIONS)) == 1 and len(world.rows(CONVERSION_REPORTS)) == 5
    codes = sorted(reason["code"] for row in world.rows(CONVERSION_REJECTS) for reason in row["reasons"])
    assert codes == ["duplicate_column", "not_an_amount", "unknown_status"]
    kept = b"".join(path.read_bytes() for path in running.settings.root.rglob("*") if path.is_file())
    for secret in (*SECRETS.values(), running.secret):
        assert secret.encode() not in kept, "neither what no mapping names nor the secret is kept"
    text = running.log_file.read_text()
    assert not any(value in text for value in ("sale-4711", "click-0815", "92.00", "a lot"))


def test_only_the_valid_secret_of_the_network_itself_may_call(calling: Calling) -> None:
    def code(answer: httpx.Response) -> tuple[int, str]:
        return answer.status_code, answer.json()["error"]["code"]

    other, _ = keys.create(calling.keys, "other", "network", "other"), None
    unmapped = keys.create(calling.keys, "gone", "network", "gone")
    assert until(lambda: calling.call("other", secret=other[1], id="1").status_code == 400)
    assert code(calling.client.get("/v1/postbacks/plain", params=CALL)) == (401, "no_key")
    assert code(calling.call(secret="wk_guessed")) == (401, "unknown_key")
    for secret in (other[1], calling.server_key):
        assert code(calling.call(secret=secret)) == (403, "network")
    assert code(calling.call("gone", secret=unmapped[1])) == (404, "unknown_network")
    origin = calling.client.get(
        "/v1/postbacks/plain", params={"key": calling.secret}, headers={"origin": "https://x.example"}
    )
    assert code(origin) == (403, "origin"), "a secret that has leaked into a page"
    assert code(calling.post(event(), key=calling.secret, origin=None)) == (403, "postbacks_only")
    links = calling.client.post(f"/v1/links?key={calling.secret}", content=b"{}")
    assert code(links) == (403, "postbacks_only")
    old, old_secret = keys.create(calling.keys, "old", "network", "plain")
    new, new_secret = keys.rotate(calling.keys, old.id, timedelta(hours=1))
    assert new.source == "plain" and until(lambda: calling.call(secret=new_secret).status_code == 200)
    assert calling.call(secret=old_secret).status_code == 200
    keys.revoke(calling.keys, old.id)
    assert until(lambda: calling.call(secret=old_secret).status_code == 401)


def test_calls_beyond_any_bound_are_refused_and_never_a_defect(calling: Calling) -> None:
    path = f"/v1/postbacks/plain?key={calling.secret}"
    form, text = {"content-type": "application/x-www-form-urlencoded"}, {"content-type": "application/json"}
    cases = {
        413: calling.client.post(path, content=b"tx=" + b"x" * 20_000, headers=form),
        415: calling.client.post(path, content=b"<tx/>", headers={"content-type": "text/xml"}),
        405: calling.client.put(path),
        400: calling.client.post(path, content=b"&".join(b"a=%d" % n for n in range(201)), headers=form),
    }
    assert {status: answer.status_code for status, answer in cases.items()} == {status: status for status in cases}
    assert calling.client.post(path, content=b"tx", headers=form | {"content-encoding": "gzip"}).status_code == 415
    for body in (b"{", b"[]", b"1", b"\xff", b'{"tx": NaN}', b"[" * 9_000, b'{"tx":' * 2_000 + b"1" + b"}" * 2_000):
        answer = calling.client.post(path, content=body, headers=text)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json"), body[:20]
    strange = [b'{"tx": "\\ud800"}', b'{"tx": 1e999999}', b'{"tx": {"tx": []}}', b'{"received_at": "x"}', b"{}",
               b'{"amount": ' + b"9" * 9_000 + b"}", b'{"tx": "a\\u0000"}']  # fmt: skip
    for body in strange:
        answer = calling.client.post(path, content=body, headers=text)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "rejected"), body[:20]
    for query in ("tx=%ff&state=%00", "=&&=;", "tx=" + "%f0%9f%92%b0" * 200):
        assert calling.client.get(f"{path}&{query}").status_code == 400
    limited, secret = keys.create(calling.keys, "slow", "network", "plain", events_per_second=1)
    assert until(lambda: calling.call(secret=secret).status_code == 429) and limited.events_per_second == 1
    assert int(calling.call(secret=secret).headers["retry-after"]) >= 1


@pytest.mark.slow
def test_what_was_acknowledged_before_a_kill_is_in_the_drop_folder_after_the_next_start(
    make_calling: Callable[..., Calling],
) -> None:
    running = make_calling().start()
    for number in range(20):
        assert running.call(**{**CALL, "tx": f"t{number}"}).status_code == 200
    running.kill()
    (part,) = (running.settings.edge_home / "postbacks" / "0").glob("*.part")
    with part.open("ab") as file:
        file.write(b'{"tx": "cut sho')
    assert running.start().stop() == 0
    world = running.taken()
    assert {row["transaction_id"] for row in world.rows(CONVERSION_REPORTS)} == {f"t{number}" for number in range(20)}
    assert world.rows(CONVERSION_REJECTS) == []


def kept(journal: Journal, *lines: bytes) -> list[BaseException | None]:
    async def all_of_them() -> list[BaseException | None]:
        found = await asyncio.gather(*(journal.keep("plain", line) for line in lines), return_exceptions=True)
        await journal.close()
        return found

    return asyncio.run(all_of_them())


def dropped(settings: Settings) -> bytes:
    folder = Path(settings.conversions_drop_url)
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*.ndjson")))


def test_lines_that_a_full_disk_refuses_are_not_acknowledged_and_stand_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, folder = Settings(home=tmp_path), tmp_path / "journal"
    sync, calls = os.fsync, 0

    def failing(handle: int) -> None:
        nonlocal calls
        calls += 1
        # The first is that of the folder, when the file is made.
        if calls == 2:
            raise OSError(28, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", failing)
    (refused,) = kept(Journal(settings, folder), b"a\n")
    assert isinstance(refused, Refused) and refused.status == 503
    assert kept(Journal(settings, folder), b"b\n", b"c\n") == [None, None]
    assert dropped(settings) == b"b\nc\n" and list(folder.iterdir()) == []


def test_lines_wait_while_the_drop_folder_cannot_be_written_and_then_go_there_once(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, edge_spill_max_bytes=1024**2)
    drop = Path(settings.conversions_drop_url)
    drop.parent.mkdir(parents=True)
    drop.write_text("no folder")
    journal = Journal(settings, tmp_path / "journal")
    assert kept(journal, b"a\n") == [None] and journal.held_bytes == 2
    drop.unlink()
    later = Journal(settings, tmp_path / "journal")
    assert later.held_bytes == 2
    assert kept(later, b"b\n") == [None] and later.held_bytes == 0
    assert sorted(dropped(settings).splitlines()) == [b"a", b"b"]
    full = Journal(settings, tmp_path / "journal")
    full.held_bytes = settings.edge_spill_max_bytes + 1
    (refused,) = kept(full, b"c\n")
    assert isinstance(refused, Refused) and refused.status == 503
