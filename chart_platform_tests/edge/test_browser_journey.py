"""Real visits in a real Chromium to the demo's page, through the real collector and Kafka to silver and gold.

Each scenario is a visit of its own, told apart by its campaign, that says what was done in it. They all happen first;
then the pipeline runs once, and each test compares one visit with the tables: everything exactly once, or dropped and
counted.
"""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from chart_platform.demo.keys import demo_origins, ensure_demo_keys
from chart_platform.edge.app import TRACER
from chart_platform.edge.keys import create, keys_file
from chart_platform.edge.links import Links
from chart_platform.lakehouse.duck import connect, create_views
from chart_platform.lakehouse.lake import Lake
from chart_platform.settings import Settings
from chart_platform_tests.command_line import COMMAND, CommandLine, environment
from chart_platform_tests.conftest import fresh_topics
from chart_platform_tests.edge.collecting import free_port, until
from chart_platform_tests.edge.tcp_proxy import Proxy

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
COMPARE = "/compare/website-builders"
ATTACK = '"><img src=x onerror="window.pwned=1"><script>window.pwned=1</script>'

pytestmark = [
    pytest.mark.slow,
    pytest.mark.kafka,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing: apt-get install chromium"),
    pytest.mark.skipif(not TRACER.exists(), reason=f"{TRACER} is missing: npm ci && npm run build in tracer/"),
]

Done = tuple[str, ...]
"""An event as the visitor would tell it: what it was and, for interactions, what was set to what."""


def viewed(path: str = COMPARE) -> Done:
    return "page_view", path


def used(control: str, value: object) -> Done:
    return "chart_interaction", control, str(value)


def clicked(link: str) -> Done:
    return "affiliate_click", link


@dataclass
class Visit:
    """What was done in a scenario, what the page was told is lost, and what went wrong with the scenario itself."""

    name: str
    done: list[Done] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    notes: dict[str, Any] = field(default_factory=dict)
    failure: str | None = None


class Site:
    """The demo's page with all that is behind it: site, collector (through a proxy that misbehaves on demand), Kafka."""

    def __init__(self, settings: Settings) -> None:
        self.proxy = Proxy()
        self.settings = settings.model_copy(
            update={
                "edge_port": free_port(),
                "demo_port": free_port(),
                "edge_url": f"http://127.0.0.1:{self.proxy.port}",
                "edge_rate_per_ip": 0.0,
                "edge_unready_seconds": 0.0,
            }
        )
        ensure_demo_keys(self.settings)
        _, self.slow_key = create(
            keys_file(self.settings), "slow", "browser", "web", demo_origins(self.settings), events_per_second=1
        )
        self.proxy.target = self.settings.edge_port
        self._processes: list[subprocess.Popen[bytes]] = []
        self.collector = self.start_collector(self.settings)
        self._start([sys.executable, "-m", "chart_platform.demo.serve"], self.settings)
        assert until(lambda: _answers(f"{self.url}/healthz"), 60)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.demo_port}"

    def start_collector(self, settings: Settings) -> subprocess.Popen[bytes]:
        process = self._start([str(COMMAND), "collect"], settings)
        assert until(lambda: _answers(f"http://127.0.0.1:{settings.edge_port}/readyz"), 60)
        return process

    def start_collector_of_small_bodies(self) -> subprocess.Popen[bytes]:
        """One with the same keys and link secrets, that refuses bodies of more than 2 KiB; the proxy leads to it."""
        settings = self.settings.model_copy(
            update={
                "home": self.settings.root / "small",
                "edge_port": free_port(),
                "edge_keys": keys_file(self.settings),
                "edge_max_body_bytes": 2048,
            }
        )
        process = self.start_collector(settings)
        self.proxy.lead_to(settings.edge_port)
        return process

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self.proxy.close()

    def _start(self, command: list[str], settings: Settings) -> subprocess.Popen[bytes]:
        settings.root.mkdir(parents=True, exist_ok=True)
        with (settings.root / "processes.log").open("ab") as log:
            process = subprocess.Popen(command, env=environment(settings), stdout=log, stderr=log)
        self._processes.append(process)
        return process


