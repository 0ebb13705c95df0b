"""Does a value look like a secret? Batch publishes a job's environment in every event and shows it to every reader.

Values are judged by known formats and by chance (long, mixed, evenly distributed); names only where the value could
be a secret at all, so that MAX_TOKENS=2048 passes. A finding never repeats the value.
"""

import math
import re
from collections import Counter
from itertools import pairwise
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
    ("a bearer token", re.compile(r"\bbearer\s+((?=\S*[0-9])\S{8,}|\S{16,})", re.IGNORECASE)),
    ("an Azure key", re.compile(r"\b(AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{20,}")),
    ("a password in a URL", re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s@]+@")),
)
_SECRET_WORDS: Final = frozenset(
    {"TOKEN", "SECRET", "SECRETS", "PASSWORD", "PASSWD", "PASSPHRASE", "PASS", "PGPASS", "CREDENTIAL", "CREDENTIALS"}
)
_SECRET_NAME_PARTS: Final = (
    *("PASSWORD", "AUTHTOKEN"),
    *("APIKEY", "SECRETKEY", "ACCESSKEY", "PRIVATEKEY", "ACCOUNTKEY", "ENCRYPTIONKEY", "SIGNINGKEY"),
)
_PLACE_WORDS: Final = frozenset({"FILE", "PATH", "DIR", "NAME"})
"""TOKEN_FILE says where the secret is, not what."""
_HARMLESS_VALUE = re.compile(r"|-?[0-9.]{1,12}|true|false|yes|no|on|off|none|<[^<>]*>|\[[A-Z]+\]", re.IGNORECASE)
"""The last two are how tokenizers write their special tokens: <pad>, [CLS]."""
_WORDS = re.compile(r"[a-z]+([_.-][a-z]+){0,3}")
_MAX_WORDS_CHARACTERS: Final = 24
"""SORT_KEY=created_at names a column; what unlocks something is longer, or has digits or capitals."""
_OPTION = re.compile(r"-{0,2}(?P<name>[A-Za-z][A-Za-z0-9_-]*)=(?P<value>.*)", re.DOTALL)
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
    if _is_named_secret(name.upper(), value):
        return "its name says so"
    if _looks_random(value) and not words & _DIGEST_WORDS:
        return "its value looks random"
    return None


def secret_in_command(command: tuple[str, ...]) -> str | None:
    """Return what kind of secret a command contains, such as the value in `--password=…` or `--password …`, or None."""
    for word, following in pairwise((*command, "")):
        kind = known_secret(word)
        if kind is not None:
            return kind
        is_option = word.startswith("--") and "=" not in word and not following.startswith("-")
        option = _OPTION.fullmatch(f"{word}={following}" if is_option else word)
        if option is not None and _is_named_secret(option["name"].replace("-", "_").upper(), option["value"]):
            return f"a value for {option['name']!r}, which names a secret"
    return None


def _is_named_secret(name: str, value: str) -> bool:
    words = set(name.split("_"))
    if _HARMLESS_VALUE.fullmatch(value) or words & _PLACE_WORDS:
        return False
    if words & _SECRET_WORDS or any(part in name.replace("_", "") for part in _SECRET_NAME_PARTS):
        return True
    if "KEY" in words:
        return not _WORDS.fullmatch(value) or len(value) > _MAX_WORDS_CHARACTERS
    # A shell's PWD and OLDPWD are folders; MYSQL_PWD is a password.
    return "PWD" in words and words != {"PWD"} and not value.startswith("/")


def _looks_random(value: str) -> bool:
    if _HEX.fullmatch(value):
        return True
    classes = (str.islower, str.isupper, str.isdigit)
    is_mixed = all(any(map(is_of, value)) for is_of in classes)
    return bool(_OPAQUE.fullmatch(value)) and is_mixed and _bits_per_character(value) >= _MIN_BITS_PER_CHARACTER


def _bits_per_character(value: str) -> float:
    shares = [count / len(value) for count in Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares)
