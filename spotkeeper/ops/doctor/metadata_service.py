"""Do hosts answer metadata requests of containers, and none without a token?"""

from collections.abc import Iterator

from spotkeeper.ops.doctor.examined import Examined
from spotkeeper.ops.doctor.finding import Finding


def metadata_is_safe_and_reachable(examined: Examined) -> Iterator[Finding]:
    """Launch templates want IMDSv2, and two hops: one to the host, one to the container that polls for the notice."""
    for template, data in examined.launch_templates():
        options = data.get("MetadataOptions", {})
        for option, default, expected, reason in (
            ("HttpTokens", "not set", "required", "a request that a program is tricked into carries no token"),
            ("HttpPutResponseHopLimit", "not set", "2", "with 1 no container sees the interruption notice"),
            ("HttpEndpoint", "enabled", "enabled", "the notice is read there"),
        ):
            value = str(options.get(option, default))
            if value != expected:
                yield Finding(
                    subject=f"launch template {template}, MetadataOptions.{option}",
                    value=value,
                    expected=f"{expected}: {reason}",
                    fix=f"{examined.deploy}, after stacks/constructs/job_host.py was put right if it is not",
                )
