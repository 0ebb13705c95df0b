import json
from dataclasses import replace
from pathlib import Path

import pytest

import app
from spotkeeper.contract import image_build
from spotkeeper.contract.descriptor import Descriptor
from stacks.environments import DEV
from stacks.images import BUILD_SPEC
from tests.stacks.policies import as_list, statements
from tests.stacks.synthesized import Assembly

CPU_IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/images-1@sha256:" + "c" * 64
GPU_IMAGE = "210987654321.dkr.ecr.us-east-1.amazonaws.com/team/shared@sha256:" + "d" * 64


def images_of(assembly: Assembly) -> dict[str, str]:
    """Image of each job definition, by the beginning of its id: the profile."""
    return {
        id_.partition("Job")[0]: assembly.resolved("batch", definition["Properties"]["ContainerProperties"]["Image"])
        for id_, definition in assembly.resources("batch", "AWS::Batch::JobDefinition").items()
    }


@pytest.fixture
def with_images(tmp_path: Path) -> Assembly:
    settings = replace(DEV, trainer_images={"cpu": CPU_IMAGE, "gpu": GPU_IMAGE})
    app.assemble(settings, str(tmp_path)).synth()
    return Assembly(tmp_path, "dev")


def test_images_are_scanned_when_pushed_and_their_tags_never_move(any_environment: Assembly) -> None:
    repository = any_environment.one("storage", "AWS::ECR::Repository")

    assert repository["ImageScanningConfiguration"] == {"ScanOnPush": True}
    assert repository["ImageTagMutability"] == "IMMUTABLE"
    assert "EmptyOnDelete" not in repository


def test_no_rule_removes_an_image_that_has_a_tag_because_a_run_may_be_pinned_to_it(any_environment: Assembly) -> None:
    policy = any_environment.one("storage", "AWS::ECR::Repository")["LifecyclePolicy"]["LifecyclePolicyText"]

    rules = json.loads(policy)["rules"]
    assert [(rule["selection"]["tagStatus"], rule["selection"]["countNumber"]) for rule in rules] == [("untagged", 30)]


def test_a_job_definition_runs_the_digest_of_its_variant(with_images: Assembly) -> None:
    assert images_of(with_images) == {"cpu": CPU_IMAGE, "gpu24gb": GPU_IMAGE}


def test_before_the_first_image_the_definition_names_one_that_says_what_to_do(any_environment: Assembly) -> None:
    images = set(images_of(any_environment).values())

    assert len(images) == 1
    assert images.pop().endswith("Images2D38C313.RepositoryUri:not-built-yet.run-make-image")


def test_the_descriptor_tells_which_variants_have_an_image(with_images: Assembly, dev: Assembly) -> None:
    def told(assembly: Assembly) -> dict[str, str]:
        value = assembly.one("batch", "AWS::SSM::Parameter", "Descriptor")["Value"]
        return Descriptor.from_json(assembly.resolved("batch", value)).trainer_images

    assert told(with_images) == {"cpu": CPU_IMAGE, "gpu": GPU_IMAGE}
    assert told(dev) == {}


def test_jobs_may_pull_from_the_own_repository_and_from_those_of_the_images(with_images: Assembly) -> None:
    pulls = {
        resource
        for holder, statement in statements(with_images)
        if holder.startswith("ExecutionRole") and "ecr:BatchGetImage" in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }

    assert pulls == {
        "arn:aws:service:us-east-1:123456789012:Images2D38C313.Arn",
        "arn:aws:ecr:us-east-1:123456789012:repository/images-1",
        "arn:aws:ecr:us-east-1:210987654321:repository/team/shared",
    }


def test_the_project_is_there_where_the_settings_choose_it(dev: Assembly, prod: Assembly) -> None:
    assert "images" not in dev.templates
    assert len(prod.resources("images", "AWS::CodeBuild::Project")) == 1


