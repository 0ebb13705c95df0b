"""Where an attempt runs, as the metadata service tells it."""

from typing import Final

from spotkeeper.trainer.imds import Imds, ImdsUnavailableError

PATHS: Final = {
    "instance_id": "instance-id",
    "instance_type": "instance-type",
    "availability_zone": "placement/availability-zone",
    "market": "instance-life-cycle",
}
MARKETS: Final = {"spot", "on-demand"}


def read_placement(imds: Imds) -> dict[str, str]:
    """Return what is known of instance_id, instance_type, availability_zone and market; nothing off EC2."""
    placement: dict[str, str] = {}
    try:
        for name, path in PATHS.items():
            value = imds.read(path)
            if value and (name != "market" or value in MARKETS):
                placement[name] = value
    except ImdsUnavailableError:
        pass  # what was read before stays true
    return placement
