import json
import re
import shutil
import subprocess
import sys
import tarfile
from importlib.resources import files
from pathlib import Path

import pytest

import app
from tests.stacks.synthesized import Assembly

ROOT = Path(app.__file__).parent


def run_app(
    arguments: list[str], environ: dict[str, str], program: Path = ROOT / "app.py"
) -> "subprocess.CompletedProcess[str]":
    """Run app.py with nothing in the environment but `environ`: no AWS variables, no HOME, no PATH."""
    return subprocess.run(
        [sys.executable, str(program), *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_make_synth_refuses_before_it_takes_the_former_templates_away(tmp_path: Path) -> None:
    former = tmp_path / "out" / "former.template.json"
    former.parent.mkdir()
    former.touch()
    venv = f"BIN={Path(sys.executable).parent}"

    refused = subprocess.run(
        ["make", "synth", "ENV=nope", f"OUT={former.parent}", venv, "--assume-old=.venv/.ready"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert refused.returncode != 0
    assert "app.py: unknown environment 'nope': choose one of dev, staging, prod, as in `make" in refused.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "former.template.json"]


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (
            ('region="us-east-1"', 'region="eu-west-1"'),
            "app.py: environment 'dev': Environment.availability_zones must be zones of region 'eu-west-1'",
        ),
        (("vcpus=4,", "vcpus=5,"), "app.py: profile 'cpu': Profile.vcpus must be at most 4"),
        (
            ("alarms=AlarmSettings(emails=())", 'alarms=("me@example.com",)'),
            "app.py: environment 'dev': Environment.alar",
        ),
    ],
    ids=["environment", "profile", "type"],
)
def test_settings_that_are_refused_are_one_line_and_no_traceback(
    edit: tuple[str, str], told: str, tmp_path: Path
) -> None:
    """Whoever edits the settings for the first time sees this message before any other."""
    for name in ("stacks", "spotkeeper", "trainer_image", "lambdas", "cdk.json"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "app.py").write_text((ROOT / "app.py").read_text())
    (tmp_path / "stacks").unlink()
    shutil.copytree(ROOT / "stacks", tmp_path / "stacks", ignore=shutil.ignore_patterns("__pycache__"))
    settings = tmp_path / "stacks" / "environments.py"
    settings.write_text(settings.read_text().replace(*edit, 1))

    refused = run_app(["dev"], {"CDK_OUTDIR": str(tmp_path / "out")}, tmp_path / "app.py")

    assert refused.returncode == 1
    assert refused.stderr.startswith(told)
    assert refused.stderr.count("\n") == 1


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything that a deployment reads; metadata and reports hold stack traces with temporary paths."""
    reports = re.compile(r"(metadata|tree|validation-report)\.json$")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not reports.search(path.name)
    }


def test_context_and_argument_give_the_same_files_with_nothing_in_the_environment(
    dev: Assembly, tmp_path: Path
) -> None:
    outdir = tmp_path / "out"

    done = run_app([], {"CDK_CONTEXT_JSON": '{"env": "dev"}', "CDK_OUTDIR": str(outdir)})

    assert done.returncode == 0, done.stderr
    assert files_of(outdir) == files_of(dev.folder)
    assert len(dev.templates) == 6


@pytest.mark.parametrize(
    ("arguments", "context", "named"),
    [(["production"], "{}", "'production'"), ([], '{"env": "qa"}', "'qa'"), ([], "{}", "no environment")],
)
def test_an_environment_that_does_not_exist_is_refused_in_one_line(
    arguments: list[str], context: str, named: str, tmp_path: Path
) -> None:
    done = run_app(arguments, {"CDK_CONTEXT_JSON": context, "CDK_OUTDIR": str(tmp_path / "out")})

    assert done.returncode == 1
    assert named in done.stderr
    assert "choose one of dev, staging, prod" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.template.json"))


def test_cdk_json_holds_the_command_and_the_flags_that_the_library_recommends() -> None:
    settings = json.loads((ROOT / "cdk.json").read_text())
    (archive,) = (Path(str(files("aws_cdk"))) / "_jsii").glob("*.tgz")
    with tarfile.open(archive) as library:
        member = library.extractfile("package/recommended-feature-flags.json")
        assert member is not None
        recommended = json.load(member)

    # Bucket, table and network are exported: what others use cannot be deleted under them.
    recommended["@aws-cdk/core:defaultCrossStackReferences"] = "strong"

    assert settings.keys() == {"app", "context"}
    assert settings["context"] == recommended


def test_the_flags_apply_without_the_command_line() -> None:
    built = app.build("dev")

    assert built.node.try_get_context("@aws-cdk/aws-events:eventsTargetQueueSameAccount") is True
    assert built.node.try_get_context("@aws-cdk/core:validateAgainstDefaultRules") is True


def test_no_resource_has_a_physical_name_but_the_descriptor(any_environment: Assembly) -> None:
    names = {
        "AWS::S3::Bucket": "BucketName",
        "AWS::DynamoDB::Table": "TableName",
        "AWS::SQS::Queue": "QueueName",
        "AWS::Events::Rule": "Name",
        "AWS::Lambda::Function": "FunctionName",
        "AWS::Logs::LogGroup": "LogGroupName",
        "AWS::IAM::Role": "RoleName",
        "AWS::IAM::InstanceProfile": "InstanceProfileName",
        "AWS::Batch::ComputeEnvironment": "ComputeEnvironmentName",
        "AWS::Batch::JobQueue": "JobQueueName",
        "AWS::Batch::JobDefinition": "JobDefinitionName",
        "AWS::Batch::SchedulingPolicy": "Name",
        "AWS::EC2::LaunchTemplate": "LaunchTemplateName",
        "AWS::EC2::SecurityGroup": "GroupName",
        "AWS::ECR::Repository": "RepositoryName",
        "AWS::CodeBuild::Project": "Name",
        "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
        "AWS::SSM::Parameter": "Name",
        "AWS::SNS::Topic": "TopicName",
        "AWS::CloudWatch::Alarm": "AlarmName",
        "AWS::CloudWatch::CompositeAlarm": "AlarmName",
        "AWS::CloudWatch::Dashboard": "DashboardName",
    }

    named = [
        (resource["Type"], resource["Properties"][names[resource["Type"]]])
        for template in any_environment.templates.values()
        for resource in template["Resources"].values()
        if names.get(resource["Type"], "") in resource["Properties"]
    ]

    assert named == [("AWS::SSM::Parameter", f"/spotkeeper/{any_environment.environment}/descriptor")]


def test_only_long_lived_things_are_exported(any_environment: Assembly) -> None:
    exporters = {
        stack
        for stack, template in any_environment.templates.items()
        for output in template.get("Outputs", {}).values()
        if "Export" in output
    }

    # Of the last, its role: without it no training job runs.
    assert exporters == {"storage", "network", "sagemaker"}


def test_protection_follows_the_environment(dev: Assembly, prod: Assembly) -> None:
    def protected(assembly: Assembly) -> set[bool]:
        artifacts = json.loads((assembly.folder / "manifest.json").read_text())["artifacts"].values()
        stacks = [item for item in artifacts if item["type"] == "aws:cloudformation:stack"]
        assert len(stacks) == len(assembly.templates)
        return {item["properties"].get("terminationProtection", False) for item in stacks}

    assert protected(dev) == {False}
    assert protected(prod) == {True}
