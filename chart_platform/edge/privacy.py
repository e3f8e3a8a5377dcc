"""Taking personal data out of what the edge keeps: texts, URLs and addresses.

Belongs here: pure functions from a text to one that is safe to keep. Does not belong here: which members of an event
they are for (``admission``), whose address a request has (``enrich``), consent.

What is looked for: e-mail addresses, card numbers (with their check digit, issuer and length), telephone numbers in
international or ``555-123-4567`` form, and values of parameters that are named for a secret or a person. Texts are judged
as sent and decoded twice, as an address hides in ``%2540``. A piece that has any of it is replaced as a whole.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import unquote

REDACTED = "[redacted]"

# Anchored at the @ and with disjoint classes, so that no text makes it slow. A @ at the start of a path segment is a
# handle, and 1.2.3 behind one a version.
_EMAIL = re.compile(r"[^\s@/?&=;,:<>\"'()\[\]]@(?:[^\W_][\w-]*\.)+[^\W\d_]{2,}")
_CARD = re.compile(r"(?<![0-9A-Za-z_])[2-6](?:[ .+-]?[0-9]){12,18}(?![0-9A-Za-z_])")
_ISSUED = re.compile(
    r"4\d{12}(?:\d{3}(?:\d{3})?)?"
    r"|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    r"|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}"
    r"|6(?:011|5\d\d|4[4-9]\d|2\d\d)\d{12,15}"
)
_PHONE = re.compile(
    r"(?<![0-9A-Za-z_+])\+[1-9](?:[ ().-]{0,2}[0-9]){7,14}(?![0-9A-Za-z_])"
    r"|(?<![0-9A-Za-z_.-])\(?[0-9]{3}\)?[ .-][0-9]{3}[ .-][0-9]{4}(?![0-9A-Za-z_.-])"
)
_PERSONAL_NAMES = frozenset(
    """
    auth authorization birthdate birthday bearer cardnumber cc ccnumber creditcard credential credentials cvc cvv dob
    firstname fullname iban jwt key lastname mail mobile msisdn otp pass passwd passphrase passwort phone phonenumber pin
    privatekey pwd secret sessionid sig signature socialsecurity ssn surname tel telephone token
    """.split()  # noqa: SIM905
)
_PERSONAL_ENDINGS = ("email", "password", "token", "secret", "apikey", "accesskey", "writekey", "mailaddress")
_NAME_MARKS = str.maketrans("", "", "-_.[]")
# Parameters within a value: a whole URL as one, or its query.
_INNER_NAME = re.compile(r"(?:^|[?&;#])([^?&;#=/:]{1,64})=[^&;#]")
_PARTS = re.compile(r"([?&;])")
_AUTHORITY = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.-]*:)?[/\\]{2})([^/\\?#]*)")

_DIGITS = bytes(0x30 if 0x30 <= byte <= 0x39 else byte for byte in range(256))
_SEPARATORS = b" ().+-"
_MANY_DIGITS = b"0" * 8
_CACHED_CHARS = 512
_CACHED_TEXTS = 4_096


def scrub_url(url: str) -> str:
    """``url`` without fragment and user name, and with every personal piece of its path and query replaced."""
    # A visit has few pages. Long ones are not kept, so that nobody can fill memory with them.
    return _known_url(url) if len(url) <= _CACHED_CHARS else _scrub_url(url)


def scrub_text(text: str) -> str:
    """``text``, or ``[redacted]`` if there is personal data in it."""
    return _known_text(text) if len(text) <= _CACHED_CHARS else _scrub_text(text)


def truncate(address: IPv4Address | IPv6Address) -> str:
    """The network of ``address`` that is kept: /24, or /48 of IPv6. A mapped IPv4 address is taken as what it is."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return f"{IPv6Address(int(address) >> 80 << 80)}/48"
        address = address.ipv4_mapped
    return f"{IPv4Address(int(address) >> 8 << 8)}/24"


def _surely_clean(text: str) -> bool:
    """Whether nothing can be found in ``text``; a fraction of a microsecond where that is so."""
    return "=" not in text and _surely_plain(text)


def _surely_plain(text: str) -> bool:
    """Whether nothing but the name of a parameter could be found in ``text``."""
    if "@" in text or "%" in text:
        return False
    return _MANY_DIGITS not in text.encode("utf-8", "replace").translate(_DIGITS, _SEPARATORS)


def _surely_ordinary(query: str) -> bool:
    """Whether no parameter of ``query`` is named for a secret or a person."""
    if ";" in query:
        return False
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if "=" in value or _names_person(name):
            return False
    return True


def _scrub_url(url: str) -> str:
    url = url.partition("#")[0]
    address, _, query = url.partition("?")
    if "=" not in address and _surely_plain(url) and _surely_ordinary(query):
        return url
    start, rest = "", url
    if match := _AUTHORITY.match(url):
        scheme, host = match.groups()
        host = host.rpartition("@")[2]
        start, rest = scheme + _scrub_text(host), url[match.end() :]
    path, mark, query = rest.partition("?")
    path = "/".join(map(_scrub_piece, path.split("/")))
    if not mark:
        return start + path
    return start + path + mark + "".join(map(_scrub_piece, _PARTS.split(query)))


def _scrub_text(text: str) -> str:
    return REDACTED if not _surely_clean(text) and _personal(text) else text


_known_url = lru_cache(maxsize=_CACHED_TEXTS)(_scrub_url)
_known_text = lru_cache(maxsize=_CACHED_TEXTS)(_scrub_text)


def _scrub_piece(piece: str) -> str:
    """One segment of a path, or one ``name=value``, or what stands between two."""
    name, mark, value = piece.partition("=")
    if not mark:
        return _scrub_text(piece)
    name, told = _scrub_text(name), _names_person(name)
    if value and (told or _scrub_text(value) == REDACTED):
        value = REDACTED
    return f"{name}={value}"


@lru_cache(maxsize=_CACHED_TEXTS)
def _known_name(name: str) -> bool:
    if "%" in name:
        name = unquote(unquote(name))
    plain = name.strip().lower().translate(_NAME_MARKS)
    return plain in _PERSONAL_NAMES or plain.endswith(_PERSONAL_ENDINGS)


def _names_person(name: str) -> bool:
    # What is longer names nobody; it must not fill the cache.
    return len(name) <= 64 and _known_name(name)


def _personal(text: str) -> bool:
    forms = [text]
    if "%" in text:
        forms.append(unquote(text))
        forms.append(unquote(forms[1]))
    return any(map(_personal_as_is, forms))


def _personal_as_is(text: str) -> bool:
    if "@" in text and _EMAIL.search(text):
        return True
    if _PHONE.search(text) or any(_is_card(match.group()) for match in _CARD.finditer(text)):
        return True
    return "=" in text and any(map(_names_person, _INNER_NAME.findall(text)))


def _is_card(candidate: str) -> bool:
    digits = "".join(filter(str.isdigit, candidate))
    if not _ISSUED.fullmatch(digits):
        return False
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (doubled + sum(map(int, digits[-1::-2]))) % 10 == 0
