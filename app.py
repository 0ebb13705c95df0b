"""Choose an environment, build its stacks, synthesize. No credentials, network, Docker, git or clock.

python app.py dev            templates into $CDK_OUTDIR or a temporary folder
cdk deploy -c env=dev --all
"""

import json
import sys
from pathlib import Path

# isort: split
import stacks  # noqa: F401 - first, because it chooses the Node that importing aws_cdk starts

# isort: split
import aws_cdk as cdk
from cdk_nag import AwsSolutionsChecks, ServerlessChecks

from spotkeeper.contract import tags
from spotkeeper.contract.image_build import images_stack
from stacks.batch import BatchStack
from stacks.delivery import DeliveryStack
from stacks.game_day import GameDayStack
from stacks.images import ImagesStack
from stacks.network import NetworkStack
from stacks.observability import ObservabilityStack
from stacks.recovery import RecoveryStack
from stacks.sagemaker import SageMakerStack
from stacks.settings import Environment
from stacks.storage import StorageStack

CDK_JSON = Path(__file__).with_name("cdk.json")


def build(environment_name: str, outdir: str | None = None) -> cdk.App:
    """Return the app with the stacks of an environment, ready for `synth()`, which raises on any finding.

    Args:
        environment_name: a name of `stacks.environments.ENVIRONMENTS`.
        outdir: where `synth()` writes; by default `$CDK_OUTDIR`, else a temporary folder.

    Raises:
        ValueError: if there is no such environment, the message lists those there are; or if its settings are refused.
    """
    # Here, because a profile that is refused is refused when its module is imported.
    from stacks.environments import find_environment

    return assemble(find_environment(environment_name), outdir)


def assemble(environment: Environment, outdir: str | None = None) -> cdk.App:
    """Return the app with the stacks of these settings; `build` for settings that have a name.

    Raises:
        ValueError: if the settings are refused.
    """
    environment.check()
    app = cdk.App(
        outdir=outdir,
        # The feature flags: the command line passes them, Python alone would not, and without them
        # CDK falls back to older and partly insecure defaults.
        context=json.loads(CDK_JSON.read_text())["context"],
        auto_synth=False,
        # The command line checks the version of the bootstrap stack by itself.
        default_stack_synthesizer=cdk.DefaultStackSynthesizer(generate_bootstrap_version_rule=False),
        # Without the CDK::Metadata resource, which only some ways of synthesizing add.
        analytics_reporting=False,
    )
    _add_stacks(app, environment)
    cdk.Tags.of(app).add(tags.PROJECT, tags.PROJECT_VALUE, exclude_resource_types=_NO_TAGS)
    cdk.Tags.of(app).add(tags.ENVIRONMENT, environment.name, exclude_resource_types=_NO_TAGS)
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app, verbose=True), ServerlessChecks(app, verbose=True))
    return app


_NO_TAGS = ["AWS::Batch::ComputeEnvironment"]
"""CloudFormation replaces these when their tags change; their instances are tagged through computeResources."""


def _add_stacks(app: cdk.App, environment: Environment) -> None:
    storage = StorageStack(app, f"spotkeeper-{environment.name}-storage", environment=environment)
    network = NetworkStack(app, f"spotkeeper-{environment.name}-network", environment=environment)
    sagemaker = None
    if environment.training is not None:
        sagemaker = SageMakerStack(
            app,
            f"spotkeeper-{environment.name}-sagemaker",
            environment=environment,
            training=environment.training,
            vpc=network.vpc,
            subnet_ids=network.subnet_ids,
            checkpoints=storage.checkpoints,
            ledger=storage.ledger,
            images=storage.images,
        )
    batch = BatchStack(
        app,
        f"spotkeeper-{environment.name}-batch",
        environment=environment,
        subnet_ids=network.subnet_ids,
        security_group_id=network.security_group_id,
        checkpoints=storage.checkpoints,
        ledger=storage.ledger,
        images=storage.images,
        training=sagemaker.describe() if sagemaker else None,
    )
    if environment.image_builder == "codebuild":
        ImagesStack(app, images_stack(environment.name), environment=environment, repository=storage.images)
    if environment.github_subject is not None:
        DeliveryStack(
            app,
            f"spotkeeper-{environment.name}-delivery",
            environment=environment,
            subject=environment.github_subject,
        )
    recovery = RecoveryStack(
        app,
        f"spotkeeper-{environment.name}-recovery",
        environment=environment,
        checkpoints=storage.checkpoints,
        ledger=storage.ledger,
        job_queue_arns=batch.job_queue_arns,
        on_demand_queue_arns=batch.on_demand_queue_arns,
        training_role_arn=sagemaker.role_arn if sagemaker else None,
    )
    observability = ObservabilityStack(
        app,
        f"spotkeeper-{environment.name}-observability",
        environment=environment,
        functions=recovery.functions,
    )
    if environment.game_day is not None:
        GameDayStack(
            app,
            f"spotkeeper-{environment.name}-game-day",
            environment=environment,
            game_day=environment.game_day,
            alarm_arns=observability.alarm_arns,
        )


def main() -> None:
    """Synthesize the environment named by the first argument or by `-c env=`."""
    name = sys.argv[1] if len(sys.argv) > 1 else cdk.App().node.try_get_context("env")
    try:
        app = build(name or "")
    except ValueError as error:
        sys.exit(f"app.py: {error}")
    app.synth()


if __name__ == "__main__":
    main()
