"""Write keys: who may send, from where, how much.

Belongs here: the file of keys (YAML; secrets only as their SHA-256), making, rotating and revoking them, finding the one
that a request names. Does not belong here: rate limits (``limits``), HTTP.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import secrets
import string
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml

from chart_platform.edge.records import KeyKind
from chart_platform.settings import Settings

log = logging.getLogger(__name__)

ANY_ORIGIN = "*"

_ALPHABET = string.ascii_letters + string.digits
_SECRET_CHARS = 32
_RELOAD_SECONDS = 1.0
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")

_INHERITED = ("name", "kind", "source", "origins", "allow_no_origin", "events_per_second")

_Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class KeysError(ValueError):
    """A file of write keys that can't be used, with its line, or a key that isn't in it."""


class WriteKey(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One write key. ``events_per_second`` overrides the setting (0 is no limit); times are UTC.

    A key of kind ``network`` is for the postbacks of the affiliate network that ``source`` names, and for nothing else.
    ``origins`` are those of browsers that may use it (``https://shop.example``, or ``*``). A browser always names its
    origin, so a request without one is none of a browser: server keys take it, browser keys only with
    ``allow_no_origin``. A server key used by a page of any other origin has leaked, and is refused there.
    """

    id: Annotated[str, msgspec.Meta(pattern=r"^key_[A-Za-z0-9]+$")]
    name: str
    kind: KeyKind
    source: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    created_at: _Instant
    origins: tuple[str, ...] = ()
    allow_no_origin: bool = False
    events_per_second: Annotated[float, msgspec.Meta(ge=0)] | None = None
    expires_at: _Instant | None = None
    revoked_at: _Instant | None = None

    def __post_init__(self) -> None:
        for origin in self.origins:
            if origin != ANY_ORIGIN and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin such as https://shop.example (lower case, no path), nor *")

    def is_valid(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def allows(self, origin: str | None) -> bool:
        if origin is None:
            return self.kind != "browser" or self.allow_no_origin
        return origin in self.origins or ANY_ORIGIN in self.origins


class KeyStore:
    """The keys of one file, followed as it changes; a change that can't be read leaves the keys as they were."""

    def __init__(self, path: Path, keys: Iterable[WriteKey]) -> None:
        self.path = path
        self._use(keys)
        self._stamp = _stamp(path)
        self._looked = time.monotonic()

    @classmethod
    def load(cls, path: Path) -> KeyStore:
        """Read the file; without one there are no keys.

        Raises:
            KeysError: naming the file, the line and what is wrong there.
        """
        return cls(path, _read(path))

    def __iter__(self) -> Iterator[WriteKey]:
        return iter(self._by_hash.values())

    def __len__(self) -> int:
        return len(self._by_hash)

    def find(self, plaintext: bytes) -> WriteKey | None:
        """The key with this secret, valid or not (:meth:`WriteKey.is_valid`).

        Looked up by hash: how long it takes says nothing about any secret.
        """
        if time.monotonic() - self._looked >= _RELOAD_SECONDS:
            self._refresh()
        return self._by_hash.get(hashlib.sha256(plaintext).hexdigest())

    def _use(self, keys: Iterable[WriteKey]) -> None:
        self._by_hash = {key.sha256: key for key in keys}

    def _refresh(self) -> None:
        self._looked = time.monotonic()
        stamp = _stamp(self.path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._use(_read(self.path))
        except (KeysError, OSError) as error:
            log.error("The write keys changed and can't be used, the previous ones stay: %s", error)
        else:
            log.info("The write keys were read again: %s has %d.", self.path, len(self))


def keys_file(settings: Settings) -> Path:
    return settings.edge_keys or settings.edge_home / "write-keys.yml"


def create(
    path: Path,
    name: str,
    kind: KeyKind,
    source: str,
    origins: Iterable[str] = (),
    *,
    allow_no_origin: bool = False,
    events_per_second: float | None = None,
) -> tuple[WriteKey, str]:
    """Add a key; the key and its secret, which is kept nowhere.

    Raises:
        KeysError: the file can't be used, or the key can't be such.
    """
    entry = {
        "name": name,
        "kind": kind,
        "source": source,
        "origins": list(origins),
        "allow_no_origin": allow_no_origin,
        "events_per_second": events_per_second,
    }
    with _alone(path):
        return _add(path, _read(path), entry)


def rotate(path: Path, key_id: str, grace: timedelta) -> tuple[WriteKey, str]:
    """A new key with a secret of its own in place of ``key_id``, which goes on for ``grace``; returns as :func:`create`.

    Raises:
        KeysError: the file can't be used, or has no such key that is still valid.
    """
    with _alone(path):
        keys = _read(path)
        old = _named(path, keys, key_id)
        now = _now()
        if not old.is_valid(now):
            raise KeysError(f"{path}: {key_id!r} is no longer valid; create a new key instead.")
        ends = now + grace if old.expires_at is None else min(old.expires_at, now + grace)
        kept = [msgspec.structs.replace(key, expires_at=ends) if key is old else key for key in keys]
        return _add(path, kept, {member: getattr(old, member) for member in _INHERITED})


def revoke(path: Path, key_id: str) -> WriteKey:
    """End a key now. A running collector follows within a second or two.

    Raises:
        KeysError: the file can't be used, or has no such key.
    """
    with _alone(path):
        keys = _read(path)
        old = _named(path, keys, key_id)
        ended = msgspec.structs.replace(old, revoked_at=old.revoked_at or _now())
        _write(path, [ended if key is old else key for key in keys])
        return ended


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One at a time changes the file: it is read and written as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _add(path: Path, keys: list[WriteKey], entry: dict[str, Any]) -> tuple[WriteKey, str]:
    secret = "wk_" + _random(_SECRET_CHARS)
    made = {"id": f"key_{_random(10)}", "sha256": hashlib.sha256(secret.encode()).hexdigest(), "created_at": _now()}
    try:
        key = msgspec.convert(entry | made, WriteKey)
    except msgspec.ValidationError as error:
        raise KeysError(f"No such key can be made: {error}.") from None
    _write(path, [*keys, key])
    return key, secret


def _random(count: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(count))


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _named(path: Path, keys: list[WriteKey], key_id: str) -> WriteKey:
    for key in keys:
        if key.id == key_id:
            return key
    raise KeysError(f"{path}: no key {key_id!r}; there are {', '.join(key.id for key in keys) or 'none'}.")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> list[WriteKey]:
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise KeysError(f"{path}: can't be read: {error}. Set CHART_EDGE_KEYS to a file of write keys.") from error
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return []
        if not isinstance(root, yaml.MappingNode) or [key.value for key, _ in root.value] != ["keys"]:
            raise KeysError(f"{path}, line {root.start_mark.line + 1}: expected `keys:` with a list of keys.")
        (_, listed) = root.value[0]
        if not isinstance(listed, yaml.SequenceNode):
            raise KeysError(f"{path}, line {listed.start_mark.line + 1}: expected a list of keys.")
        keys: list[WriteKey] = []
        for node in listed.value:
            line = node.start_mark.line + 1
            try:
                key = msgspec.convert(loader.construct_document(node), WriteKey)
            except msgspec.ValidationError as error:
                raise KeysError(f"{path}, line {line}: {error}.") from None
            if any(key.id == other.id or key.sha256 == other.sha256 for other in keys):
                raise KeysError(f"{path}, line {line}: the key {key.id!r}, or its secret, is there twice.")
            keys.append(key)
        return keys
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise KeysError(f"{path}, line {line}: no YAML: {error.problem}.") from None
    except yaml.YAMLError as error:
        raise KeysError(f"{path}: no YAML: {error}") from None
    finally:
        loader.dispose()


def _write(path: Path, keys: list[WriteKey]) -> None:
    """Atomically, readable by the owner only."""
    document = {"keys": [msgspec.to_builtins(key, builtin_types=(datetime,)) for key in keys]}
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        yaml.safe_dump(document, file, sort_keys=False, allow_unicode=True)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
