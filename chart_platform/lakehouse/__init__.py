"""Iceberg: the catalog, the commit protocol, reading for DuckDB, maintenance. Knows tables, not what they mean."""
