"""Where the foreign test cases lie: data that others wrote, with their expectations of it.

Belongs here: finding them. Does not belong here: what they say.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def cases() -> Path:
    """The folder of CHART_CASES, by default ``../shared/cases`` beside the repository; the test is skipped without it."""
    folder = Path(os.environ.get("CHART_CASES") or REPOSITORY / "../shared/cases").resolve()
    if not folder.is_dir():
        pytest.skip(f"no foreign cases in {folder}: set CHART_CASES to the folder that holds them")
    return folder
