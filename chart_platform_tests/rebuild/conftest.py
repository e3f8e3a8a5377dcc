"""Homes for the tests of this folder."""

from chart_platform_tests.transform.fixtures import dbt_cache, new_home

__all__ = ["dbt_cache", "new_home"]
