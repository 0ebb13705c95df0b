"""A few words between the processes that train one model, through the store that torchrun keeps for them.

It serves no collective: nobody has to answer for another one to go on, and every wait has a deadline.
"""

import json
from datetime import timedelta
from typing import Any, Final

from torch.distributed import DistError, PrefixStore, TCPStore  # type: ignore[attr-defined]  # public, if not in __all__

from spotkeeper.trainer.rank_settings import RankSettings

CONNECT_SECONDS: Final = 60.0
"""The process of rank 0 may start last, and the store may be its own."""


class RankSilentError(OSError):
    """Another process did not say in time what was waited for, or that it failed; or the store itself is gone."""


class RankStore:
    """One connection to the store. It does one thing at a time: a thread that waits needs one of its own."""

    def __init__(self, settings: RankSettings, prefix: str) -> None:
        """Connect.

        Raises:
            RankSilentError: if there is no store within `CONNECT_SECONDS`.
        """
        try:
            server = TCPStore(
                settings.store_host,
                settings.store_port,
                is_master=settings.rank == 0 and not settings.has_store_of_launcher,
                timeout=timedelta(seconds=CONNECT_SECONDS),
                wait_for_workers=False,
                # Two stores of one process at one port are one: torch.distributed has a store there as well.
                multi_tenant=True,
            )
        except DistError as error:
            raise RankSilentError(f"no store at {settings.store_host}:{settings.store_port}: {error}") from error
        self._store = PrefixStore(prefix, server)

    def set(self, key: str, value: Any) -> None:
        """Say `value`, which JSON must be able to hold."""
        try:
            self._store.set(key, json.dumps(value))
        except DistError as error:
            raise RankSilentError(f"{key} could not be said: {error}") from error

    def get(self, key: str, seconds: float) -> Any:
        """Return what was said under `key`, waiting up to so many seconds for it.

        Raises:
            RankSilentError: if it was not said in time.
        """
        try:
            self._store.wait([key], timedelta(seconds=max(seconds, 0.001)))
            return json.loads(self._store.get(key))
        except DistError as error:
            raise RankSilentError(f"{key} was not said within {seconds:.1f} s") from error

    def delete(self, key: str) -> None:
        """Forget what was said."""
        try:
            self._store.delete_key(key)
        except DistError as error:
            raise RankSilentError(f"{key} could not be deleted: {error}") from error
