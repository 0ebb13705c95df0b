"""The two trainer images, and which of them a job needs."""

from typing import Final, Literal

ImageVariant = Literal["cpu", "gpu"]

IMAGE_VARIANTS: Final[tuple[ImageVariant, ...]] = ("cpu", "gpu")
"""Value of the build argument VARIANT of `trainer_image/Dockerfile`; a tag begins with it."""


def image_variant(gpus: int) -> ImageVariant:
    """Return the variant for a job with so many GPUs. The one for GPUs is several times larger: others do without."""
    return "gpu" if gpus else "cpu"
