"""Which instance types of SageMaker bring a disk of their own: those take no `VolumeKmsKeyId`.

"You can't request a VolumeKmsKeyId when using an instance type with local storage", which its hardware encrypts:
docs.aws.amazon.com/sagemaker/latest/APIReference/API_ResourceConfig.html
"""

import re
from typing import Final

# A `d` after the generation (m5d, g4dn, p4d), or a family of accelerators that always has one.
_WITH_DISK: Final = re.compile(r"ml\.(?:[a-z]+\d[a-z]*d[a-z]*|g5|g6e?|gr6|p5e?n?|trn1n?)\.")


def has_local_disk(instance_type: str) -> bool:
    """Return whether an `ml.` type has an NVMe disk of its own."""
    return bool(_WITH_DISK.match(instance_type))
