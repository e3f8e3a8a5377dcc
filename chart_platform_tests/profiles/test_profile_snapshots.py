"""The check at the door of company data: every problem is named, nothing undeclared comes in."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from chart_platform.profiles.snapshots import KEY, SCHEMA, ProfilesRefused, Snapshot, snapshot
from chart_platform.profiles.sources import offers
from chart_platform.settings import Settings
from chart_platform_tests.profiles.profile_world import START, profile


def _given(*rows: dict[str, Any], **columns: Any) -> pa.Table:
    table = pa.Table.from_pylist([*rows], schema=SCHEMA)
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    return table


def _taken(table: pa.Table) -> Snapshot:
    return snapshot("crm", START, table)


def test_profiles_are_the_same_whatever_their_order_their_reading_and_their_column_names_case() -> None:
    one = _taken(_given(profile("a"), profile("b", crm_tier=None)))
    other = _given(profile("b", crm_tier=" "), profile("a", updated_at=datetime(2026, 11, 5)))
    other = other.rename_columns([name.upper() for name in other.column_names])
    assert _taken(other).digest == one.digest
    assert _taken(_given(profile("a"), profile("b", crm_tier="basic"))).digest != one.digest


def test_a_column_that_is_missing_is_named_with_what_it_may_be_called_now() -> None:
    table = _given(profile("a")).rename_columns(
        [{"crm_tier": "crm_tier_name", "country": "land"}.get(name, name) for name in SCHEMA.names]
    )
    with pytest.raises(
        ProfilesRefused, match=r"crm_tier is missing \(renamed to crm_tier_name\?\); column country is missing"
    ):
        _taken(table)


def test_every_column_of_a_wrong_type_is_named() -> None:
    table = _given(profile("a"))
    table = table.set_column(3, "signup_date", pa.array(["yesterday"])).set_column(4, "marketing_email", pa.array([1]))
    with pytest.raises(
        ProfilesRefused, match="signup_date: is string, expected date; column marketing_email: is int64"
    ):
        _taken(table)


def test_keys_must_be_there_once() -> None:
    with pytest.raises(ProfilesRefused, match="1 profiles have no user_id_hash"):
        _taken(_given(profile("a"), profile("")))
    with pytest.raises(ProfilesRefused, match="1 profiles have a user_id_hash that another one has too"):
        _taken(_given(profile("a"), profile("a", country="FR")))
    with pytest.raises(ProfilesRefused, match="country is there 2 times"):
        _taken(_given(profile("a"), Country=["FR"]))


def test_a_column_that_nobody_declared_is_named_and_not_copied() -> None:
    taken = _taken(_given(profile("a"), email=["a@example.com"]))
    assert taken.ignored == ("email",)
    assert taken.rows.schema.names == SCHEMA.names


def test_a_time_with_a_zone_is_an_instant() -> None:
    stamps = pa.array([datetime(2026, 11, 1, 9, tzinfo=UTC)]).cast(pa.timestamp("ns", "Asia/Tokyo"))
    table = _given(profile("a")).set_column(6, "updated_at", stamps)
    assert _taken(table).rows["updated_at"].to_pylist() == [datetime(2026, 11, 1, 9)]


@pytest.fixture
def drop(tmp_path: Path) -> Settings:
    (tmp_path / "drop" / "profiles").mkdir(parents=True)
    return Settings(home=tmp_path)


def _put(settings: Settings, name: str, content: bytes | pa.Table) -> None:
    path = Path(settings.profiles_drop_url) / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        parquet.write_table(content, path)
    os.utime(path, (1.7e9, 1.7e9))


def test_csv_and_parquet_files_say_the_same(drop: Settings) -> None:
    text = (
        "user_id_hash,crm_tier,country,signup_date,marketing_email,marketing_ads,updated_at\r\n"
        'a,"gold",DE,2025-01-02,true,,2026-11-01T02:00:00+02:00\r\n'
    )
    _put(drop, "profiles_2026-11-01.csv", b"\xef\xbb\xbf" + text.encode())
    _put(drop, "profiles_2026-11-02T0630.parquet", _given(profile("a")))
    first, second = (offer.read() for offer in offers(drop, since=None))
    assert first.rows.equals(second.rows)
    assert (first.as_of, second.as_of) == (datetime(2026, 11, 1), datetime(2026, 11, 2, 6, 30))


def test_only_files_that_speak_of_a_later_time_are_offered(drop: Settings) -> None:
    for name in ("2026-11-01.parquet", "2026-11-02.parquet", "undated.parquet"):
        _put(drop, name, _given(profile("a")))
    offered = [offer.source.rpartition("/")[2] for offer in offers(drop, since=datetime(2026, 11, 1))]
    assert offered == ["2026-11-02.parquet"]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("p.csv", b"user_id_hash,crm_tier\na", "can't be read"),
        ("p.csv", b"", "can't be read"),
        ("p.csv", b"user_id_hash\na\n", "column crm_tier is missing"),
        ("p.parquet", b"PAR1", "can't be read"),
        ("p.xlsx", b"PK", r"must end in \.parquet or \.csv"),
        (
            "p.csv",
            b"user_id_hash,crm_tier,country,signup_date,marketing_email,marketing_ads,updated_at\na,,,02.01.2025,maybe,,soon\n",
            "signup_date.*marketing_email.*updated_at",
        ),
    ],
)
def test_a_file_that_is_no_table_of_profiles_is_refused(
    drop: Settings, name: str, content: bytes, problem: str
) -> None:
    _put(drop, name, content)
    (offer,) = offers(drop, since=None)
    with pytest.raises(ProfilesRefused, match=problem):
        offer.read()


def test_dates_in_the_schema_are_dates() -> None:
    assert _taken(_given(profile("a"))).rows["signup_date"].to_pylist() == [date(2025, 1, 2)]
    assert _taken(_given(profile("a"))).rows[KEY].to_pylist() == ["a"]
