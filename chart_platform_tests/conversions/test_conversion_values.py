"""Values of reports are read exactly, or refused with their reason: amounts, times, currencies, texts."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chart_platform.conversions.networks import Network, NetworksError, load_networks
from chart_platform.conversions.values import Refused, cents, currency, moment, text
from chart_platform_tests.transform.fixtures import settings

CENTS = st.integers(-(10**14), 10**14)
COLUMNS = {"transaction_id": "id", "status": "s", "event_time": "t", "commission": "c", "currency": "y"}


def network(**given: Any) -> Network:
    return Network.model_validate({"name": "n", "columns": COLUMNS, "statuses": {"approved": ["ok"]}} | given)


US, GERMAN = network(thousands=","), network(decimal=",", thousands=".")
SWISS, CENT = network(thousands="'"), network(unit="cents")


@settings(max_examples=300)
@given(amount=CENTS)
def test_an_amount_is_read_to_the_cent_in_every_way_of_writing(amount: int) -> None:
    units, rest = divmod(abs(amount), 100)
    sign = "-" if amount < 0 else ""
    assert cents(f"{sign}{units}.{rest:02d}", US) == amount
    assert cents(f"{sign}{units:,}.{rest:02d}", US) == amount
    assert cents(f"{sign}{units:,}".replace(",", ".") + f",{rest:02d}", GERMAN) == amount
    assert cents(f"{units:,}".replace(",", "'") + f".{rest:02d}{sign}", SWISS) == amount
    assert cents(Decimal(amount) / 100, US) == amount
    assert cents(amount, CENT) == cents(str(amount), CENT) == amount
    if amount < 0:
        assert cents(f"({units}.{rest:02d})", US) == cents(f"\u2212{units}.{rest:02d}", US) == amount


@settings(max_examples=300)
@given(written=st.text("0123456789.,-+() 'eE$€NaInf", max_size=12))
def test_what_is_no_amount_is_refused_and_never_guessed(written: str) -> None:
    try:
        found = cents(written, US)
    except Refused:
        return
    plain = written.strip().replace(",", "")
    if found is None:
        assert not plain
        return
    negative = plain.startswith(("-", "(")) or plain.endswith("-")
    assert abs(found) == Decimal(plain.strip("-+()")) * 100
    assert negative == (found < 0) or found == 0


@pytest.mark.parametrize(
    ("written", "mapping", "code"),
    [
        ("1.234", US, "too_fine"),
        (Decimal("0.001"), US, "too_fine"),
        ("12.5", CENT, "too_fine"),
        ("1,23", US, "not_an_amount"),
        ("1.234,56", US, "not_an_amount"),
        ("12,34,567", US, "not_an_amount"),
        ("1,234", network(), "not_an_amount"),
        ("$12", US, "not_an_amount"),
        ("(-1)", US, "not_an_amount"),
        ("1e3", US, "not_an_amount"),
        (Decimal("1E+40"), US, "not_an_amount"),
        (Decimal("NaN"), US, "not_an_amount"),
        ("99999999999999999", US, "too_large"),
        (True, US, "wrong_type"),
        ([1], US, "wrong_type"),
    ],
)
def test_an_amount_that_does_not_fit_is_refused_with_its_code(written: Any, mapping: Network, code: str) -> None:
    with pytest.raises(Refused) as refused:
        cents(written, mapping)
    assert refused.value.code == code


NEW_YORK = network(time_zone="America/New_York", time_formats=["%m/%d/%Y %H:%M", "%m/%d/%Y", "iso"])


@pytest.mark.parametrize(
    ("written", "mapping", "utc"),
    [
        ("11/02/2026 12:00", NEW_YORK, "2026-11-02T17:00"),
        ("07/02/2026", NEW_YORK, "2026-07-02T04:00"),
        ("2026-11-02T12:00:00+01:00", NEW_YORK, "2026-11-02T11:00"),
        ("2026-11-02T12:00:00.123987Z", network(), "2026-11-02T12:00:00.123"),
        # The clock shows 01:30 twice on this day: the first is daylight saving time.
        ("11/01/2026 01:30", NEW_YORK, "2026-11-01T05:30"),
        ("1793620800000", network(time_formats=["epoch_ms"]), "2026-11-02T12:00"),
        (1793620800, network(time_formats=["epoch_s"]), "2026-11-02T12:00"),
    ],
)
def test_a_time_is_read_in_its_zone(written: Any, mapping: Network, utc: str) -> None:
    assert moment(written, mapping) == datetime.fromisoformat(utc)


@pytest.mark.parametrize("written", ["13/02/2026", "03/08/2026 02:30", "soon", "0001-01-01T00:00:00+14:00", "9" * 400])
def test_a_time_that_is_not_there_is_refused(written: str) -> None:
    with pytest.raises(Refused, match=r"format|does not exist|calendar"):
        moment(written, NEW_YORK)


def test_currencies_are_kept_as_iso_codes_and_texts_without_blanks() -> None:
    assert currency(" eur ") == "EUR"
    assert currency("") is text("  ") is None
    assert text(" 4711 ") == text(4711) == "4711"
    with pytest.raises(Refused, match="ISO 4217"):
        currency("€")
    with pytest.raises(Refused, match="encoding"):
        text("caf\udce9")
    with pytest.raises(Refused, match="501 characters"):
        text("x" * 501)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ("    decimal: ','\n    thousands: ','", r"line 2: networks\.0: .*both ','"),
        ("    time_zone: Mars/Olympus", r"line 6: networks\.0\.time_zone: .*no time zone 'Mars/Olympus'"),
        ("    encoding: utf-9", r"line 6: .*no encoding 'utf-9'"),
        ("    delimeter: ;", r"line 6: networks\.0\.delimeter: Extra"),
        ("    statuses: {approved: [x], paid: [X]}", r"x has two meanings"),
        ("    postback: {columns: {click_id: c}}", r"postback|transaction_id"),
        ("  - name: n\n    columns: {transaction_id: i, status: s, event_time: t, commission: c, currency: y}\n"
         "    statuses: {}", r"line 6: network 'n' is there twice"),
    ],
)  # fmt: skip
def test_a_mapping_that_cannot_be_used_is_refused_with_its_line(tmp_path: Path, changed: str, problem: str) -> None:
    lines = [
        "networks:",
        "  - name: n",
        "    columns: {transaction_id: i, status: s, event_time: t, commission: c,",
        "              currency: y}",
        "    statuses: {approved: [ok]}" if "statuses: {app" not in changed else "    # the statuses follow",
        changed,
    ]
    path = tmp_path / "networks.yml"
    path.write_text("\n".join(lines))
    with pytest.raises(NetworksError, match=problem):
        load_networks(path)


def test_the_packaged_mappings_are_those_of_the_networks_in_the_link_registry() -> None:
    from chart_platform.edge.links import Links

    assert set(load_networks()) == {link.network for link in Links.load()}


def test_mappings_that_are_not_there_name_the_setting(tmp_path: Path) -> None:
    with pytest.raises(NetworksError, match="CHART_CONVERSIONS_NETWORKS"):
        load_networks(tmp_path / "none.yml")
