"""The affiliate links there are: the only places that a redirect leads to.

Belongs here: reading and checking the registry (YAML), and reading it again when it changes. Does not belong here: who
clicked (``redirect``), or what vouches for a click (``signing``).

Every mistake that would let a request choose where it goes is refused when the file is read, with its line: what this
module hands out needs no check at the time of a click.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import monotonic
from urllib.parse import unquote

import msgspec
import yaml

DEFAULT_LINKS = Path(__file__).parent / "links.yml"

_LOG = logging.getLogger(__name__)
_RELOAD_SECONDS = 2.0
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PARAMETER = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# The last label starts with a letter, so that no form of an IPv4 address is a name: browsers read 0x7f.0x1 as one.
_HOST = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)+(?=[a-z]){_LABEL}")
# What RFC 3986 allows behind the host; no space, control character, backslash or quotation mark.
_TARGET = re.compile(r"https://([^/?#]*)((?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?)")
_MAX_TARGET_CHARS = 2_000
_MAX_CENTS = 2**53 - 1


class LinksError(ValueError):
    """A registry that can't be used, with its file and line."""


class Link(msgspec.Struct, frozen=True):
    """One affiliate link. ``payout_cents`` is what ``network`` is expected to pay for a click; ``position`` its place on
    the chart, from 1 at the top."""

    link_id: str
    product_id: str
    network: str
    target: str
    payout_cents: int
    sub_id_parameter: str
    position: int | None = None

    def location(self, click_id: str) -> str:
        """The target with ``click_id`` (alphanumeric) for the network."""
        return f"{self.target}{'&' if '?' in self.target else '?'}{self.sub_id_parameter}={click_id}"


class _Network(msgspec.Struct, frozen=True):
    name: str
    sub_id_parameter: str
    hosts: frozenset[str]


class Links:
    """The registry of one file. It follows the file's changes; a broken one keeps the links that were."""

    def __init__(self, path: Path, links: Mapping[str, Link]) -> None:
        self._path = path
        self._links = links
        self._stamp = _stamp(path)
        self._looked = monotonic()

    @classmethod
    def load(cls, path: Path | None = None) -> Links:
        """Read and check ``path``, by default the demo site's.

        Raises:
            LinksError: naming the file, the line and what is wrong there.
        """
        source = path or DEFAULT_LINKS
        return cls(source, _read(source))

    def get(self, link_id: str) -> Link | None:
        if monotonic() - self._looked >= _RELOAD_SECONDS:
            self.refresh()
        return self._links.get(link_id)

    def __iter__(self) -> Iterator[Link]:
        return iter(self._links.values())

    def __len__(self) -> int:
        return len(self._links)

    def refresh(self) -> None:
        """Read the file again if it changed."""
        self._looked = monotonic()
        try:
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._links = _read(self._path)
        except (LinksError, OSError) as error:
            _LOG.error("The link registry changed and can't be used, the previous one stays: %s", error)
        else:
            _LOG.info("The link registry was read again: %s has %d links.", self._path, len(self._links))


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


