"""`make image`: build a variant of the trainer image into an environment's repository, and say where to set it.

python -m trainer_image --env dev --variant gpu --region us-east-1

The tag tells the source, and tags never move: what was built from the same source already is not built again.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from spotkeeper.contract.image_build import image_tag
from spotkeeper.contract.image_variant import IMAGE_VARIANTS
from trainer_image import account_build, docker_build, registry
from trainer_image.context import fingerprint
from trainer_image.target import BuildError, Target

ROOT: Final = Path(__file__).parents[1]


def push(environment: str, variant: str, *, session: Any) -> str:
    """Return `repository@sha256:…` of the variant, built and pushed if it was not there.

    Raises:
        BuildError: if it cannot be built.
    """
    target = Target.find(environment, cloudformation=session.client("cloudformation"))
    ecr = session.client("ecr")
    tag = image_tag(variant, target.project.source if target.project else fingerprint(ROOT))
    digest = registry.pushed_digest(ecr, target, tag)
    if digest is None:
        _tell(f"building {target.name}:{tag}")
        if target.project is None:
            docker_build.build_and_push(target, root=ROOT, variant=variant, tag=tag, password=registry.password(ecr))
        else:
            codebuild = session.client("codebuild")
            account_build.build_and_push(target.project, variant=variant, codebuild=codebuild, wait=time.sleep)
        digest = registry.pushed_digest(ecr, target, tag)
    else:
        _tell(f"{target.name}:{tag} was built from this source before")
    if digest is None:
        raise BuildError(f"the build succeeded, but {target.uri}:{tag} is not in ECR: look at its log")
    return f"{target.uri}@{digest}"


def main() -> None:
    """Print the image on standard output, and everything else on standard error."""
    parser = argparse.ArgumentParser(prog="make image", description=__doc__.partition("\n")[0])
    parser.add_argument("--env", required=True, help="environment, such as dev")
    parser.add_argument("--variant", required=True, choices=IMAGE_VARIANTS)
    parser.add_argument("--region", required=True, help="where the environment is, as its settings say")
    given = parser.parse_args()
    try:
        image = push(given.env, given.variant, session=boto3.Session(region_name=given.region))
    except (BuildError, BotoCoreError, ClientError) as error:
        sys.exit(f"make image: {error}")
    print(image)
    _tell(
        f"set it in stacks/environments.py, environment {given.env!r}:\n"
        f"    trainer_images={{{given.variant!r}: {image!r}, …}}\n"
        f"then `make deploy ENV={given.env}`: new runs take it, and those that have started keep theirs. To try it "
        f"first: `spotkeeper --environment {given.env} submit --image {image} …`"
    )


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
