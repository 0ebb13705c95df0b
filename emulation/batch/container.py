"""What Batch hands to a job's container: its command and its environment variables."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

_PLACEHOLDER: Final = re.compile(r"Ref::([A-Za-z0-9_-]+)")

SecretReader = Callable[[str], str]
"""Returns the value behind a secret's `valueFrom`."""


def command(container: Mapping[str, Any], parameters: Mapping[str, str], entrypoint: Sequence[str]) -> list[str]:
    """Return the program to start: the image's entry point, then the command with `Ref::name` replaced.

    A placeholder without a parameter stays as it is, as in Batch.
    """
    words = [
        _PLACEHOLDER.sub(lambda found: parameters.get(found[1], found[0]), word)
        for word in container.get("command", ())
    ]
    return [*entrypoint, *words]


def environment(container: Mapping[str, Any], read_secret: SecretReader, from_aws: Mapping[str, str]) -> dict[str, str]:
    """Return the container's variables: the job's own, its secrets, and over both what AWS sets."""
    own = {pair["name"]: pair.get("value", "") for pair in container.get("environment", ())}
    secrets = {secret["name"]: read_secret(secret["valueFrom"]) for secret in container.get("secrets", ())}
    return own | secrets | dict(from_aws)


def override(container: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return container properties with SubmitJob's `containerOverrides` applied: by name, by type, or whole."""
    merged = {name: value for name, value in container.items() if value is not None}
    for name, key in (("environment", "name"), ("resourceRequirements", "type")):
        merged[name] = _merge(container.get(name) or (), overrides.get(name) or (), key)
    if overrides.get("command"):
        merged["command"] = list(overrides["command"])
    return merged


def secret_reader(secrets_manager: Any, ssm: "SSMClient") -> SecretReader:
    """Return a reader of `valueFrom` as ECS knows it: a secret's ARN with `:json-key:stage:version`, or a parameter."""

    def read(value_from: str) -> str:
        if ":secretsmanager:" not in value_from:
            name = value_from.partition(":parameter")[2] or value_from
            return ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
        parts = value_from.split(":")
        value = secrets_manager.get_secret_value(SecretId=":".join(parts[:7]))["SecretString"]
        json_key = parts[7] if len(parts) > 7 else ""
        return str(json.loads(value)[json_key]) if json_key else value

    return read


def _merge(defined: Iterable[Mapping[str, str]], given: Iterable[Mapping[str, str]], key: str) -> list[dict[str, str]]:
    merged = {entry[key]: dict(entry) for entry in defined} | {entry[key]: dict(entry) for entry in given}
    return list(merged.values())
