"""The channel rules, case by case, as Google's page words them: "[GA4] Default channel group", support answer 9756891."""

from __future__ import annotations

import duckdb
import pytest

from chart_platform.settings import get_settings
from chart_platform.transform.dbt import invoke

OWN_PAGE = "https://www.charts.example/compare/builders"

# utm_source, utm_medium, utm_campaign -> channel; the referrer of all of them is a forum's.
TAGGED = [
    ("(direct)", "(none)", None, "Direct"),
    ("(direct)", "(not set)", None, "Direct"),
    ("(direct)", None, None, "Direct"),
    ("google", "cpc", "EU Cross-Network 7", "Cross-network"),
    ("(direct)", "cpc", "cross-network", "Cross-network"),
    ("amazon", "cpc", None, "Paid Shopping"),
    ("google", "cpc", "summer shopping", "Paid Shopping"),
    ("google", "ppc", "shop now", "Paid Shopping"),
    ("google", "ppc", "eshop", "Paid Shopping"),
    ("google", "ppc", "de-shop", "Paid Shopping"),
    ("google", "ppc", "workshop", "Paid Search"),
    ("google", "ppc", "bishop", "Paid Search"),
    ("google", "cpc", "brand", "Paid Search"),
    ("Google", "CPC", "Brand", "Paid Search"),
    (" bing ", "paid-search", None, "Paid Search"),
    ("duckduckgo.com", "retargeting", None, "Paid Search"),
    ("google", "cpm", None, "Paid Search"),
    ("facebook", "paid_social", "retargeting", "Paid Social"),
    ("ig", "cpc", None, "Paid Social"),
    ("l.facebook.com", "paid", None, "Paid Social"),
    ("youtube", "cpv-cpc", None, "Paid Video"),
    ("vimeo.com", "paidvideo", None, "Paid Video"),
    ("adnetwork", "display", None, "Display"),
    ("adnetwork", "banner", None, "Display"),
    ("adnetwork", "expandable", None, "Display"),
    ("adnetwork", "interstitial", None, "Display"),
    ("adnetwork", "cpm", None, "Display"),
    ("google", "display", None, "Display"),
    ("adnetwork", "cpa", None, "Paid Other"),
    ("adnetwork", "retargeting", None, "Paid Other"),
    ("adnetwork", "unpaid", None, "Unassigned"),
    ("etsy.com", None, None, "Organic Shopping"),
    ("partner", "web", "my-shop", "Organic Shopping"),
    ("facebook", None, None, "Organic Social"),
    ("reddit", "social", "ama", "Organic Social"),
    ("team", "social media", None, "Organic Social"),
    ("team", "sm", None, "Organic Social"),
    ("fb.example.org", None, None, "Unassigned"),
    ("youtube.com", "link", None, "Organic Video"),
    ("team", "in-video-card", None, "Organic Video"),
    ("google", None, None, "Organic Search"),
    ("intranet", "organic", None, "Organic Search"),
    ("facebook", "organic", None, "Organic Social"),
    ("chatgpt.com", None, None, "AI Assistant"),
    ("claude.ai", "ai-assistant", "(ai-assistant)", "AI Assistant"),
    ("partner", "referral", None, "Referral"),
    ("partner", "app", None, "Referral"),
    ("partner", "link", None, "Referral"),
    ("email", "referral", None, "Referral"),
    ("newsletter", "email", "weekly-deals", "Email"),
    ("newsletter", "E-mail", None, "Email"),
    ("e_mail", None, None, "Email"),
    ("e mail", "newsletter", None, "Email"),
    ("newsletter", "emails", None, "Unassigned"),
    ("partner", "affiliate", None, "Affiliates"),
    ("partner", "affiliates", None, "Unassigned"),
    ("podcast", "audio", None, "Audio"),
    ("sms", None, None, "SMS"),
    ("twilio", "sms", None, "SMS"),
    ("app", "web-push", None, "Mobile Push Notifications"),
    ("app", "mobile", None, "Mobile Push Notifications"),
    ("app", "notifications", None, "Mobile Push Notifications"),
    ("firebase", None, None, "Mobile Push Notifications"),
    ("app", "pushed", None, "Unassigned"),
    (None, None, "spring", "Unassigned"),
    (None, None, "spring shop", "Organic Shopping"),
    (None, "email", None, "Email"),
]

