"""The one partitions definition. All assets share it, as a run has one partition key and one batch goes to gold in one run."""

from __future__ import annotations

import dagster as dg

from chart_platform.settings import get_settings

# end_offset=1: the current day is a partition too, which by default it is not until it is over.
daily = dg.DailyPartitionsDefinition(start_date=get_settings().first_day.isoformat(), end_offset=1)
