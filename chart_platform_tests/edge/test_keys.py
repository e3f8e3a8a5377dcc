"""Write keys: what is in their file, who they let in, and how they end."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart_platform.edge import keys
from chart_platform.edge.keys import KeysError, KeyStore
from chart_platform.settings import Settings
from chart_platform_tests.command_line import CommandLine


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "edge" / "write-keys.yml"


def made(file: Path, **more: Any) -> tuple[keys.WriteKey, str]:
    return keys.create(file, "shop", "browser", "web", ["https://shop.example"], **more)


def test_a_secret_is_random_shown_once_and_kept_only_as_its_hash(file: Path) -> None:
    (first, secret), (_, other) = made(file), made(file)
    assert re.fullmatch(r"wk_[A-Za-z0-9]{32}", secret) and secret != other
    assert first.id.startswith("key_")
    text = file.read_text()
    assert secret not in text and hashlib.sha256(secret.encode()).hexdigest() in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir() if secret in path.read_text()] == []


def test_a_key_is_found_by_its_secret_only(file: Path) -> None:
    key, secret = made(file)
    store = KeyStore.load(file)
    assert store.find(secret.encode()) == key
    for other in (b"", secret[:-1].encode(), key.sha256.encode(), key.id.encode(), b"\xff"):
        assert store.find(other) is None


def test_without_a_file_there_are_no_keys(file: Path) -> None:
    assert len(KeyStore.load(file)) == 0


def test_a_rotated_key_goes_on_for_its_grace_and_the_new_one_may_do_the_same(file: Path) -> None:
    old, old_secret = made(file, events_per_second=7.0)
    new, new_secret = keys.rotate(file, old.id, timedelta(hours=2))
    store = KeyStore.load(file)
    found_old, found_new = store.find(old_secret.encode()), store.find(new_secret.encode())
    assert found_old is not None and found_new == new and new.id != old.id
    now = datetime.now(UTC)
    assert found_old.is_valid(now) and found_old.is_valid(now + timedelta(minutes=119))
    assert not found_old.is_valid(now + timedelta(minutes=121))
    assert (new.origins, new.kind, new.source, new.events_per_second) == (old.origins, "browser", "web", 7.0)
    assert new.is_valid(now + timedelta(days=10_000))


def test_a_rotation_never_lengthens_a_life(file: Path) -> None:
    key, secret = made(file)
    keys.rotate(file, key.id, timedelta(hours=1))
    keys.rotate(file, key.id, timedelta(hours=50))
    found = KeyStore.load(file).find(secret.encode())
    assert found is not None and not found.is_valid(datetime.now(UTC) + timedelta(hours=2))


def test_a_revoked_key_is_none_and_stays_revoked_when_it_was(file: Path) -> None:
    key, secret = made(file)
    first = keys.revoke(file, key.id).revoked_at
    assert keys.revoke(file, key.id).revoked_at == first
    found = KeyStore.load(file).find(secret.encode())
    assert found is not None and not found.is_valid(datetime.now(UTC))
    with pytest.raises(KeysError, match="no longer valid"):
        keys.rotate(file, key.id, timedelta(0))


def test_an_id_that_is_none_is_told_with_those_there_are(file: Path) -> None:
    key, _ = made(file)
    with pytest.raises(KeysError, match=f"no key 'key_none'; there are {key.id}"):
        keys.revoke(file, "key_none")


@pytest.mark.parametrize(
    ("kind", "origins", "no_origin", "allowed", "refused"),
    [
        ("browser", ["https://a.example"], False, ["https://a.example"], [None, "null", "https://b.example"]),
        (
            "browser",
            ["https://a.example"],
            False,
            [],
            ["http://a.example", "https://a.example:8443", "https://x.a.example"],
        ),
        ("browser", [], False, [], [None, "https://a.example"]),
        ("browser", ["*"], False, ["https://any.example", "null"], [None]),
        ("browser", [], True, [None], ["https://a.example"]),
        ("server", [], False, [None], ["https://a.example", "null"]),
        ("server", ["https://a.example"], False, [None, "https://a.example"], ["https://b.example"]),
    ],
)
def test_a_key_lets_in_its_origins_and_no_others(
    file: Path, kind: Any, origins: list[str], no_origin: bool, allowed: list[Any], refused: list[Any]
) -> None:
    key, _ = keys.create(file, "x", kind, "web", origins, allow_no_origin=no_origin)
    assert all(key.allows(origin) for origin in allowed)
    assert not any(key.allows(origin) for origin in refused)


@pytest.mark.parametrize(
    "origin", ["shop.example", "https://shop.example/", "https://Shop.example", "ftp://x", "", "https://*.x"]
)
def test_what_is_no_origin_makes_no_key(file: Path, origin: str) -> None:
    with pytest.raises(KeysError, match="origin"):
        keys.create(file, "x", "browser", "web", [origin])
    assert not file.exists()


@pytest.mark.parametrize(
    ("change", "line", "told"),
    [
        (lambda _: "keys:\n- [\n", 3, "YAML"),
        (lambda _: "other: 1\n", 1, "expected `keys:`"),
        (lambda _: "keys: 7\n", 1, "list of keys"),
        (lambda text: text + "- id: key_2\n", 10, "missing required field"),
        (lambda text: text.replace("kind: browser", "kind: admin"), 2, "kind"),
        (lambda text: text.replace("name:", "nmae:"), 2, "nmae"),
        (lambda text: text + text.partition("\n")[2], 10, "twice"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_line(file: Path, change: Any, line: int, told: str) -> None:
    made(file)
    text = file.read_text()
    assert text.count("\n") == 9
    file.write_text(change(text))
    with pytest.raises(KeysError) as error:
        KeyStore.load(file)
    assert f"{file}, line {line}: " in str(error.value) and told in str(error.value)


def test_a_store_follows_its_file_and_keeps_its_keys_when_that_is_broken(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_RELOAD_SECONDS", 0.0)
    store = KeyStore.load(file)
    key, secret = made(file)
    assert store.find(secret.encode()) == key
    good = file.read_text()
    file.write_text("keys: [")
    assert store.find(secret.encode()) == key
    file.unlink()
    assert store.find(secret.encode()) is None
    file.write_text(good)
    assert store.find(secret.encode()) == key


def test_a_store_looks_at_its_file_once_a_second_at_most(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = KeyStore.load(file)
    looks = []
    real = keys._stamp
    monkeypatch.setattr(keys, "_stamp", lambda path: looks.append(path) or real(path))
    clock = time.monotonic()
    monkeypatch.setattr(keys.time, "monotonic", lambda: clock + 0.5)
    for _ in range(100):
        store.find(b"x")
    assert looks == []
    monkeypatch.setattr(keys.time, "monotonic", lambda: clock + 5)
    for _ in range(100):
        store.find(b"x")
    assert len(looks) == 1


def test_two_that_write_at_once_lose_none_of_their_keys(file: Path) -> None:
    with ThreadPoolExecutor(8) as writers:
        found = list(writers.map(lambda _: made(file), range(40)))
    store = KeyStore.load(file)
    assert [store.find(secret.encode()) for _, secret in found] == [key for key, _ in found]


@pytest.mark.slow
def test_the_commands_create_list_rotate_and_revoke(tmp_path: Path, command_line: CommandLine) -> None:
    settings = Settings(home=tmp_path / "home")

    def run(*arguments: str) -> Any:
        said = command_line.run(settings, "keys", *arguments)
        assert said.code == 0, said.err
        return said

    created = run("create", "--name", "shop", "--origin", "https://shop.example", "--json").json
    assert created["secret"].startswith("wk_") and created["origins"] == ["https://shop.example"]
    plain = run("create", "--name", "backend", "--kind", "server").out.splitlines()
    assert plain[0].startswith("key_") and plain[1].startswith("wk_")
    rotated = run("rotate", created["id"], "--grace-hours", "1", "--json").json
    run("revoke", plain[0])
    listed = run("list", "--json").json
    states = {key["id"]: key["state"] for key in listed}
    assert states[created["id"]].startswith("valid until") and states[rotated["id"]] == "valid"
    assert states[plain[0]] == "revoked"
    assert all("sha256" not in key and "secret" not in key for key in listed)
    table = run("list").out
    assert created["secret"] not in table and plain[1] not in table
    stored = yaml.safe_load(keys.keys_file(settings).read_text())
    assert created["secret"] not in json.dumps(stored, default=str)


@pytest.mark.slow
def test_commands_that_make_no_sense_are_wrong_usage(tmp_path: Path, command_line: CommandLine) -> None:
    settings = Settings(home=tmp_path / "home")
    assert command_line.run(settings, "keys", "create", "--name", "x").code == 2
    assert command_line.run(settings, "keys", "create", "--name", "x", "--kind", "admin").code == 2
    said = command_line.run(settings, "keys", "revoke", "key_none")
    assert said.code == 1 and "no key 'key_none'" in said.err and "Traceback" not in said.err