def test_the_project_builds_what_was_uploaded_with_it_with_docker_and_within_an_hour(prod: Assembly) -> None:
    project = prod.resolved("images", prod.one("images", "AWS::CodeBuild::Project"))
    variables = {each["Name"]: each["Value"] for each in project["Environment"]["EnvironmentVariables"]}
    bucket, _, key = project["Source"]["Location"].partition("/")

    assert project["Source"]["Type"] == "S3"
    assert bucket == "cdk-hnb659fds-assets-123456789012-us-east-1"
    assert key.startswith(variables["SOURCE"])
    assert variables["REPOSITORY"].endswith("Images2D38C313.RepositoryUri")
    assert project["Artifacts"] == {"Type": "NO_ARTIFACTS"}
    assert project["Environment"]["PrivilegedMode"] is True
    assert project["TimeoutInMinutes"] == 60
    assert json.loads(project["Source"]["BuildSpec"]) == BUILD_SPEC


def test_the_project_pushes_the_tag_that_make_image_asks_for(prod: Assembly) -> None:
    (image, *_, push) = BUILD_SPEC["phases"]["build"]["commands"]
    outputs = prod.templates["images"]["Outputs"]
    source = outputs[image_build.SOURCE_OUTPUT]["Value"]

    pushed = image.replace("$VARIANT", "gpu").replace("$SOURCE", source)
    assert pushed.endswith(f':{image_build.image_tag("gpu", source)}"')
    assert push == 'docker push "$IMAGE"'


def test_make_image_finds_repository_and_project_by_outputs_of_stacks_of_these_names(prod: Assembly) -> None:
    manifest = json.loads((prod.folder / "manifest.json").read_text())["artifacts"]

    assert {image_build.storage_stack("prod"), image_build.images_stack("prod")} <= manifest.keys()
    repository = prod.templates["storage"]["Outputs"][image_build.REPOSITORY_OUTPUT]["Value"]
    assert repository == {"Fn::GetAtt": ["Images2D38C313", "RepositoryUri"]}
    project = prod.templates["images"]["Outputs"][image_build.PROJECT_OUTPUT]["Value"]
    assert list(project) == ["Ref"]


def test_a_build_may_read_its_source_push_to_one_repository_and_write_its_log(prod: Assembly) -> None:
    repository = "arn:aws:service:us-east-1:123456789012:Images2D38C313.Arn"
    granted = {
        (action, resource)
        for holder, statement in statements(prod)
        if holder in prod.resources("images", "AWS::IAM::Role")
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }
    location = prod.resolved("images", prod.one("images", "AWS::CodeBuild::Project"))["Source"]["Location"]
    bucket = location.partition("/")[0]
    log_group = {resource for action, resource in granted if action == "logs:PutLogEvents"}

    assert len(log_group) == 1
    assert granted == {
        ("s3:GetObject", f"arn:aws:s3:::{location}"),
        ("s3:GetObjectVersion", f"arn:aws:s3:::{location}"),
        ("s3:GetBucketAcl", f"arn:aws:s3:::{bucket}"),
        ("s3:GetBucketLocation", f"arn:aws:s3:::{bucket}"),
        ("ecr:BatchCheckLayerAvailability", repository),
        ("ecr:BatchGetImage", repository),
        ("ecr:CompleteLayerUpload", repository),
        ("ecr:InitiateLayerUpload", repository),
        ("ecr:PutImage", repository),
        ("ecr:UploadLayerPart", repository),
        ("ecr:GetAuthorizationToken", "*"),
        *(("logs:CreateLogStream", group) for group in log_group),
        *(("logs:PutLogEvents", group) for group in log_group),
    }


def test_only_codebuild_of_this_account_takes_on_the_role_of_builds(prod: Assembly) -> None:
    role = prod.resolved("images", prod.one("images", "AWS::IAM::Role"))
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]

    assert trust["Principal"] == {"Service": "codebuild.amazonaws.com"}
    assert trust["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "123456789012"},
        "ArnLike": {"aws:SourceArn": "arn:aws:codebuild:us-east-1:123456789012:project/*"},
    }
