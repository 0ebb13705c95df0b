"""What `make image` finds the image repository by: outputs of two stacks, since it comes before a first run."""

from typing import Final

from spotkeeper.contract.names import stack_name

REPOSITORY_OUTPUT: Final = "ImageRepository"
"""Of the storage stack: URI of the repository, without tag."""
PROJECT_OUTPUT: Final = "ImageProject"
"""Of the images stack: name of the CodeBuild project."""
SOURCE_OUTPUT: Final = "ImageSource"
"""Of the images stack: fingerprint of the source that the project builds; the tag of an image ends with it."""


def storage_stack(environment: str) -> str:
    """Name of the stack that holds the repository."""
    return stack_name(environment, "storage")


def images_stack(environment: str) -> str:
    """Name of the stack with the CodeBuild project; only settings with `image_builder="codebuild"` have one."""
    return stack_name(environment, "images")


def image_tag(variant: str, source: str) -> str:
    """Tag of an image: the same source is built once, and a tag never means two images."""
    return f"{variant}-{source[:16]}"
