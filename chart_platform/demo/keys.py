"""The write keys of an instance's own senders: a browser key for the demo site, a server key for simulated traffic, and
one of each simulated network that calls back over HTTP.

Belongs here: making them once, and keeping their secrets where only the instance's owner reads them. Does not belong
here: keys of real sites (``chart-platform keys``), whose secrets are kept nowhere.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from chart_platform.edge.keys import KeyStore, create, keys_file
from chart_platform.settings import Settings
from chart_platform.simulator.networks import POSTBACKS


class DemoKeys(NamedTuple):
    """Secrets in plain text. ``site`` is in the demo's pages for all to see, the others must not leave the machine."""

    site: str
    traffic: str
    networks: dict[str, str]


def demo_origins(settings: Settings) -> tuple[str, ...]:
    return tuple(f"http://{host}:{settings.demo_port}" for host in ("127.0.0.1", "localhost"))


def ensure_demo_keys(settings: Settings) -> DemoKeys:
    """The keys of this home, made if there are none or the collector would not take them (any more).

    Raises:
        KeysError: the file of write keys can't be used.
    """
    file = _file(settings)
    found = _read(file)
    if found is not None and _are_good(settings, found):
        return found
    store = keys_file(settings)
    _, site = create(store, "demo site", "browser", "web", demo_origins(settings))
    # Its traffic stands for that of browsers; 0 is no limit, as one machine sends what thousands would.
    _, traffic = create(store, "simulated traffic", "server", "web", events_per_second=0)
    networks = {name: create(store, f"simulated {name}", "network", name)[1] for name in POSTBACKS}
    keys = DemoKeys(site, traffic, networks)
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        json.dump(keys._asdict(), out)
    scratch.replace(file)
    return keys


def demo_keys(settings: Settings) -> DemoKeys:
    """The keys that were made for this home.

    Raises:
        FileNotFoundError: there are none.
    """
    found = _read(_file(settings))
    if found is None:
        raise FileNotFoundError(f"{_file(settings)} is missing: `chart-platform up` makes the demo's keys.")
    return found


def _file(settings: Settings) -> Path:
    return settings.edge_home / "demo-keys.json"


def _read(file: Path) -> DemoKeys | None:
    try:
        return DemoKeys(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _are_good(settings: Settings, keys: DemoKeys) -> bool:
    store, now = KeyStore.load(keys_file(settings)), datetime.now(UTC)
    found = [store.find(secret.encode()) for secret in (keys.site, keys.traffic, *keys.networks.values())]
    if keys.networks.keys() != POSTBACKS.keys() or not all(key is not None and key.is_valid(now) for key in found):
        return False
    site = found[0]
    return site is not None and all(map(site.allows, demo_origins(settings)))
