"""Where an environment keeps its images and who builds them, as its stacks tell."""

from dataclasses import dataclass
from typing import Any, Self

from botocore.exceptions import ClientError

from spotkeeper.contract import image_build


class BuildError(RuntimeError):
    """The image cannot be built; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """A CodeBuild project, and the source that was deployed with it."""

    name: str
    source: str
    """Fingerprint."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The repository of an environment."""

    uri: str
    """`registry/name`."""
    project: Project | None
    """None where Docker on this machine builds."""

    @property
    def registry(self) -> str:
        """Host to log in to."""
        return self.uri.partition("/")[0]

    @property
    def name(self) -> str:
        """Name of the repository in its registry."""
        return self.uri.partition("/")[2]

    @classmethod
    def find(cls, environment: str, *, cloudformation: Any) -> Self:
        """Return what the stacks of an environment tell.

        Raises:
            BuildError: if its storage stack is not deployed there.
        """
        storage = _outputs(cloudformation, image_build.storage_stack(environment))
        if image_build.REPOSITORY_OUTPUT not in storage:
            raise BuildError(
                f"environment {environment!r} has no image repository in region {cloudformation.meta.region_name} of "
                f"this AWS account: `make deploy ENV={environment}` first, or sign in to the account in which it is"
            )
        images = _outputs(cloudformation, image_build.images_stack(environment))
        project = None
        if image_build.PROJECT_OUTPUT in images:
            project = Project(name=images[image_build.PROJECT_OUTPUT], source=images[image_build.SOURCE_OUTPUT])
        return cls(uri=storage[image_build.REPOSITORY_OUTPUT], project=project)


def _outputs(cloudformation: Any, stack: str) -> dict[str, str]:
    try:
        (found,) = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    except ClientError as error:
        # CloudFormation has no error of its own for a stack that does not exist.
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        return {}
    return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", ())}
