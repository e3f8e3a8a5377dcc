"""``chart-platform rebuild``: days of the derived tables computed again as a Dagster backfill, and what that changed."""