def _answers(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(url, trust_env=False).status_code == 200
    return False


class Browsing:
    """A visitor: pages of one browser profile, and a diary of what was done on them."""

    def __init__(self, site: Site, browser: Any, visit: Visit) -> None:
        self.site = site
        # Named as a visitor's browser would be: of known bots, headless ones too, the redirect counts no click.
        version = browser.version.partition(".")[0]
        agent = f"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36"
        self.context = browser.new_context(user_agent=agent, viewport={"width": 1400, "height": 1000})
        self.context.set_default_timeout(10_000)
        self.visit = visit
        self.statuses: Counter[int] = Counter()
        self.context.on("response", self._note)

    def _note(self, response: Any) -> None:
        if "/v1/events" in response.url:
            self.statuses[response.status] += 1

    def open(self, path: str = COMPARE, *, consent: bool | None = None, variant: str = "A") -> Any:
        """A new tab. The first one also answers the banner, where ``consent`` says how."""
        page = self.context.new_page()
        page.goto(f"{self.site.url}{path}?utm_campaign={self.visit.name}&utm_source=test&variant={variant}")
        if consent is not None:
            page.click("#consent-yes" if consent else "#consent-no")
        self.visit.done.append(viewed(path))
        return page

    def toggle(self, page: Any, on: bool = True) -> None:
        page.set_checked("#highlight", on)
        self.visit.done.append(used("highlight", str(on).lower()))

    def sort(self, page: Any, control: str, direction: str) -> None:
        page.click(f"#sort-{control}")
        self.visit.done.append(used(control, direction))

    def delivered(self, page: Any, within: float = 30.0) -> None:
        """Wait until nothing waits in the browser."""
        waits = "() => Object.keys(localStorage).filter((key) => /^chart:.{36}:.{36}$/.test(key)).length"
        assert until(lambda: page.evaluate(waits) == 0, within), f"{page.evaluate(waits)} events wait"


Scenario = Callable[[Browsing], None]
SCENARIOS: dict[str, Scenario] = {}


def scenario(run: Scenario) -> Scenario:
    SCENARIOS[run.__name__] = run
    return run


@scenario
def a_whole_visit(b: Browsing) -> None:
    page = b.open(consent=True)
    b.toggle(page)
    b.toggle(page, False)
    page.click("#billing-monthly")
    b.visit.done.append(used("billing-yearly", "false"))
    b.sort(page, "plan-price", "asc")
    b.sort(page, "plan-price", "desc")
    page.select_option("#use-case", "Small business")
    b.visit.done.append(used("use-case", "Small business"))
    page.select_option("#min-rating", "4.3")
    b.visit.done.append(used("min-rating", "4.3"))
    page.locator("#max-price").fill("30")
    b.visit.done.append(used("max-price", "30"))
    page.click("#expand-sitesmith")
    page.click("#expand-sitesmith")
    b.visit.done += [used("product-card", "sitesmith")] * 2
    page.click("#feature-rows")
    b.visit.done.append(used("feature-rows", "4"))
    page.evaluate("(text) => chart.chart({action: 'filter', controlId: text, controlValue: text})", ATTACK)
    b.visit.done.append(used(ATTACK, ATTACK))
    page.click("tr[data-product=sitesmith] a.name >> nth=0")
    b.visit.done.append(viewed("/reviews/sitesmith"))
    page.go_back()
    b.visit.done.append(viewed())
    page.go_forward()
    b.visit.done.append(viewed("/reviews/sitesmith"))
    signed = "a[data-chart-link=sitesmith-premium-top][href*='?c=']"
    page.wait_for_selector(signed)
    with b.context.expect_page() as opened:
        page.click(signed)
    opened.value.close()
    b.visit.done.append(clicked("sitesmith-premium-top"))
    b.delivered(page)
    b.visit.notes["page"] = page


@scenario
def sorted_links_are_signed_anew(b: Browsing) -> None:
    page = b.open(consent=True)
    first = page.wait_for_selector("tr[data-product=onepager] a[data-chart-link][href*='?c=']").get_attribute("href")
    b.sort(page, "plan-price", "asc")
    link = "tr[data-product=onepager] a[data-chart-link]"
    assert until(lambda: page.get_attribute(link, "href") != first, 10)
    with b.context.expect_page() as opened:
        page.click(link)
    opened.value.close()
    b.visit.done.append(clicked("onepager-premium-table"))
    b.delivered(page)


@scenario
def offline_then_online(b: Browsing) -> None:
    page = b.open(consent=True)
    b.delivered(page)
    b.context.set_offline(True)
    b.toggle(page)
    b.sort(page, "popularity", "desc")
    page.wait_for_timeout(1_500)
    b.context.set_offline(False)
    b.delivered(page)


@scenario
def collector_down_for_a_while(b: Browsing) -> None:
    page = b.open(consent=True)
    b.delivered(page)
    b.site.collector.kill()
    b.site.collector.wait()
    b.toggle(page)
    b.sort(page, "popularity", "desc")
    page.wait_for_timeout(3_000)
    b.toggle(page, False)
    b.site.collector = b.site.start_collector(b.site.settings)
    b.delivered(page, 60)


@scenario
def two_tabs(b: Browsing) -> None:
    one = b.open(consent=True)
    other = b.open("/reviews/webloom")
    for turn in range(3):
        b.toggle(one, turn % 2 == 0)
        b.sort(one, "plan-price" if turn == 0 else "popularity", "asc" if turn in (0, 2) else "desc")
        other.click(f"a[href='/reviews/{('sitesmith', 'webloom', 'sitesmith')[turn]}'][data-route] >> nth=0")
        b.visit.done.append(viewed(f"/reviews/{('sitesmith', 'webloom', 'sitesmith')[turn]}"))
        if turn == 0:
            other.click("a[href='/compare/website-builders'] >> nth=0")
            b.visit.done.append(viewed())
    b.delivered(one)
    b.delivered(other)


@scenario
def back_and_forward_between_documents(b: Browsing) -> None:
    page = b.open(consent=True)
    b.delivered(page)
    page.goto(f"{b.site.url}/healthz")
    page.go_back()
    page.wait_for_selector("h1")
    b.visit.done.append(viewed())
    page.wait_for_timeout(300)
    b.delivered(page)


@scenario
def unload_in_mid_flight(b: Browsing) -> None:
    page = b.open(consent=True)
    b.toggle(page)
    b.sort(page, "popularity", "desc")
    page.goto(f"{b.site.url}/healthz")
    page.wait_for_timeout(500)
    page.close()
    b.delivered(b.open())


@scenario
def tab_killed(b: Browsing) -> None:
    page = b.open(consent=True)
    b.delivered(page)
    b.site.proxy.lead_to(None)
    b.toggle(page)
    b.sort(page, "popularity", "desc")
    page.wait_for_timeout(1_000)
    with suppress(Exception):
        page.goto("chrome://crash", timeout=3_000)
    b.site.proxy.lead_to(b.site.settings.edge_port)
    b.delivered(b.open())


@scenario
def too_many_requests(b: Browsing) -> None:
    # Before the page's own scripts run, which wait until it is parsed.
    b.context.add_init_script(
        "document.addEventListener('readystatechange', () => "
        f"(document.documentElement.dataset.key = '{b.site.slow_key}'), {{ once: true }})"
    )
    page = b.open(consent=True)
    # On a busy machine requests come slowly enough to be let in; five are made in any case.
    for turn in range(40):
        if turn >= 5 and b.statuses[429] > 0:
            break
        b.toggle(page, turn % 2 == 0)
        page.wait_for_timeout(550)
    b.delivered(page, 45)


@scenario
def requests_too_large(b: Browsing) -> None:
    small = b.site.start_collector_of_small_bodies()
    page = b.open()
    for turn in range(8):
        b.toggle(page, turn % 2 == 0)
    page.click("#consent-yes")
    # Until then nothing waits in the browser, as nobody has consented. Playwright tells of responses while it is asked.
    assert until(lambda: page.evaluate("true") and b.statuses[413] > 0, 30)
    b.delivered(page, 45)
    b.site.proxy.lead_to(b.site.settings.edge_port)
    small.terminate()
    assert small.wait(30) == 0


@scenario
def lost_acknowledgements(b: Browsing) -> None:
    page = b.open(consent=True)
    b.delivered(page)
    b.site.proxy.cut(2)
    b.toggle(page)
    b.sort(page, "popularity", "desc")
    b.delivered(page, 45)
    b.visit.notes["cut"] = 2 - b.site.proxy.to_cut


@scenario
def consent_given_late(b: Browsing) -> None:
    page = b.open()
    b.toggle(page)
    page.wait_for_timeout(800)
    b.visit.notes["before"] = page.evaluate("Object.keys(localStorage)"), sum(b.statuses.values())
    page.click("#consent-yes")
    b.delivered(page)


@scenario
def consent_denied(b: Browsing) -> None:
    page = b.open()
    page.click("#consent-no")
    b.toggle(page)
    with b.context.expect_page() as opened:
        page.click("a[data-chart-link=blogyard-basic-top]")
    opened.value.close()
    b.visit.notes["after"] = page.evaluate("Object.keys(localStorage)"), sum(b.statuses.values())
    # Each of them was made and then dropped, for this reason.
    b.visit.dropped["consent"] = 2
    b.visit.done.clear()


@scenario
def an_event_that_breaks_the_contract(b: Browsing) -> None:
    page = b.open(consent=True)
    page.evaluate("() => { window.told = []; chart.onDrop((...it) => told.push(it)); chart.track('purchase', {}); }")
    b.delivered(page)
    b.visit.dropped["rejected"] = 1
    b.visit.notes["told"] = page.evaluate("told.map(([reason, count]) => [reason, count])")


@dataclass
class Outcome:
    """All scenarios after the pipeline ran."""

    visits: dict[str, Visit]
    tables: Any
    panel: dict[str, Any]

    def rows(self, sql: str, **given: Any) -> list[tuple[Any, ...]]:
        return self.tables.execute(sql, given or None).fetchall()

    def of(self, name: str) -> Visit:
        visit = self.visits[name]
        assert visit.failure is None, visit.failure
        return visit

    def silver(self, name: str) -> Counter[Done]:
        """The events of a scenario, as its visitor would tell them."""
        found = self.rows(
            """select event_type, page_url, chart_control_id, chart_control_value, affiliate_link_id
               from silver.events where utm_campaign = $name""",
            name=name,
        )
        told: Counter[Done] = Counter()
        for event_type, url, control, value, link in found:
            if event_type == "page_view":
                told[viewed("/" + url.split("/", 3)[3].split("?")[0])] += 1
            elif event_type == "affiliate_click":
                told[clicked(link)] += 1
            else:
                told[used(control, value)] += 1
        return told

    def bronze_count(self, name: str) -> int:
        return self.rows("select count(*) from bronze.events where session.utm.campaign = $name", name=name)[0][0]


@pytest.fixture(scope="module")
def outcome(kafka: Settings, tmp_path_factory: pytest.TempPathFactory, command_line: CommandLine) -> Iterator[Outcome]:
    """Every scenario, one after the other, then the pipeline."""
    from playwright.sync_api import sync_playwright

    site = Site(fresh_topics(kafka, tmp_path_factory.mktemp("journey"), kafka_partitions=2))
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
            visits = {}
            for name, run in SCENARIOS.items():
                visits[name] = Visit(name)
                browsing = Browsing(site, browser, visits[name])
                try:
                    run(browsing)
                except Exception:
                    # For the test of this scenario to tell; the others go on.
                    visits[name].failure = traceback.format_exc()
                    site.proxy.lead_to(site.settings.edge_port)
                    site.proxy.cut(0)
                visits[name].notes["statuses"] = dict(browsing.statuses)
                if "page" not in visits[name].notes:
                    browsing.context.close()
            said = command_line.run(site.settings, "ingest", "--json")
            assert said.code == 0, said.err
            panel = _panel(visits["a_whole_visit"]) if "page" in visits["a_whole_visit"].notes else {}
            browser.close()
        tables = connect(site.settings)
        create_views(tables, Lake(site.settings))
        yield Outcome(visits, tables, panel)
    finally:
        site.close()


def _panel(visit: Visit) -> dict[str, Any]:
    """What the panel shows once all is in gold."""
    page = visit.notes["page"]
    page.click("#follow")
    figures = "() => [...document.querySelectorAll('.figures > div')].map((one) => one.innerText.split('\\n'))"
    until(lambda: dict(page.evaluate(figures)).get("in gold") == str(len(visit.done)), 30)
    return {
        "figures": {label: int(value) for label, value in page.evaluate(figures)},
        "flags": page.evaluate("() => [...document.querySelectorAll('.flag.on')].map((one) => one.innerText)"),
        "payout": page.inner_text(".flag.money"),
        "titles": page.evaluate("() => [...document.querySelectorAll('.event .what b')].map((one) => one.textContent)"),
        "stages": page.evaluate(
            "() => [...document.querySelectorAll('.track')].map((one) => one.querySelectorAll('.done').length)"
        ),
        "pwned": page.evaluate("() => window.pwned ?? null"),
        "markup": page.evaluate("() => document.querySelectorAll('#journey img, #journey script').length"),
    }


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_every_event_of_the_visit_is_in_silver_exactly_once(outcome: Outcome, name: str) -> None:
    visit = outcome.of(name)
    assert outcome.silver(name) == Counter(visit.done)


def test_the_visit_is_one_row_of_gold_with_what_was_done(outcome: Outcome) -> None:
    visit = outcome.of("a_whole_visit")
    (session,) = outcome.rows("select distinct session_id from silver.events where utm_campaign = 'a_whole_visit'")
    rows = outcome.rows(
        """select saw_comparison, interacted_chart, clicked_affiliate, payout_cents, ab_variant
           from gold.fact_funnel where session_id = $session""",
        session=session[0],
    )
    link = Links.load().get("sitesmith-premium-top")
    assert link is not None
    assert rows == [(True, True, True, link.payout_cents, "A")]
    assert len(visit.done) == sum(outcome.silver("a_whole_visit").values())


def test_a_click_through_the_redirect_has_the_visit_that_its_link_was_signed_for(outcome: Outcome) -> None:
    for name, position in (("a_whole_visit", 1), ("sorted_links_are_signed_anew", 1)):
        outcome.of(name)
        found = outcome.rows(
            """select affiliate_context, affiliate_position from silver.events
               where utm_campaign = $name and event_type = 'affiliate_click'""",
            name=name,
        )
        assert found == [("signed", position)], name


def test_tabs_share_one_visit_and_number_its_events_without_a_gap(outcome: Outcome) -> None:
    outcome.of("two_tabs")
    found = outcome.rows("select session_id, seq from silver.events where utm_campaign = 'two_tabs' order by seq")
    assert len({session for session, _ in found}) == 1
    assert [seq for _, seq in found] == list(range(len(found)))


def test_lost_acknowledgements_double_events_before_silver_only(outcome: Outcome) -> None:
    visit = outcome.of("lost_acknowledgements")
    assert visit.notes["cut"] == 2
    assert outcome.bronze_count("lost_acknowledgements") > len(visit.done)


def test_the_collectors_refusals_really_happened(outcome: Outcome) -> None:
    assert outcome.of("too_many_requests").notes["statuses"].get(429, 0) > 0
    assert outcome.of("requests_too_large").notes["statuses"].get(413, 0) > 0


def test_what_is_dropped_is_told_with_its_reason(outcome: Outcome) -> None:
    assert outcome.of("an_event_that_breaks_the_contract").notes["told"] == [["rejected", 1]]
    letters = outcome.rows("select source, reasons from bronze.dead_letters where source = 'edge'")
    assert any(reason["pointer"] == "/event_type" for _, reasons in letters for reason in reasons)


def test_before_the_choice_nothing_is_stored_or_sent_and_afterwards_it_has_its_own_times(outcome: Outcome) -> None:
    keys, requests = outcome.of("consent_given_late").notes["before"]
    assert (keys, requests) == ([], 0)
    ((spread,),) = outcome.rows(
        "select epoch_ms(max(to_timestamp(ingest_ts / 1000)::timestamp - ts)) from silver.events where utm_campaign = 'consent_given_late'"
    )
    assert spread >= 800


def test_without_consent_nothing_is_kept_but_the_bare_click(outcome: Outcome) -> None:
    keys, requests = outcome.of("consent_denied").notes["after"]
    assert requests == 0
    assert set(keys) <= {"builderchart.consent", "chart:consent"}
    found = outcome.rows(
        """select session_id, user_id_hash, user_agent, source_ip_anonymized, affiliate_context, payout_cents
           from silver.events where affiliate_link_id = 'blogyard-basic-top'"""
    )
    link = Links.load().get("blogyard-basic-top")
    assert link is not None
    assert found == [(None, None, None, None, "absent", link.payout_cents)]


def test_the_panel_follows_every_event_to_gold(outcome: Outcome) -> None:
    visit = outcome.of("a_whole_visit")
    assert outcome.panel["figures"] == {
        "made": len(visit.done),
        "acknowledged": len(visit.done),
        "in gold": len(visit.done),
        "dropped": 0,
    }
    assert set(outcome.panel["stages"]) == {6}
    assert outcome.panel["flags"] == ["Saw comparison", "Used the chart", "Clicked through"]
    assert outcome.panel["payout"].split() == ["Payout", "$92"]


def test_what_an_event_carries_is_shown_as_text(outcome: Outcome) -> None:
    outcome.of("a_whole_visit")
    assert any(ATTACK in title for title in outcome.panel["titles"])
    assert outcome.panel["pwned"] is None
    assert outcome.panel["markup"] == 0
