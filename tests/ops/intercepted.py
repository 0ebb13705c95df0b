"""Calls to AWS that are answered before they are sent."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3


@contextmanager
def intercepted(call: str, answer: Callable[..., Any]) -> Iterator[None]:
    """Let a function answer a call (`service.Operation`) of the clients that are made within.

    Their session ends with it: one that stays would give moto's credentials to tests that follow.
    """
    boto3.setup_default_session()
    assert boto3.DEFAULT_SESSION is not None
    boto3.DEFAULT_SESSION.events.register(f"before-call.{call}", answer)
    try:
        yield
    finally:
        boto3.setup_default_session()
