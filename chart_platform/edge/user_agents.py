"""What kind of client a user agent string is: device, browser and operating system families, without versions.

Belongs here: the classes, and the bounded memory of strings already read. Does not belong here: whose string it is
(``enrich``, ``admission``), or what is done about bots (``redirect``).
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Literal

import msgspec
from ua_parser.core import Domain, Resolver
from ua_parser.loaders import load_lazy_builtins
from ua_parser.regex import Resolver as RegexResolver

Device = Literal["desktop", "mobile", "tablet", "tv", "bot", "other"]

# Nothing that tells a client stands further behind, and a longer string would only take room and time.
_READ_CHARS = 512
_KNOWN_AGENTS = 4_096

# Cubot is a maker of telephones.
_BOT = re.compile(
    r"(?<!cu)bot\b|bot[/;_-]|crawl|spider|slurp|headless|phantomjs|lighthouse|pagespeed|scrapy|preview|monitor|uptime|archiver"
    r"|^(?:curl|wget|python|go-http|java|libwww|node|axios|undici|ruby|php|perl|postman|k6|hey|ab)\b|python-|httpx|aiohttp",
    re.IGNORECASE,
)
_TV = re.compile(
    r"\b(?:smart-?tv|hbbtv|googletv|appletv|tv)\b|web0s|netcast|roku|crkey|bravia|\baft[a-z]", re.IGNORECASE
)
_TABLET = re.compile(r"ipad|tablet|kindle|\bsilk\b|playbook|android(?!.*mobile)", re.IGNORECASE)
_MOBILE = re.compile(r"mobi|iphone|ipod|android|blackberry|opera mini|kaios", re.IGNORECASE)
_DESKTOP = re.compile(r"windows nt|macintosh|x11|cros|linux", re.IGNORECASE)


class Agent(msgspec.Struct, frozen=True, gc=False):
    """The class of a client; a family that isn't known is null."""

    device: Device
    browser: str | None
    os: str | None

    @property
    def is_bot(self) -> bool:
        return self.device == "bot"


_OTHER = Agent("other", None, None)


@cache
def _resolver() -> Resolver:
    # 0.1 s once a process: not at import, as most of what imports this reads no user agent.
    return RegexResolver(load_lazy_builtins())


def _read(text: str) -> Agent:
    found = _resolver()(text, Domain.ALL)
    browser = found.user_agent.family if found.user_agent else None
    os = found.os.family if found.os else None
    brand = found.device.brand if found.device else None
    device: Device
    if brand == "Spider" or _BOT.search(text):
        device = "bot"
    elif _TV.search(text):
        device = "tv"
    elif brand == "Generic_Android_Tablet" or _TABLET.search(text):
        device = "tablet"
    elif _MOBILE.search(text):
        device = "mobile"
    elif _DESKTOP.search(text):
        device = "desktop"
    else:
        device = "other"
    return Agent(device, browser, os)


@lru_cache(maxsize=_KNOWN_AGENTS)
def _known(text: str) -> Agent:
    return _read(text) if text.strip() else _OTHER


def classify(text: str) -> Agent:
    """The class of the client that calls itself ``text``. Never raises; remembers the last few thousand, as reading one
    takes 0.1 ms."""
    return _known(text) if len(text) <= _READ_CHARS else _known(text[:_READ_CHARS])
