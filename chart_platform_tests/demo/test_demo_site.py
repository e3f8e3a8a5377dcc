"""The demo site's server: what protects its pages, and that they compare what there is."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from chart_platform.demo.app import HOME, SITE, create_app
from chart_platform.demo.journey import MOST_EVENTS, BadQuestion, Question
from chart_platform.demo.keys import demo_keys, demo_origins, ensure_demo_keys
from chart_platform.edge.keys import KeyStore, keys_file, revoke
from chart_platform.edge.links import Links
from chart_platform.settings import Settings
from chart_platform.simulator.catalog import PRODUCTS

EVENT = "01a1fd24-1907-7efd-8caf-f00d3e052996"


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    return TestClient(create_app(Settings(home=tmp_path), 'wk_"><script>'), base_url="http://127.0.0.1:8701")


@pytest.mark.parametrize(
    "path", [HOME, "/reviews/sitesmith", "/reviews/nobody", "/static/app.js", "/static/none", "/journey", "/nowhere"]
)
def test_every_answer_forbids_foreign_scripts_frames_and_markup_from_text(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self' http://127.0.0.1:8700"
    assert policy["require-trusted-types-for"] == "'script'" and policy["trusted-types"] == "'none'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_what_goes_into_the_page_is_escaped(client: TestClient) -> None:
    page = client.get(HOME).text
    assert 'data-key="wk_&quot;&gt;&lt;script&gt;"' in page
    assert page.count("<script") == 2


def test_the_page_has_no_code_or_style_of_its_own() -> None:
    page = (SITE / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", page)
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)


@pytest.mark.parametrize("module", sorted(SITE.glob("*.js")), ids=lambda path: path.name)
def test_no_module_turns_text_into_markup_or_code(module: Path) -> None:
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc",
        module.read_text(),
    )


def test_only_names_of_this_machine_are_answered(client: TestClient) -> None:
    """A foreign name that leads to 127.0.0.1 would make a foreign page of the same origin."""
    assert client.get("/journey", headers={"host": "rebound.example"}).status_code == 400
    assert client.get(HOME, headers={"host": "localhost:8701"}).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
def test_no_other_site_may_ask_for_journeys(client: TestClient, site: str) -> None:
    assert client.get(f"/journey?event_ids={EVENT}", headers={"sec-fetch-site": site}).status_code == 403


@pytest.mark.parametrize(
    "query",
    [
        "event_ids=1",
        f"event_ids={EVENT},' or 1=1 --",
        f"event_ids={EVENT.replace('-', '')}",
        "session_id='%20or%201=1",
        f"session_id={'a' * 65}",
        "event_ids=" + ",".join([EVENT] * (MOST_EVENTS + 1)),
    ],
)
def test_what_is_no_id_is_refused_and_not_repeated(client: TestClient, query: str) -> None:
    answer = client.get(f"/journey?{query}")
    assert answer.status_code == 400
    assert "1=1" not in answer.text


@given(session_id=st.text(max_size=80), event_ids=st.text(max_size=80))
def test_a_question_holds_ids_or_is_none(session_id: str, event_ids: str) -> None:
    try:
        question = Question.parse(session_id, event_ids)
    except BadQuestion:
        return
    assert question.session_id is None or re.fullmatch(r"[A-Za-z0-9_-]{1,64}", question.session_id)
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", one) for one in question.event_ids)


@pytest.mark.slow
def test_a_home_without_events_has_no_journeys(client: TestClient) -> None:
    answer = client.get(f"/journey?event_ids={EVENT}&session_id=abc")
    assert (answer.status_code, answer.json()) == (200, {"events": {}, "visit": None})
    assert answer.headers["cache-control"] == "no-store"


def test_the_page_compares_the_simulators_products_and_all_of_its_links_are_registered(client: TestClient) -> None:
    listed = re.findall(r'product\("([a-z-]+)"', (SITE / "products.js").read_text())
    assert sorted(listed) == sorted(product for product, _ in PRODUCTS)
    links = Links.load()
    page = client.get(HOME).text
    for product, payout in PRODUCTS:
        assert f'id="logo-{product}"' in page
        assert client.get(f"/reviews/{product}").status_code == 200
        for plan, cents in (("premium", payout), ("basic", payout * 3 // 5), ("trial", 0)):
            for place in ("table", "top"):
                link = links.get(f"{product}-{plan}-{place}")
                # What the simulator says a redirected click is worth is what the redirect will say.
                assert link is not None and link.payout_cents == cents
    assert client.get("/reviews/nobody").status_code == 404


def test_the_instances_keys_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    keys = ensure_demo_keys(settings)
    assert ensure_demo_keys(settings) == demo_keys(settings) == keys
    assert stat.S_IMODE((settings.edge_home / "demo-keys.json").stat().st_mode) == 0o600
    store = KeyStore.load(keys_file(settings))
    site, traffic = store.find(keys.site.encode()), store.find(keys.traffic.encode())
    assert site is not None and traffic is not None and len(store) == 4
    assert (site.kind, site.origins) == ("browser", demo_origins(settings))
    assert (traffic.kind, traffic.origins) == ("server", ())
    networks = [store.find(secret.encode()) for secret in keys.networks.values()]
    assert [key.source for key in networks if key is not None and key.kind == "network"] == list(keys.networks)


def test_keys_that_the_collector_would_not_take_are_replaced(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    first = ensure_demo_keys(settings)
    moved = ensure_demo_keys(settings.model_copy(update={"demo_port": 9701}))
    assert moved.site != first.site
    key = KeyStore.load(keys_file(settings)).find(moved.traffic.encode())
    assert key is not None
    revoke(keys_file(settings), key.id)
    assert ensure_demo_keys(settings.model_copy(update={"demo_port": 9701})).traffic != moved.traffic


def test_without_keys_the_way_out_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="chart-platform up"):
        demo_keys(Settings(home=tmp_path))
