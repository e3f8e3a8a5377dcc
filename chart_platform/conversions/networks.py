"""How each affiliate network writes its reports: the YAML of mappings, read and checked.

Belongs here: the mapping as a value. Does not belong here: applying it (``values``, ``records``).
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from chart_platform.contracts.yaml_lines import YamlMistake, read_yaml

DEFAULT_NETWORKS = Path(__file__).parent / "networks.yml"

Status = Literal["pending", "approved", "paid", "reversed"]


class NetworksError(ValueError):
    """Mappings that can't be used, with the file and line."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))


class Constant(_Strict):
    """A value that the network doesn't write because it is always the same."""

    value: str = Field(min_length=1)


Source = str | Constant


class Columns(_Strict):
    """Where each of our values stands: the name of a CSV column, the dotted path of a JSON member, or a constant."""

    transaction_id: str
    status: Source
    event_time: str
    commission: str
    currency: Source
    click_id: str | None = None
    sale_amount: str | None = None
    updated_time: str | None = None

    @property
    def named(self) -> dict[str, str]:
        """Our names and the network's, of what is in its files."""
        return {ours: theirs for ours, theirs in self if isinstance(theirs, str)}


class Network(_Strict):
    """One network's way of writing. ``unit`` tells whether amounts are in whole units (12.34) or in cents (1234)."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    columns: Columns
    statuses: Mapping[Status, tuple[str, ...]]
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    encoding: str = "utf-8"
    records: str | None = Field(default=None, description="Dotted path of the list of records in a JSON document.")
    time_zone: str = "UTC"
    time_formats: tuple[str, ...] = Field(default=("iso",), min_length=1)
    decimal: Literal[".", ","] = "."
    thousands: Literal[",", ".", "'", " "] | None = None
    unit: Literal["major", "cents"] = "major"
    postback: Mapping[str, Any] | None = None

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            return codecs.lookup(value).name
        except LookupError:
            raise ValueError(f"no encoding {value!r}") from None

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"no time zone {value!r}") from None
        return value

    @model_validator(mode="after")
    def _unambiguous(self) -> Network:
        if self.thousands == self.decimal:
            raise ValueError(f"thousands and decimal are both {self.decimal!r}")
        words = [word.casefold() for found in self.statuses.values() for word in found]
        if doubled := sorted({word for word in words if words.count(word) > 1}):
            raise ValueError(f"statuses: {', '.join(doubled)} has two meanings")
        if isinstance(self.columns.status, Constant) and self.columns.status.value.casefold() not in words:
            raise ValueError(f"statuses: the constant {self.columns.status.value!r} is none of them")
        if self.postback is not None:
            # Checked when the file is read, not when the first call comes.
            _ = self.of_postbacks
        return self

    @cached_property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @cached_property
    def status_of(self) -> dict[str, Status]:
        """Our state by the network's word, casefolded."""
        return {word.casefold(): status for status, found in self.statuses.items() for word in found}

    @cached_property
    def of_postbacks(self) -> Network:
        """The mapping for HTTP postbacks: this one, with what ``postback`` says otherwise."""
        given = self.model_dump(exclude={"postback"}, exclude_unset=True)
        return Network.model_validate(given | dict(self.postback or {}))

    @cached_property
    def digest(self) -> str:
        """sha256 of all that the mapping says."""
        said = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()


class _File(_Strict):
    networks: tuple[Network, ...]


def load_networks(path: Path | None = None) -> dict[str, Network]:
    """The mappings of ``path`` (default: the demo's), by name.

    Raises:
        NetworksError: naming the file, the line and what is wrong there.
    """
    source = path or DEFAULT_NETWORKS
    try:
        file, lines = read_yaml(source, _File, "CHART_CONVERSIONS_NETWORKS")
    except YamlMistake as error:
        raise NetworksError(str(error)) from error
    by_name: dict[str, Network] = {}
    for number, network in enumerate(file.networks):
        if network.name in by_name:
            line = lines.of("networks", number)
            raise NetworksError(f"{source}, line {line}: network {network.name!r} is there twice.")
        by_name[network.name] = network
    return by_name
