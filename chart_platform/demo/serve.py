"""The process that serves the demo site of an instance: ``python -m chart_platform.demo.serve``.

Belongs here: the server. Does not belong here: the site (``app``), its key (``keys``).
"""

from __future__ import annotations

import sys

import uvicorn

from chart_platform.demo.app import create_app
from chart_platform.demo.keys import demo_keys
from chart_platform.settings import get_settings


def main() -> int:
    settings = get_settings()
    try:
        app = create_app(settings, demo_keys(settings).site)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    uvicorn.run(app, host="127.0.0.1", port=settings.demo_port, log_level="warning", server_header=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
