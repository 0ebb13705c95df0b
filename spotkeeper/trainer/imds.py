"""A client of the EC2 instance metadata service, version 2, that can fail only into silence.

docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html. It talks to one link-local
address, so it takes no proxy, follows no redirect, and waits no longer than its time-out.
"""

import http.client
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from spotkeeper.contract.environment_variables import IMDS_ENDPOINT

DEFAULT_ENDPOINT: Final = "http://169.254.169.254"
TOKEN_TTL_SECONDS: Final = 21600
"""The longest that the service grants."""
RENEW_BEFORE_SECONDS: Final = 15
TIMEOUT_SECONDS: Final = 2.0
MAX_BODY_BYTES: Final = 65536


class ImdsUnavailableError(Exception):
    """The service is not there, or does not answer as it should; nothing can be concluded."""


class Imds:
    """Reads metadata by path."""

    def __init__(self, endpoint: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Take the service's address, for example `http://169.254.169.254`.

        Raises:
            ValueError: if it is not an http address.
        """
        address = urlsplit(endpoint)
        if address.scheme != "http" or not address.hostname:
            raise ValueError(f"{IMDS_ENDPOINT} must be an address like {DEFAULT_ENDPOINT}; got {endpoint!r}")
        self._host = address.hostname
        self._port = address.port or 80
        self._base = address.path.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._token = ""
        self._renew_at = 0.0

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Imds":
        """Return a client of the service that the environment names, by default EC2's."""
        return cls(environ.get(IMDS_ENDPOINT) or DEFAULT_ENDPOINT)

    def read(self, path: str) -> str | None:
        """Return the text at `/latest/meta-data/<path>`, or None if the service has nothing there.

        Raises:
            ImdsUnavailableError: if there is no service, no token, or no proper answer in time.
        """
        if not self._token or time.monotonic() >= self._renew_at:
            self._take_token()
        status, body = self._read_with_token(path)
        if status == 401:
            # The token ended early, or the service forgot it. Once only: a second 401 is a fault, not an expiry.
            self._take_token()
            status, body = self._read_with_token(path)
        if status == 404:
            return None
        if status != 200:
            raise ImdsUnavailableError(f"GET {path} answered {status}")
        return body

    def _read_with_token(self, path: str) -> tuple[int, str]:
        return self._request("GET", f"/latest/meta-data/{path}", {"X-aws-ec2-metadata-token": self._token})

    def _take_token(self) -> None:
        self._token = ""
        asked_at = time.monotonic()
        status, token = self._request(
            "PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_SECONDS)}
        )
        if status != 200 or not token.isascii() or not token.isprintable() or not token:
            raise ImdsUnavailableError(f"PUT token answered {status}")
        self._token = token
        self._renew_at = asked_at + TOKEN_TTL_SECONDS - RENEW_BEFORE_SECONDS

    def _request(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_seconds)
        try:
            connection.request(method, self._base + path, headers=headers)
            response = connection.getresponse()
            body = response.read(MAX_BODY_BYTES)
            if response.length:  # cut off, or longer than anything that is asked for
                raise http.client.IncompleteRead(body, response.length)
            return response.status, body.decode()
        except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
            raise ImdsUnavailableError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()
