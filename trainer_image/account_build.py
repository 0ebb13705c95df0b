"""Build and push by the environment's CodeBuild project."""

from collections.abc import Callable
from typing import Any, Final

from trainer_image.target import BuildError, Project

POLL_SECONDS: Final = 10


def build_and_push(project: Project, *, variant: str, codebuild: Any, wait: Callable[[float], object]) -> None:
    """Start a build of the source that was deployed with the project, and wait for its end.

    Raises:
        BuildError: if it does not succeed; the message names its log.
    """
    variables = [{"name": "VARIANT", "value": variant, "type": "PLAINTEXT"}]
    build = codebuild.start_build(projectName=project.name, environmentVariablesOverride=variables)["build"]
    while build["buildStatus"] == "IN_PROGRESS":
        wait(POLL_SECONDS)
        (build,) = codebuild.batch_get_builds(ids=[build["id"]])["builds"]
    if build["buildStatus"] != "SUCCEEDED":
        where = build.get("logs", {}).get("deepLink", f"`aws codebuild batch-get-builds --ids {build['id']}`")
        raise BuildError(f"the build ended as {build['buildStatus']}: its log is at {where}")
