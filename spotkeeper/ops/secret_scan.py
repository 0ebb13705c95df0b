"""Does a value look like a secret? Batch publishes a job's environment in every event and shows it to every reader.

Values are judged by known formats and by chance (long, mixed, evenly distributed); names only where the value could
be a secret at all, so that MAX_TOKENS=2048 passes. A finding never repeats the value.
"""

import math
import re
from collections import Counter
from typing import Final

_FORMATS: Final = (
    ("an AWS access key id", re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b")),
    ("a GitHub token", re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})")),
    ("a GitLab token", re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}")),
    ("a Hugging Face token", re.compile(r"\bhf_[A-Za-z0-9]{20,}")),
    ("an API key", re.compile(r"\bsk-[A-Za-z0-9_-]{20,}")),
    ("a Slack token", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}")),
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("a JSON web token", re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.")),
    ("a password in a URL", re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s@]+@")),
)
_SECRET_WORDS: Final = frozenset(
    {"TOKEN", "SECRET", "SECRETS", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "CREDENTIALS", "KEY", "APIKEY"}
)
_SECRET_NAME_PARTS: Final = ("PASSWORD", "APIKEY", "SECRETKEY", "ACCESSKEY", "AUTHTOKEN")
_HARMLESS_VALUE = re.compile(r"|-?[0-9.]{1,12}|true|false|yes|no|on|off|none", re.IGNORECASE)
_DIGEST_WORDS: Final = frozenset(
    {"SHA", "SHA1", "SHA256", "MD5", "DIGEST", "HASH", "COMMIT", "REVISION", "REV", "CHECKSUM"}
)
_HEX = re.compile(r"[0-9a-fA-F]{32,}")
_OPAQUE = re.compile(r"[A-Za-z0-9+/=_-]{24,}")
_MIN_BITS_PER_CHARACTER: Final = 3.7
"""English words and paths stay below 3.6; 24 random characters of base64 are at 4.1 and more."""


def known_secret(value: str) -> str | None:
    """Return which known format of a secret `value` contains, or None."""
    return next((kind for kind, form in _FORMATS if form.search(value)), None)


def looks_secret(name: str, value: str) -> str | None:
    """Return why `NAME=value` looks like a secret, or None."""
    kind = known_secret(value)
    if kind is not None:
        return f"its value contains {kind}"
    words = set(name.upper().split("_"))
    squeezed = name.upper().replace("_", "")
    if not _HARMLESS_VALUE.fullmatch(value) and (
        words & _SECRET_WORDS or any(part in squeezed for part in _SECRET_NAME_PARTS)
    ):
        return "its name says so"
    if _looks_random(value) and not words & _DIGEST_WORDS:
        return "its value looks random"
    return None


def _looks_random(value: str) -> bool:
    if _HEX.fullmatch(value):
        return True
    classes = (str.islower, str.isupper, str.isdigit)
    is_mixed = all(any(map(is_of, value)) for is_of in classes)
    return bool(_OPAQUE.fullmatch(value)) and is_mixed and _bits_per_character(value) >= _MIN_BITS_PER_CHARACTER


def _bits_per_character(value: str) -> float:
    shares = [count / len(value) for count in Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares)
