"""Personal data is found however it is written, ordinary URLs stay as they are, and addresses are cut."""

from __future__ import annotations

import string
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chart_platform.edge.privacy import REDACTED, scrub_text, scrub_url, truncate
from chart_platform_tests.transform.fixtures import examples

words = st.text(string.ascii_letters + string.digits, min_size=1, max_size=12)
awkward = st.text(st.sampled_from("aZ0%@.=&;?#/\\+- :_[]()4\u00df\u0661\ud800\n240"), max_size=40)
anything = st.one_of(st.text(max_size=60), awkward, awkward.map(lambda text: "https://x.example/" + text))


@settings(max_examples=examples(1_000, 100_000))
@given(url=anything)
def test_scrubbing_never_fails_and_a_second_time_changes_nothing(url: str) -> None:
    for scrub in (scrub_url, scrub_text):
        once = scrub(url)
        assert scrub(once) == once


@settings(max_examples=examples(500, 50_000))
@given(url=anything)
def test_scrubbing_adds_at_most_its_mark_to_each_piece(url: str) -> None:
    pieces = 1 + sum(map(url.count, "/?&;=#"))
    assert len(scrub_url(url)) <= len(url) + pieces * len(REDACTED)


def hidden(text: str, way: int) -> str:
    """``text`` as sent, percent-encoded once or twice, or with each character encoded."""
    if way == 3:
        return "".join(f"%{byte:02X}" for byte in text.encode())
    for _ in range(way):
        text = quote(text, safe="")
    return text


emails = st.builds(
    lambda local, tag, domain, end, upper: (f"{local}{tag}@{domain}.{end}").upper() if upper else f"{local}{tag}@{domain}.{end}",
    words, st.sampled_from(["", "+tag", ".last", "_x", "-1"]), words, st.sampled_from(["com", "co.uk", "example", "museum"]), st.booleans(),
)  # fmt: skip
cards = st.sampled_from(["4111111111111111", "4111-1111-1111-1111", "5555 5555 5555 4444", "378282246310005", "2223003122003222", "6011111111111117"])  # fmt: skip
phones = st.sampled_from(["+4917012345678", "+1 (555) 123-4567", "+44 20 7946 0958", "555-123-4567", "(555) 123-4567"])
places = st.sampled_from(["https://x.example/?q={}", "https://x.example/a/{}/b", "/search?a=1&who={}&b=2", "https://x.example/{}?a=1", "{}"])  # fmt: skip


@settings(max_examples=examples(500, 50_000))
@given(data=st.one_of(emails, cards, phones), place=places, way=st.integers(0, 3))
def test_addresses_cards_and_telephone_numbers_are_found_wherever_they_hide(data: str, place: str, way: int) -> None:
    found = scrub_url(place.format(hidden(data, way)))
    assert found == place.format(REDACTED)
    assert scrub_text(hidden(data, way)) == REDACTED


@settings(max_examples=examples(250, 20_000))
@given(
    name=st.sampled_from(["token", "access_token", "API-Key", "password", "user[email]", "Phone", "ssn", "key", "x-auth-token"]),
    value=words,
    way=st.integers(0, 3),
    outer=st.booleans(),
)  # fmt: skip
def test_parameters_named_for_a_secret_lose_their_value(name: str, value: str, way: int, outer: bool) -> None:
    secret = f"SECRET{value}"
    if outer:
        url = f"https://x.example/?page=2&{hidden(name, way)}={secret}&b=1"
    else:
        url = f"https://x.example/?to={hidden(f'https://y.example/?{name}={secret}', max(way, 1))}&b=1"
    found = scrub_url(url)
    assert "SECRET" not in found and hidden("SECRET", 3) not in found
    assert found.endswith("&b=1")


@pytest.mark.parametrize(
    "url",
    [
        "https://www.builderchart.example/compare/website-builders?utm_source=google&utm_medium=cpc&utm_campaign=brand",
        "https://x.example/?utm_content=ad-4711&utm_term=best%20website+builder&gclid=EAIaIQobChMI1234567890123456",
        "https://x.example/?t=1793620800123&id=00000000-0000-7000-8000-000000000001&page=2&sort=price",
        "https://x.example/2026/11/02/14-30-00/a;b=1;c?d",
        "https://medium.example/@a.writer/post", "https://cdn.example/lib@1.2.3/x.js", "https://x.example/?v=1.2.3.4&geo=52.5200,13.4050",
        "https://x.example/?n=4111111111111112", "https://x.example/?n=1234567812345670&m=2999123456000008", "https://x.example/?q=%C3%9Cbersicht%20%25",
        "https://x.example/?monkey=1&keyword=2&author=3&design=4&pinned=5&campaign=6&sid=7", "", "/", "?", "about:blank", "android-app://com.example/",
    ],
)  # fmt: skip
def test_an_ordinary_url_stays_as_it_is(url: str) -> None:
    assert scrub_url(url) == url


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://x.example/a?b=1#access_token=abc", "https://x.example/a?b=1"),
        ("https://user:pass@x.example:8080/a", "https://x.example:8080/a"),
        ("//jo@x.example/a", "//x.example/a"),
        ("mailto:jo@x.example?subject=hi", f"{REDACTED}?subject=hi"),
        ("https://x.example/?jo@x.example", f"https://x.example/?{REDACTED}"),
        ("https://x.example/?jo@x.example=1", f"https://x.example/?{REDACTED}=1"),
        ("https://x.example/?a=1;email=b", f"https://x.example/?a=1;email={REDACTED}"),
    ],
)
def test_fragments_and_user_names_go_and_odd_places_are_looked_into(url: str, kept: str) -> None:
    assert scrub_url(url) == kept


@given(address=st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_what_is_kept_of_an_address_is_its_network(address: IPv4Address | IPv6Address) -> None:
    network = ip_network(truncate(address))
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    assert (mapped or address) in network
    assert network.prefixlen == (24 if (mapped or address).version == 4 else 48)


def test_a_mapped_address_is_cut_as_the_one_it_is() -> None:
    assert truncate(ip_address("::ffff:203.0.113.77")) == "203.0.113.0/24"
    assert truncate(ip_address("2001:db8:1:2:3::4")) == "2001:db8:1::/48"


@pytest.mark.parametrize("text", ["@" * 60_000, "a@" * 30_000, "a@a." * 15_000, "%40" * 20_000, "4 " * 30_000, "+1" * 30_000, "a=" * 30_000, "((((" * 15_000, "&token=" * 8_000, "/" * 60_000])  # fmt: skip
@pytest.mark.timeout(20)
def test_no_text_makes_it_slow(text: str) -> None:
    scrub_url("https://x.example/?q=" + text)
    scrub_text(text)