class _Reader:
    """Reads values out of YAML nodes, which know their lines."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def error(self, node: yaml.Node, problem: str) -> LinksError:
        return LinksError(f"{self._path}, line {node.start_mark.line + 1}: {problem}")

    def items(self, node: yaml.Node) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            raise self.error(node, "expected a list.")
        return list(node.value)

    def members(
        self, node: yaml.Node, required: tuple[str, ...], optional: tuple[str, ...] = ()
    ) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"expected {', '.join(required)}.")
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in found or name not in required + optional:
                problem = "twice" if name in found else f"unknown; there are {', '.join(required + optional)}"
                raise self.error(key, f"{name!r} is {problem}.")
            found[name] = value
        if missing := [name for name in required if name not in found]:
            raise self.error(node, f"needs {', '.join(missing)}.")
        return found

    def text(self, node: yaml.Node, form: re.Pattern[str], what: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or not form.fullmatch(node.value):
            raise self.error(node, f"{_shown(node)} is no {what} ({form.pattern}).")
        return str(node.value)

    def number(self, node: yaml.Node, least: int, what: str) -> int:
        known = isinstance(node, yaml.ScalarNode) and re.fullmatch(r"[0-9]{1,16}", node.value)
        if not known or not least <= int(node.value) <= _MAX_CENTS:
            raise self.error(node, f"{what} must be a whole number from {least}, not {_shown(node)}.")
        return int(node.value)


def _shown(node: yaml.Node) -> str:
    return repr(node.value) if isinstance(node, yaml.ScalarNode) else "a list or mapping"


def _read(path: Path) -> dict[str, Link]:
    reader = _Reader(path)
    try:
        root = yaml.compose(path.read_text("utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise LinksError(f"{path}: can't be read: {error.strerror}. Set CHART_EDGE_LINKS to a registry.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LinksError(f"{path}: no YAML: {error}") from error
    if root is None:
        raise LinksError(f"{path}: empty; expected networks and links.")
    parts = reader.members(root, ("networks", "links"))
    networks: dict[str, _Network] = {}
    for node in reader.items(parts["networks"]):
        network = _network(reader, node)
        if network.name in networks:
            raise reader.error(node, f"network {network.name!r} is there twice.")
        networks[network.name] = network
    links: dict[str, Link] = {}
    for node in reader.items(parts["links"]):
        link = _link(reader, node, networks)
        if link.link_id in links:
            raise reader.error(node, f"link_id {link.link_id!r} is there twice.")
        links[link.link_id] = link
    return links


def _network(reader: _Reader, node: yaml.Node) -> _Network:
    members = reader.members(node, ("name", "sub_id_parameter", "hosts"))
    return _Network(
        reader.text(members["name"], _ID, "name of a network"),
        reader.text(members["sub_id_parameter"], _PARAMETER, "name of a parameter"),
        frozenset(reader.text(host, _HOST, "host name") for host in reader.items(members["hosts"])),
    )


def _link(reader: _Reader, node: yaml.Node, networks: Mapping[str, _Network]) -> Link:
    members = reader.members(node, ("link_id", "product_id", "network", "target", "payout_cents"), ("position",))
    name = reader.text(members["network"], _ID, "name of a network")
    if name not in networks:
        raise reader.error(members["network"], f"no network {name!r}; there are {', '.join(networks)}.")
    network = networks[name]
    return Link(
        link_id=reader.text(members["link_id"], _ID, "link id"),
        product_id=reader.text(members["product_id"], _ID, "product id"),
        network=name,
        target=_target(reader, members["target"], network),
        payout_cents=reader.number(members["payout_cents"], 0, "payout_cents"),
        sub_id_parameter=network.sub_id_parameter,
        position=reader.number(members["position"], 1, "position") if "position" in members else None,
    )


def _target(reader: _Reader, node: yaml.Node, network: _Network) -> str:
    target = reader.text(node, _TARGET, "https URL of plain ASCII without a fragment")
    if len(target) > _MAX_TARGET_CHARS:
        raise reader.error(node, f"the target has {len(target)} characters, over {_MAX_TARGET_CHARS}.")
    match = _TARGET.fullmatch(target)
    assert match is not None
    host, rest = match.groups()
    # Exact: this refuses user names, ports, upper case, trailing dots and addresses, as no host name has them.
    if host not in network.hosts:
        known = ", ".join(sorted(network.hosts))
        raise reader.error(node, f"{host!r} is no host of network {network.name!r} ({known}).")
    query = rest.partition("?")[2]
    if network.sub_id_parameter.lower() in {unquote(part.partition("=")[0]).lower() for part in query.split("&")}:
        raise reader.error(node, f"the target already has {network.sub_id_parameter!r}, where the click id goes.")
    return target
