"""The edge knows a sender's country, network and kind of client, and keeps neither address nor user agent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from chart_platform.edge import geo
from chart_platform.edge.enrich import Enricher
from chart_platform.edge.geo import Geo, GeoError
from chart_platform.edge.records import Client, KeyKind
from chart_platform.edge.user_agents import classify
from chart_platform.settings import Settings
from chart_platform.simulator.catalog import USER_AGENTS

FIREFOX = b"Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0"
PROXIES = "10.0.0.0/8, fd00::/8"


class Key(msgspec.Struct, frozen=True):
    id: str = "k1"
    kind: KeyKind = "browser"
    source: str = "web"


def database(path: Path, **countries: str) -> Path:
    """An .mmdb of networks by country."""
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="GeoLite2-Country")
    for country, network in countries.items():
        writer.insert_network(IPSet([network]), {"country": {"iso_code": country}})
    made = path.with_suffix(".new")
    writer.to_db_file(str(made))
    made.replace(path)
    return path


def client(headers: dict[bytes, bytes], peer: str = "203.0.113.77", key: Key | None = None, **given_: Any) -> Client:
    return Enricher(Settings(**given_)).client(headers.get, peer, key or Key(), 5)


def address(forwarded: str | None, peer: str) -> str | None:
    headers = {} if forwarded is None else {b"x-forwarded-for": forwarded.encode("utf-8", "surrogatepass")}
    return Enricher(Settings(edge_trusted_proxies=PROXIES)).address(headers.get, peer)


def test_a_sender_is_known_by_network_and_class_only() -> None:
    assert client({b"user-agent": FIREFOX}) == Client(
        received_ms=5,
        key_id="k1",
        kind="browser",
        source="web",
        address="203.0.113.0/24",
        device="desktop",
        browser="Firefox",
        os="Linux",
    )
    assert client({b"user-agent": FIREFOX}, edge_keep_user_agent=True).user_agent == FIREFOX.decode()
    assert client({b"user-agent": b"jo@x.example"}, edge_keep_user_agent=True).user_agent == "[redacted]"
    assert client({b"sec-gpc": b"1"}).gpc and not client({b"sec-gpc": b"0"}).gpc


def test_a_servers_own_address_and_client_say_nothing_of_its_visitor(tmp_path: Path) -> None:
    path = database(tmp_path / "geo.mmdb", DE="203.0.113.0/24")
    found = client({b"user-agent": FIREFOX, b"sec-gpc": b"1"}, key=Key(kind="server"), edge_geo_database=path)
    assert found == Client(received_ms=5, key_id="k1", kind="server", source="web")


@pytest.mark.parametrize(
    ("forwarded", "peer", "found"),
    [
        (None, "203.0.113.77", "203.0.113.77"),
        ("198.51.100.1", "203.0.113.77", "203.0.113.77"),
        (None, "10.0.0.1", "10.0.0.1"),
        ("198.51.100.1", "10.0.0.1", "198.51.100.1"),
        ("1.1.1.1, 198.51.100.1, 10.2.2.2", "10.0.0.1", "198.51.100.1"),
        ("198.51.100.1:4711", "10.0.0.1", "198.51.100.1"),
        ("[2001:db8::1]:4711", "10.0.0.1", "2001:db8::1"),
        ("2001:db8::1", "fd00::1", "2001:db8::1"),
        ("::ffff:198.51.100.1", "::ffff:10.0.0.1", "198.51.100.1"),
        ("1.1.1.1, unknown", "10.0.0.1", None),
        ("1.1.1.1, ", "10.0.0.1", None),
        ("10.3.3.3", "10.0.0.1", "10.3.3.3"),
        ("198.51.100.1", "", None),
        (None, "/run/edge.sock", None),
        (None, "fe80::1%eth0", "fe80::1"),
    ],
)
def test_the_sender_is_the_last_address_that_is_no_trusted_proxys(
    forwarded: str | None, peer: str, found: str | None
) -> None:
    assert address(forwarded, peer) == found


@given(forwarded=st.text(max_size=60), claimed=st.ip_addresses(), peer=st.text(max_size=20) | st.just("10.0.0.1"))
def test_nothing_left_of_the_first_stranger_counts(forwarded: str, claimed: Any, peer: str) -> None:
    address(forwarded, peer)
    assert address(f"{claimed}, {forwarded}, 198.51.100.1, 10.1.1.1", "10.0.0.1") == "198.51.100.1"


def test_a_long_chain_of_proxies_is_read_from_its_near_end_only() -> None:
    assert address(", ".join(["198.51.100.1"] + ["10.0.0.2"] * 10_000), "10.0.0.1") == "10.0.0.2"


def test_trusted_proxies_that_are_no_networks_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"CHART_EDGE_TRUSTED_PROXIES.*proxy"):
        Enricher(Settings(edge_trusted_proxies="10.0.0.0/8,proxy"))


def test_the_country_is_looked_up_before_the_address_is_cut(tmp_path: Path) -> None:
    path = database(tmp_path / "geo.mmdb", DE="203.0.113.77/32", FR="203.0.113.0/26", NL="2001:db8::/32")
    assert client({}, edge_geo_database=path).country == "DE"
    assert client({}, "::ffff:203.0.113.1", edge_geo_database=path).country == "FR"
    assert client({}, "2001:db8::1", edge_geo_database=path).country == "NL"
    assert client({}, "198.51.100.1", edge_geo_database=path).country is None
    assert client({}).country is None


def test_a_replaced_database_is_followed_and_a_broken_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geo, "_RELOAD_SECONDS", 0)
    path = database(tmp_path / "geo.mmdb", DE="203.0.113.0/24")
    enricher = Enricher(Settings(edge_geo_database=path))

    def country() -> str | None:
        return enricher.client({}.get, "203.0.113.77", Key(), 5).country

    assert country() == "DE"
    database(path, FR="203.0.113.0/24")
    assert country() == "FR"
    broken = tmp_path / "broken"
    broken.write_bytes(b"no database")
    broken.replace(path)
    assert country() == "FR"
    path.unlink()
    assert country() == "FR"


@pytest.mark.parametrize("content", [None, b"", b"no database"])
def test_a_database_that_cant_be_used_stops_the_start_with_its_name(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "geo.mmdb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GeoError, match=r"geo\.mmdb.*CHART_EDGE_GEO_DATABASE"):
        Geo(path)


@pytest.mark.parametrize(
    "place", [{"country": "DE"}, {"country": {"iso_code": "Germany"}}, {"country": {"iso_code": 7}}, {}]
)
def test_an_entry_of_another_form_is_no_country(place: dict[str, Any], tmp_path: Path) -> None:
    writer = MMDBWriter(ip_version=4, database_type="other")
    writer.insert_network(IPSet(["203.0.113.0/24"]), place)
    writer.to_db_file(str(tmp_path / "geo.mmdb"))
    assert Geo(tmp_path / "geo.mmdb").country("203.0.113.1") is None
    assert Geo(tmp_path / "geo.mmdb").country("2001:db8::1") is None


@pytest.mark.parametrize(
    ("text", "device", "browser", "os"),
    [
        (USER_AGENTS[0][0], "desktop", "Chrome", "Windows"),
        (USER_AGENTS[1][0], "desktop", "Safari", "Mac OS X"),
        (USER_AGENTS[2][0], "desktop", "Firefox", "Linux"),
        (USER_AGENTS[3][0], "mobile", "Mobile Safari", "iOS"),
        (USER_AGENTS[4][0], "mobile", "Chrome Mobile", "Android"),
        (USER_AGENTS[5][0], "tablet", "Mobile Safari UI/WKWebView", "iOS"),
        ("Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36", "tablet", "Chrome", "Android"),
        ("Mozilla/5.0 (SMART-TV; Linux; Tizen 6.0) AppleWebKit/537.36 (KHTML, like Gecko) 76.0.3809.146/6.0 TV Safari/537.36", "tv", "Safari", "Tizen"),
        ("Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 Chrome/94 Safari/537.36", "tv", "Safari", "Web0S"),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "bot", "Googlebot", None),
        ("Mozilla/5.0 (Linux; Android 12; CUBOT P50) AppleWebKit/537.36 Chrome/142.0.0.0 Mobile Safari/537.36", "mobile", "Chrome Mobile", "Android"),
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/142.0.0.0 Safari/537.36", "bot", "HeadlessChrome", "Linux"),
        ("python-httpx/0.28", "bot", None, None),
        ("", "other", None, None),
        ("something else", "other", None, None),
    ],
)  # fmt: skip
def test_a_user_agent_is_read_to_its_class(text: str, device: str, browser: str | None, os: str | None) -> None:
    found = classify(text)
    assert (found.device, found.browser, found.os) == (device, browser, os)
    assert found.is_bot == (device == "bot")


@given(text=st.text(max_size=40))
def test_any_text_as_a_user_agent_has_a_class(text: str) -> None:
    assert classify(text).device in {"desktop", "mobile", "tablet", "tv", "bot", "other"}
    assert classify(FIREFOX.decode() + "x" * 100_000 + text).browser == "Firefox"
