"""A redirect leads where the registry says, whatever a request has; a click is counted once, and is nobody's without consent."""

from __future__ import annotations

import json
import re
import stat
import string
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from chart_platform.edge.enrich import Enricher
from chart_platform.edge.links import Links
from chart_platform.edge.redirect import Answer, Redirect
from chart_platform.edge.signing import LIFETIME_SECONDS, Context, ContextError, Signer
from chart_platform.settings import Settings
from chart_platform.transform.bronze import Decoder
from chart_platform_tests.transform.fixtures import examples
from chart_platform_tests.transform.homes import DAY, Messages, at

NOON = at(DAY, "12:00:00")
LINK = "pagecraft-basic-table"
FIREFOX = b"Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0"
SIGNER = Signer([b"one secret of many characters"])
LINKS = Links.load()
TARGETS = {link.target for link in LINKS}
ASKED = {
    "session_id": "s1",
    "page_view_id": "p1",
    "ab_variant": "B",
    "user_id_hash": "u1",
    "consent": {"analytics": True, "ads": False},
    "utm": {"source": "news", "content": "jo%40x.example"},
    "links": [{"link_id": LINK, "position": 3}],
}


@cache
def redirect(**given_: Any) -> Redirect:
    configured = Settings(**given_)
    return Redirect(configured, LINKS, SIGNER, Enricher(configured))


def follow(
    link_id: str = LINK,
    query: bytes = b"",
    headers: dict[bytes, bytes] | None = None,
    method: str = "GET",
    received_ms: int = NOON,
    **more: Any,
) -> Answer:
    sent = {b"user-agent": FIREFOX} | (headers or {})
    return redirect(**more).handle(method, link_id, query, sent.get, "203.0.113.77", received_ms)


def signed(now_ms: int = NOON, **asked: Any) -> bytes:
    answer = SIGNER.answer(json.dumps(ASKED | asked).encode(), LINKS, "https://c.example", now_ms / 1000)
    return urlsplit(answer.links[0].url).query.encode()


def click(answer: Answer) -> dict[str, Any]:
    assert answer.record is not None
    found = bronze(answer.record.value)
    assert found is not None
    return dict(json.loads(answer.record.value))


def bronze(*values: bytes) -> dict[str, Any] | None:
    chunk = Messages(list(values), [0] * len(values), list(range(len(values))), [NOON] * len(values))
    decoded = _decoder().decode(chunk)
    assert not decoded.dead_letters.num_rows, decoded.dead_letters.to_pylist()
    rows = decoded.events.to_pylist()
    return rows[0] if rows else None


@cache
def _decoder() -> Decoder:
    return Decoder(Settings(home=Path(tempfile.mkdtemp(prefix="chart-redirect-"))), "t", DAY)


def location(answer: Answer) -> str:
    return dict(answer.headers)[b"location"].decode("ascii")


def test_a_click_leads_to_the_registrys_target_with_its_id_for_the_network() -> None:
    answer = follow()
    url = urlsplit(location(answer))
    found = click(answer)
    assert answer.status == 302 and dict(answer.headers)[b"cache-control"] == b"no-store"
    assert f"{url.scheme}://{url.netloc}{url.path}" == "https://www.pagecraft.example/basic"
    assert parse_qs(url.query) == {"sid": [found["click_id"]]}
    assert re.fullmatch(r"[0-9A-Za-z]{22}", found["click_id"])
    assert found["event_id"][14] == "7" and found["event_id"].replace("-", "").startswith(f"{NOON:012x}")
    assert found["affiliate"] == {"link_id": LINK, "target": "https://www.pagecraft.example/basic", "payout_cents": 4440, "network": "meridian", "position": None, "context": "absent"}  # fmt: skip


def test_a_signed_context_says_whose_click_it_is() -> None:
    answer = follow(query=signed(), headers={b"referer": b"https://x.example/?email=jo@x.example"})
    found = click(answer)
    assert answer.record is not None and answer.record.key == b"s1"
    assert found["session"]["session_id"] == "s1" and found["page_view_id"] == "p1"
    assert found["user"] == {"user_id_hash": "u1", "geo_country": None, "consent": {"analytics": True, "ads": False}}
    assert found["affiliate"]["context"] == "signed" and found["affiliate"]["position"] == 3
    assert found["ctx"]["ab_variant"] == "B" and found["ctx"]["browser"] == "Firefox"
    assert found["ctx"]["page_url"] == "https://x.example/?email=[redacted]" and found["ctx"]["user_agent"] is None
    assert found["session"]["utm"]["source"] == "news" and found["session"]["utm"]["content"] == "[redacted]"
    assert found["privacy"]["source_ip_anonymized"] == "203.0.113.0/24"


