"""Drop folders on S3: listed and read as those on disk."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chart_platform.lakehouse.drop import Drop
from chart_platform.settings import Settings
from chart_platform_tests.aws.conftest import Glue

pytestmark = pytest.mark.slow


def test_files_of_a_bucket_are_found_below_the_folder_once_they_are_settled(
    glue: Glue, aws_settings: Callable[..., dict[str, Any]]
) -> None:
    settings = Settings(**aws_settings())
    bucket = settings.warehouse_url.split("/")[2]
    put = glue.client("s3").put_object
    for name in ("drop/plain/a.csv", "drop/plain/.hidden.csv", "drop/b.csv.part", "elsewhere/c.csv"):
        put(Bucket=bucket, Key=name, Body=name.encode())
    drop = Drop(settings, f"s3://{bucket}/drop")
    now = datetime.now(UTC).replace(tzinfo=None)
    assert drop.files(now) == []
    (file,) = drop.files(now + timedelta(minutes=1))
    assert (file.name, file.size, drop.read(file)) == ("plain/a.csv", 16, b"drop/plain/a.csv")
    assert Drop(settings, f"s3://{bucket}/nothing").files(now + timedelta(minutes=1)) == []
