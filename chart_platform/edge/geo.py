"""The country of an address, from the operator's database in MaxMind's format (.mmdb).

Belongs here: opening the file, following its changes, looking up. Does not belong here: whose address it is (``enrich``).
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from time import monotonic

import maxminddb

_LOG = logging.getLogger(__name__)
_RELOAD_SECONDS = 5.0
_COUNTRY = re.compile(r"[A-Z]{2}")


class GeoError(ValueError):
    """A geo database that can't be used, with its path."""


class Geo:
    """Looks up countries. Without a database every country is null.

    The file is read again when it changes: replace it by renaming, as the tools of its makers do, for it is mapped into
    memory. One that can't be read keeps the one before.

    Raises:
        GeoError: the file is missing or no database.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._looked = monotonic()
        self._stamp = _stamp(path) if path else None
        self._reader = _open(path) if path else None

    def refresh(self) -> bool:
        """Follow a change of the file, looking every few seconds; true if it was read again."""
        if self._path is None or monotonic() - self._looked < _RELOAD_SECONDS:
            return False
        self._looked = monotonic()
        try:
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                return False
            self._stamp = stamp
            self._reader = _open(self._path)
        except GeoError as error:
            _LOG.error("The geo database changed and can't be used, the previous one stays: %s", error)
            return False
        return True

    def country(self, address: str) -> str | None:
        """ISO 3166-1 alpha-2 country of ``address``, an IPv4 or IPv6 address."""
        if self._reader is None:
            return None
        try:
            found = self._reader.get(address)
        except (ValueError, maxminddb.InvalidDatabaseError):
            # An IPv6 address and a database of IPv4 only; or a file that is damaged behind its index.
            return None
        place = found.get("country") if isinstance(found, dict) else None
        code = place.get("iso_code") if isinstance(place, dict) else None
        return code if isinstance(code, str) and _COUNTRY.fullmatch(code) else None


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise GeoError(
            f"{path}: {error.strerror}. Set CHART_EDGE_GEO_DATABASE to an .mmdb file, or leave it unset."
        ) from error
    return found.st_mtime_ns, found.st_size, found.st_ino


def _open(path: Path) -> maxminddb.Reader:
    try:
        return maxminddb.open_database(path)
    except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
        problem = f"{path}: no geo database: {error}"
        raise GeoError(f"{problem} Set CHART_EDGE_GEO_DATABASE to an .mmdb file, or leave it unset.") from error