def personal(found: dict[str, Any]) -> list[Any]:
    # Ids in quotes: a random click id may have one of them inside it.
    texts = ('"s1"', '"p1"', '"u1"', "203.0.113", "Firefox", "x.example/secret")
    return [text for text in texts if text in json.dumps(found)]


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        (b"", {}, "absent"),
        (b"c=", {}, "absent"),
        (b"c=AAAA", {}, "invalid"),
        (signed()[:-4] + b"AAAA", {}, "invalid"),
        (signed(links=[{"link_id": "pagecraft-trial-top"}]), {}, "invalid"),
        (signed(now_ms=NOON - LIFETIME_SECONDS * 1000), {}, "expired"),
        (signed(), {b"sec-gpc": b"1"}, "signed"),
        (b"c=" + SIGNER.sign(LINK, Context(NOON, False, None, "s1", "p1", "B", "u1")).encode(), {}, "signed"),
    ],
)
def test_without_word_of_consent_a_click_is_nobodys(query: bytes, headers: dict[bytes, bytes], status: str) -> None:
    answer = follow(query=query, headers=headers | {b"referer": b"https://x.example/secret"}, edge_keep_user_agent=True)
    found = click(answer)
    assert found["affiliate"]["context"] == status
    assert found["user"] == {"consent": {"analytics": False, "ads": False}}
    assert personal(found) == [] and answer.record is not None
    assert answer.record.key == found["event_id"].encode()
    assert found["affiliate"]["payout_cents"] == 4440


@pytest.mark.parametrize(
    ("method", "headers", "why"),
    [
        ("HEAD", {}, "head"),
        ("GET", {b"sec-purpose": b"prefetch;prerender"}, "prefetch"),
        ("GET", {b"purpose": b"prefetch"}, "prefetch"),
        ("GET", {b"x-moz": b"Prefetch"}, "prefetch"),
        ("GET", {b"user-agent": b"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"}, "bot"),
        ("GET", {b"user-agent": b"curl/8.5.0"}, "bot"),
        ("GET", {b"user-agent": b"facebookexternalhit/1.1"}, "bot"),
    ],
)
def test_what_is_no_click_leads_on_without_an_event_or_a_click_id(
    method: str, headers: dict[bytes, bytes], why: str
) -> None:
    answer = follow(query=signed(), headers=headers, method=method)
    assert answer.uncounted == why and answer.record is None
    assert answer.status == 302 and location(answer) == "https://www.pagecraft.example/basic"


evil = st.sampled_from(["https://evil.example/", "//evil.example", "\\\\evil.example", "evil.example\r\nLocation: https://evil.example", "@evil.example", "javascript:alert(1)", ".evil.example", "%0d%0aX: y", "\u2028", "<script>alert(1)</script>", "../../etc"])  # fmt: skip
texts = st.one_of(evil, evil.map(lambda text: quote(text, safe="")), st.sampled_from([LINK, LINK + "/", "", "."]), st.text(max_size=20))  # fmt: skip
ids = st.one_of(texts, st.builds(lambda start, end: start + end, st.just(LINK), texts))
names = st.sampled_from([b"host", b"x-forwarded-host", b"x-forwarded-for", b"x-forwarded-proto", b"forwarded", b"referer", b"user-agent", b"sec-gpc", b"purpose", b"origin", b"cookie"])  # fmt: skip
raw_headers = st.dictionaries(names, st.one_of(texts.map(lambda text: text.encode("utf-8", "replace")), st.binary(max_size=40)), max_size=6)  # fmt: skip
queries = st.one_of(
    st.binary(max_size=80),
    texts.map(lambda text: f"c={text}&url={text}&to={text}&sid={text}".encode("utf-8", "replace")),
    st.builds(lambda cut, tail: signed()[:cut] + tail, st.integers(0, 200), st.binary(max_size=8)),
)


@pytest.mark.slow
@settings(max_examples=examples(800, 50_000))
@given(link_id=st.one_of(ids, st.sampled_from([link.link_id for link in LINKS])), query=queries, headers=raw_headers, method=st.sampled_from(["GET", "HEAD"]), peer=st.one_of(st.just("203.0.113.7"), st.text(max_size=10)))  # fmt: skip
def test_no_request_chooses_where_it_is_led(link_id: str, query: bytes, headers: dict[bytes, bytes], method: str, peer: str) -> None:  # fmt: skip
    answer = redirect(edge_trusted_proxies="0.0.0.0/0").handle(method, link_id, query, headers.get, peer, NOON)
    for name, value in answer.headers:
        assert not re.search(rb"[\x00-\x1f\x7f-\xff]", name + value)
    link = LINKS.get(link_id)
    if link is None:
        assert answer.status == 404 and answer.record is None and b"location" not in dict(answer.headers)
        assert answer == follow("no such link", method=method)
        return
    assert answer.status == 302 and answer.body == b""
    assert location(answer).split("?")[0] == link.target in TARGETS
    if answer.record is not None:
        assert bronze(answer.record.value)


