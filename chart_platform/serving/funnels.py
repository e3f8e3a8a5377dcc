"""The funnel macro of the dbt project as SQL, for notebooks and scripts that have DuckDB and no dbt.

Belongs here: rendering dbt_project/macros/funnel.sql. Does not belong here: what a funnel is (docs/funnels.md), the mart.
"""

from __future__ import annotations

import re
from functools import cache
from types import SimpleNamespace
from typing import Any, NoReturn

from jinja2 import Environment

from chart_platform.transform.dbt import PROJECT


class FunnelRefused(ValueError):
    """The arguments describe no funnel; the message says which of them and why."""


def funnel_sql(events: str, steps: list[dict[str, str]], by: str | list[str], **options: Any) -> str:
    """The query that ``{{ funnel(…) }}`` stands for in a model; arguments and columns are told in the macro.

    >>> steps = [{"name": "saw", "where": "is_comparison"}, {"name": "left", "where": "affiliate_clicks > 0"}]
    >>> duckdb.sql(funnel_sql("gold.fact_page_views", steps, by="session_id", window="30 minutes"))

    Raises:
        FunnelRefused: the steps, the window or an exclusion make no sense.
    """
    return str(_macros().funnel(events, steps, by, **options))


@cache
def _macros() -> Any:
    environment = Environment(extensions=["jinja2.ext.do"])
    # What dbt offers to every macro, as far as this one uses it.
    environment.globals["modules"] = SimpleNamespace(re=re)
    environment.globals["exceptions"] = SimpleNamespace(raise_compiler_error=_refuse)
    return environment.from_string((PROJECT / "macros" / "funnel.sql").read_text()).module


def _refuse(problem: str) -> NoReturn:
    raise FunnelRefused(problem)