# referrer -> source, medium, channel, without any utm.
REFERRED = [
    (None, "(direct)", "(none)", "Direct"),
    ("", "(direct)", "(none)", "Direct"),
    ("about:blank", "(direct)", "(none)", "Direct"),
    ("https://www.charts.example/", "(direct)", "(none)", "Direct"),
    ("https://CHARTS.example/blog", "(direct)", "(none)", "Direct"),
    ("https://shop.charts.example/", "shop.charts.example", "referral", "Referral"),
    ("https://www.google.com/", "google.com", "organic", "Organic Search"),
    ("https://www.google.co.uk/search?q=a", "google.co.uk", "organic", "Organic Search"),
    ("https://google.de", "google.de", "organic", "Organic Search"),
    ("https://de.search.yahoo.com/", "de.search.yahoo.com", "organic", "Organic Search"),
    ("https://search.brave.com/search", "search.brave.com", "organic", "Organic Search"),
    ("android-app://com.google.android.googlequicksearchbox/", "com.google.android.googlequicksearchbox", "organic", "Organic Search"),
    ("https://mail.google.com/mail/u/0", "mail.google.com", "referral", "Referral"),
    ("https://brave.com/", "brave.com", "referral", "Referral"),
    ("https://notgoogle.com/", "notgoogle.com", "referral", "Referral"),
    ("https://google.com.evil.example/", "google.com.evil.example", "referral", "Referral"),
    ("https://forum.smallbiz.example/thread/4711?u=google.com", "forum.smallbiz.example", "referral", "Referral"),
    ("https://user@forum.smallbiz.example:8443/", "forum.smallbiz.example", "referral", "Referral"),
    ("https://l.facebook.com/", "l.facebook.com", "referral", "Organic Social"),
    ("https://t.co/abc", "t.co", "referral", "Organic Social"),
    ("https://at.co/abc", "at.co", "referral", "Referral"),
    ("https://netflix.x.com/", "netflix.x.com", "referral", "Organic Social"),
    ("https://m.youtube.com/watch?v=1", "m.youtube.com", "referral", "Organic Video"),
    ("https://youtu.be/1", "youtu.be", "referral", "Organic Video"),
    ("https://www.amazon.co.jp/dp/1", "amazon.co.jp", "referral", "Organic Shopping"),
    ("https://shopping.google.com/", "shopping.google.com", "referral", "Organic Shopping"),
    ("https://chatgpt.com/c/1", "chatgpt.com", "ai-assistant", "AI Assistant"),
    ("https://gemini.google.com/app", "gemini.google.com", "ai-assistant", "AI Assistant"),
]  # fmt: skip


@pytest.fixture(scope="module")
def visits() -> duckdb.DuckDBPyConnection:
    """A connection with view `classified` over table `visits`: the macros as dbt compiles them."""
    arguments = "('utm.source', 'utm.medium', 'utm.campaign', 'referrer', 'page_url')"
    macros = ("channel_group", "traffic_source", "traffic_medium")
    columns = ", ".join(f"{{{{ {macro}{arguments} }}}} as {macro}" for macro in macros)
    (compiled,) = invoke(get_settings(), ["compile", "--inline", f"select visit, {columns} from visits"])
    connection = duckdb.connect()
    connection.execute(
        "create table visits (visit int, utm struct(source varchar, medium varchar, campaign varchar), "
        "referrer varchar, page_url varchar)"
    )
    connection.execute(f"create view classified as {compiled.sql}")
    return connection


def classify(
    visits: duckdb.DuckDBPyConnection, rows: list[tuple[dict[str, str | None] | None, str | None, str | None]]
) -> list[tuple[str, str, str]]:
    """Channel, source and medium of each row of utm, referrer and page."""
    visits.execute("truncate visits")
    visits.executemany("insert into visits values (?, ?, ?, ?)", [(i, *row) for i, row in enumerate(rows)])
    return visits.sql("select channel_group, traffic_source, traffic_medium from classified order by visit").fetchall()


def utm(source: str | None, medium: str | None, campaign: str | None) -> dict[str, str | None]:
    return {"source": source, "medium": medium, "campaign": campaign}


def test_tagged_visits_get_the_channel_of_their_tags(visits: duckdb.DuckDBPyConnection) -> None:
    forum = "https://forum.smallbiz.example/"
    found = classify(visits, [(utm(*tags), forum, OWN_PAGE) for *tags, _ in TAGGED])
    assert [(*tags, channel) for (*tags, _), (channel, *_) in zip(TAGGED, found, strict=True)] == TAGGED


def test_untagged_visits_get_the_channel_of_their_referrer(visits: duckdb.DuckDBPyConnection) -> None:
    found = classify(visits, [(None, referrer, OWN_PAGE) for referrer, *_ in REFERRED])
    read = [
        (referrer, source, medium, channel)
        for (referrer, *_), (channel, source, medium) in zip(REFERRED, found, strict=True)
    ]
    assert read == REFERRED


def test_empty_tags_are_no_tags(visits: duckdb.DuckDBPyConnection) -> None:
    assert classify(visits, [(utm("", " ", None), "https://www.bing.com/", None)]) == [
        ("Organic Search", "bing.com", "organic")
    ]


def test_what_a_tagged_visit_does_not_say_is_not_set(visits: duckdb.DuckDBPyConnection) -> None:
    assert classify(visits, [(utm(None, None, "spring"), "https://www.google.com/", OWN_PAGE)]) == [
        ("Unassigned", "(not set)", "(not set)")
    ]


@pytest.mark.parametrize("parameter", ["gclid", "gbraid", "wbraid"])
def test_an_untagged_click_on_a_google_ad_is_paid_search(visits: duckdb.DuckDBPyConnection, parameter: str) -> None:
    page = f"{OWN_PAGE}?a=1&{parameter}=Cj0"
    google = "https://www.google.com/"
    assert classify(
        visits, [(None, google, page), (utm("news", "email", None), None, page), (None, google, page[:-3])]
    ) == [
        ("Paid Search", "google", "cpc"),
        ("Email", "news", "email"),
        ("Organic Search", "google.com", "organic"),
    ]