@pytest.mark.slow
def test_no_two_clicks_have_an_id_in_common() -> None:
    found = [click(follow(query=signed())) for _ in range(200)]
    assert len({event["click_id"] for event in found}) == len({event["event_id"] for event in found}) == 200


ids_ = st.none() | st.text(max_size=40)
contexts = st.builds(Context, st.integers(0, 2**40), st.booleans(), st.none() | st.booleans(), ids_, ids_, ids_, ids_, st.none() | st.integers(1, 99))  # fmt: skip


@settings(max_examples=examples(300, 20_000))
@given(context=contexts)
def test_a_context_is_read_as_it_was_signed_until_it_expires(context: Context) -> None:
    token = SIGNER.sign(LINK, context)
    assert set(token) <= set(string.ascii_letters + string.digits + "-_")
    assert SIGNER.verify(token, LINK, context.expires - 1) == ("signed", context)
    assert SIGNER.verify(token, LINK, context.expires) == ("expired", None)
    assert SIGNER.verify(token, LINK + "x", 0) == ("invalid", None)


@settings(max_examples=examples(500, 50_000))
@given(context=contexts, place=st.integers(0), bit=st.integers(0, 5))
def test_a_context_that_was_touched_anywhere_is_worth_nothing(context: Context, place: int, bit: int) -> None:
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    token = SIGNER.sign(LINK, context)
    place %= len(token)
    touched = token[:place] + alphabet[alphabet.index(token[place]) ^ 1 << bit] + token[place + 1 :]
    spare = {0: 0, 2: 4, 3: 2}[len(token) % 4]
    if place == len(token) - 1 and bit < spare:
        # Bits behind the last byte: the same token in other letters.
        return
    assert SIGNER.verify(touched, LINK, 0) == ("invalid", None)


@given(token=st.text(max_size=60) | st.text(string.ascii_letters, min_size=2_040, max_size=2_060))
def test_any_text_as_a_token_is_worth_nothing_and_harms_nobody(token: str) -> None:
    assert SIGNER.verify(token, LINK, 0) == (("invalid" if token else "absent"), None)


def test_a_replaced_secret_still_verifies_and_a_dropped_one_does_not() -> None:
    def signer(secrets: str) -> Signer:
        return Signer.of(Settings(edge_link_secrets=SecretStr(secrets)))

    old, new = "an old secret of some length", "a new secret of some length"
    token = signer(old).sign(LINK, Context(NOON, True))
    assert signer(f"{new},{old}").verify(token, LINK, 0)[0] == "signed"
    assert signer(new).verify(token, LINK, 0)[0] == "invalid"
    assert signer(f"{new}, {old}").sign(LINK, Context(NOON, True)) != token
    for short in ("", "short", f"{new},short"):
        with pytest.raises(ValueError, match="CHART_EDGE_LINK_SECRETS"):
            signer(short)


def test_all_workers_of_an_instance_take_the_one_secret_that_only_its_user_can_read(tmp_path: Path) -> None:
    configured = Settings(home=tmp_path)
    with ThreadPoolExecutor(16) as pool:
        signers = list(pool.map(lambda _: Signer.of(configured), range(64)))
    assert len({signer.sign(LINK, Context(NOON, True)) for signer in signers}) == 1
    (kept,) = (tmp_path / "edge").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    kept.write_text("")
    with pytest.raises(ValueError, match="link-secret"):
        Signer.of(configured)


def test_links_are_signed_only_with_consent_and_unknown_ones_are_named() -> None:
    asked = ASKED | {"links": [{"link_id": LINK}, {"link_id": "nowhere"}]}
    answer = SIGNER.answer(json.dumps(asked).encode(), LINKS, "https://c.example", NOON / 1000)
    assert answer.unknown == ["nowhere"] and answer.expires_in == 86_400
    assert answer.links[0].url.startswith(f"https://c.example/go/{LINK}?c=")
    denied = asked | {"consent": {"analytics": False}}
    (link,) = SIGNER.answer(json.dumps(denied).encode(), LINKS, "https://c.example", 0).links
    assert link.url == f"https://c.example/go/{LINK}"
    assert "position" not in json.loads(msgspec.json.encode(link))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b'{"consent":{},"links":[]}', b'{"consent":{"analytics":1},"links":[]}', b"\xff", b"[" * 5_000,
        json.dumps(ASKED | {"session_id": "x" * 257}).encode(), json.dumps(ASKED | {"links": [{"link_id": LINK}] * 201}).encode(),
        json.dumps(ASKED | {"session_id": "\u00fc" * 256, "page_view_id": "\u00fc" * 256, "utm": {"source": "\u00fc" * 256, "term": "\u00fc" * 256}}).encode(),
    ],
)  # fmt: skip
def test_a_request_for_links_that_makes_no_sense_is_told_so(body: bytes) -> None:
    with pytest.raises(ContextError):
        SIGNER.answer(body, LINKS, "https://c.example", 0)
