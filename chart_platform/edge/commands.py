"""``chart-platform keys …``: write keys on the command line.

Belongs here: arguments and what is printed. Does not belong here: what a key is (``keys``).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, cast

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chart_platform.conversions.networks import load_networks
from chart_platform.edge import keys as store
from chart_platform.edge.keys import KeyStore, WriteKey, keys_file
from chart_platform.edge.records import KeyKind
from chart_platform.settings import get_settings

keys = typer.Typer(
    help="Write keys of the collector. A secret is printed once and kept only as its hash.", no_args_is_help=True
)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
_KeyId = Annotated[str, typer.Argument(help="Id of the key: key_…", metavar="KEY_ID")]


@keys.command("create")
def create(
    name: Annotated[str, typer.Option(help="What it is for, for people.")],
    kind: Annotated[
        str,
        typer.Option(help="browser (public, bound to origins), server (secret) or network (secret, for postbacks)."),
    ] = "browser",
    source: Annotated[
        str | None, typer.Option(help="Kind of client, default: web or server; for postbacks the network's name.")
    ] = None,
    origin: Annotated[list[str] | None, typer.Option(help="https://shop.example or *; may be repeated.")] = None,
    allow_no_origin: Annotated[
        bool, typer.Option("--allow-no-origin", help="A browser key for clients that are none, such as apps.")
    ] = False,
    events_per_second: Annotated[float | None, typer.Option(min=0, help="Its own limit; 0 is none.")] = None,
    as_json: _Json = False,
) -> None:
    """Make a key and print its secret, once."""
    if kind not in ("browser", "server", "network"):
        raise typer.BadParameter(f"{kind!r} is none of browser, server, network", param_hint="--kind")
    if kind == "browser" and not origin and not allow_no_origin:
        raise typer.BadParameter("a browser key needs one, or it could be used from nowhere", param_hint="--origin")
    settings = get_settings()
    if kind == "network" and source not in (known := load_networks(settings.conversions_networks)):
        raise typer.BadParameter(f"{source!r} is no network with a mapping: {', '.join(known)}", param_hint="--source")
    key, secret = store.create(
        keys_file(settings),
        name,
        cast(KeyKind, kind),
        source or ("server" if kind == "server" else "web"),
        origin or (),
        allow_no_origin=allow_no_origin,
        events_per_second=events_per_second,
    )
    _show_secret(key, secret, as_json)


@keys.command("list")
def list_(as_json: _Json = False) -> None:
    """Show all keys, without their secrets."""
    found = list(KeyStore.load(keys_file(get_settings())))
    if as_json:
        print(msgspec.json.encode([_public(key) for key in found]).decode())
        return
    view = Table("id", "name", "kind", "source", "origins", "state")
    for key in found:
        view.add_row(key.id, Text(key.name), key.kind, Text(key.source), " ".join(key.origins), _state(key))
    Console().print(view)


@keys.command("rotate")
def rotate(
    key_id: _KeyId,
    grace_hours: Annotated[float, typer.Option(min=0, help="How long the old secret stays valid.")] = 24.0,
    as_json: _Json = False,
) -> None:
    """Make a new key in place of one, which stays valid for a while; print the new secret, once."""
    key, secret = store.rotate(keys_file(get_settings()), key_id, timedelta(hours=grace_hours))
    _show_secret(key, secret, as_json)


@keys.command("revoke")
def revoke(key_id: _KeyId) -> None:
    """End a key now."""
    key = store.revoke(keys_file(get_settings()), key_id)
    print(f"{key.id} ({key.name}) is revoked; a running collector follows within two seconds.")


def _show_secret(key: WriteKey, secret: str, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode({**_public(key), "secret": secret}).decode())
    else:
        print(f"{key.id}\n{secret}\nThe second line is the secret; it is shown only now.")


def _public(key: WriteKey) -> dict[str, Any]:
    shown = msgspec.to_builtins(key)
    del shown["sha256"]
    return {**shown, "state": _state(key)}


def _state(key: WriteKey) -> str:
    now = datetime.now(UTC)
    if key.is_valid(now):
        return f"valid until {key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else "valid"
    return "revoked" if key.revoked_at else "expired"
