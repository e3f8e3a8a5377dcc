"""Only links that lead where the registry says get into it, and each mistake is told with its line."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chart_platform.edge.links import Links, LinksError
from chart_platform.simulator import catalog
from chart_platform_tests.transform.fixtures import examples

REGISTRY = """\
networks:
  - name: harborlink
    sub_id_parameter: subId1
    hosts:
      - www.shop.example
links:
  - link_id: shop-top
    product_id: shop
    network: harborlink
    target: https://www.shop.example/plans?tier=pro
    payout_cents: 9200
    position: 1
"""
TARGET_LINE = 10


def written(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(LinksError) as caught:
        Links.load(written(folder / "links.yml", text))
    return str(caught.value)


def test_the_default_registry_is_what_the_simulated_site_shows() -> None:
    shown = [json.loads("{" + link.fragment[1:] + "}")["affiliate"] for link in catalog.LINKS]
    links = Links.load()
    assert [(link.link_id, link.target, link.payout_cents) for link in links] == [
        (link["link_id"], link["target"], link["payout_cents"]) for link in shown
    ]
    assert len({link.sub_id_parameter for link in links}) == len({link.network for link in links}) == 4


def test_a_link_is_found_by_its_exact_id_only(tmp_path: Path) -> None:
    links = Links.load(written(tmp_path / "links.yml", REGISTRY))
    link = links.get("shop-top")
    assert link is not None and link.position == 1 and link.payout_cents == 9200
    assert link.location("abc") == "https://www.shop.example/plans?tier=pro&subId1=abc"
    for other in ("SHOP-TOP", "shop-top ", "shop%2dtop", "../shop-top", ""):
        assert links.get(other) is None


@pytest.mark.parametrize(
    "target",
    [
        "http://www.shop.example/", "//www.shop.example/", "javascript:alert(1)", "https:www.shop.example", "https:///www.shop.example/",
        "HTTPS://www.shop.example/", "https://evil.example/", "https://shop.example/", "https://a.www.shop.example/", "https://WWW.shop.example/",
        "https://www.shop.example./", "https://www.shop.example:443/", "https://www.shop.example:/", "https://www.shop.example@evil.example/",
        "https://user@www.shop.example/", "https://www.shop.example\\\\@evil.example/", "https://www.shop.example%2eevil.example/", "https://192.0.2.1/",
        "https://[2001:db8::1]/", "https://www.shop.example/a b", "https://www.shop.example/\\ta", "https://www.shop.example/\\r\\nX: y", "https://www.shop.example/\\0",
        "https://www.shop.example/ü", "https://www.shop.example/<script>", "https://www.shop.example/#top", "https://www.shop.example/?subId1=x",
        "https://www.shop.example/?SUBID1=x", "https://www.shop.example/?a=1&%73ubId1=x", "https://www.shop.example?\\u2028", "", "https://",
    ],
)  # fmt: skip
def test_a_target_that_could_lead_elsewhere_is_refused_with_its_line(target: str, tmp_path: Path) -> None:
    text = REGISTRY.replace("https://www.shop.example/plans?tier=pro", f'"{target}"')
    assert f"links.yml, line {TARGET_LINE}: " in refusal(tmp_path, text)


@pytest.mark.parametrize("host", ["192.0.2.1", "0x7f.0x1", "127.1", "localhost", "*.shop.example", "Shop.example", "shop.example:443", "shop.example.", "-a.example", "a..example", "[::1]", "shop_.example"])  # fmt: skip
def test_a_host_is_a_whole_lower_case_name(host: str, tmp_path: Path) -> None:
    assert "line 5: " in refusal(tmp_path, REGISTRY.replace("- www.shop.example", f"- '{host}'"))


@pytest.mark.parametrize(
    ("was", "becomes", "line", "told"),
    [
        ("link_id: shop-top", "link_id: ../x", 7, "is no link id"),
        ("link_id: shop-top", "link_id: ''", 7, "is no link id"),
        ("payout_cents: 9200", "payout_cents: -1", 11, "payout_cents must be"),
        ("payout_cents: 9200", "payout_cents: 92.5", 11, "payout_cents must be"),
        ("position: 1", "position: 0", 12, "position must be"),
        ("network: harborlink", "network: other", 9, "no network 'other'; there are harborlink"),
        ("    position: 1", "    colour: red", 12, "'colour' is unknown"),
        ("    position: 1", "    payout_cents: 1", 12, "'payout_cents' is twice"),
        ("    payout_cents: 9200\n", "", 7, "needs payout_cents"),
        ("sub_id_parameter: subId1", "sub_id_parameter: a&b", 3, "is no name of a parameter"),
        ("links:\n", "links: none\nmore:\n", 6, "expected a list"),
    ],
)
def test_a_mistake_is_told_with_its_line(was: str, becomes: str, line: int, told: str, tmp_path: Path) -> None:
    message = refusal(tmp_path, REGISTRY.replace(was, becomes))
    if "more" in becomes:
        assert "'more' is unknown" in message
    else:
        assert f"line {line}: " in message and told in message


def test_ids_and_networks_are_used_once(tmp_path: Path) -> None:
    head, link = REGISTRY.split("links:\n")
    assert "line 13: link_id 'shop-top' is there twice" in refusal(tmp_path, REGISTRY + link)
    network = head.removeprefix("networks:\n")
    assert "line 6: network 'harborlink' is there twice" in refusal(tmp_path, f"{head}{network}links:\n{link}")


@pytest.mark.parametrize("text", ["", "[]", "networks: {", "- x", "networks: []\nlinks: 7\n", "a: !!python/object:os.system {}"])  # fmt: skip
def test_what_is_no_registry_is_refused_by_name(text: str, tmp_path: Path) -> None:
    assert "links.yml" in refusal(tmp_path, text)


def test_a_missing_registry_tells_which_setting_names_it(tmp_path: Path) -> None:
    with pytest.raises(LinksError, match="CHART_EDGE_LINKS"):
        Links.load(tmp_path / "none.yml")


def test_a_change_is_followed_and_a_broken_one_keeps_the_links_that_were(tmp_path: Path) -> None:
    path = written(tmp_path / "links.yml", REGISTRY)
    links = Links.load(path)

    def replaced(text: str) -> None:
        written(tmp_path / "new.yml", text).replace(path)
        links.refresh()

    replaced(REGISTRY.replace("9200", "100"))
    assert [link.payout_cents for link in links] == [100]
    replaced("links: broken")
    assert [link.payout_cents for link in links] == [100]
    path.unlink()
    links.refresh()
    assert len(links) == 1
    replaced(REGISTRY.replace("9200", "200"))
    assert [link.payout_cents for link in links] == [200]


@settings(max_examples=examples(300, 20_000))
@given(rest=st.text(st.sampled_from("aZ9/?&=%#@:.;-_~ \\\"'<>\t\n\u00fc[]"), max_size=30))
def test_whatever_stands_behind_the_host_of_a_target_that_is_taken_stays_behind_it(rest: str) -> None:
    target = f"https://www.shop.example{rest}"
    text = REGISTRY.replace("https://www.shop.example/plans?tier=pro", json.dumps(target))
    with tempfile.TemporaryDirectory() as folder:
        try:
            (link,) = Links.load(written(Path(folder) / "links.yml", text))
        except LinksError:
            return
    found = urlsplit(link.location("abc"))
    assert (found.scheme, found.netloc) == ("https", "www.shop.example")
    assert parse_qs(found.query)["subId1"] == ["abc"]
    assert found.query.removesuffix("subId1=abc").rstrip("&") == urlsplit(target).query.rstrip("&")
