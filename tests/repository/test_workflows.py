"""Workflows call what people call, pin what they use, and may do no more than they must."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from spotkeeper.contract.names import stack_name
from stacks.environments import ENVIRONMENTS
from tests.stacks.synthesized import Assembly

ROOT = Path(__file__).parents[2]
WORKFLOWS = {path.stem: path for path in (ROOT / ".github" / "workflows").glob("*.yml")}
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def parsed(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(WORKFLOWS[name].read_text())
    return loaded


def jobs(name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = parsed(name)["jobs"]
    return found


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in jobs(name).values() for step in job["steps"]]


def commands(job: str) -> list[str]:
    """What a job of the deployment runs."""
    return [step["run"] for step in jobs("deploy")[job]["steps"] if "run" in step]


def triggers(name: str) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true.
    found: dict[str, Any] = yaml.safe_load(WORKFLOWS[name].read_text().replace("\non:", "\n'on':"))["on"]
    return found


def test_there_is_a_workflow_for_checks_the_diff_deployments_releases_and_frameworks() -> None:
    assert set(WORKFLOWS) == {"check", "diff", "deploy", "frameworks", "release"}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_make_target_that_a_workflow_calls_exists(name: str) -> None:
    called = set()
    for step in steps(name):
        for line in step.get("run", "").splitlines():
            called |= set(re.findall(r"\bmake(?: -C \S+)? ([a-z-]+)", line))

    assert called, "a workflow that calls no target does something that nobody else can"
    assert called - TARGETS == set()


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_action_is_pinned_to_a_commit_and_says_its_version(name: str) -> None:
    used = re.findall(r"uses: (\S+)(.*)", WORKFLOWS[name].read_text())

    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment)


def test_an_action_has_one_version_in_all_workflows() -> None:
    used = {use for path in WORKFLOWS.values() for use in re.findall(r"uses: (\S+)", path.read_text())}

    assert len({use.partition("@")[0] for use in used}) == len(used)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_grants_nothing_and_a_job_what_it_needs(name: str) -> None:
    assert parsed(name)["permissions"] == {}
    for job in jobs(name).values():
        assert job["permissions"]
        assert job["timeout-minutes"] <= 60


def test_only_these_jobs_may_write_or_have_a_token_of_their_own() -> None:
    powers = {
        (name, id_): {grant for grant, level in job["permissions"].items() if level == "write"}
        for name in WORKFLOWS
        for id_, job in jobs(name).items()
    }

    assert {job: power for job, power in powers.items() if power} == {
        ("diff", "comment"): {"pull-requests"},
        ("deploy", "deploy"): {"id-token"},
        ("release", "attest"): {"id-token", "attestations"},
        ("release", "publish"): {"contents"},
    }


def test_what_may_write_runs_nothing_of_the_repository() -> None:
    for name, id_ in (("diff", "comment"), ("release", "attest"), ("release", "publish")):
        for step in jobs(name)[id_]["steps"]:
            assert not step.get("uses", "").startswith("actions/checkout")
            assert "make " not in step.get("run", "")


def test_a_pull_request_reaches_no_account_and_no_secret() -> None:
    for name in ("check", "diff"):
        assert "pull_request" in triggers(name)
        text = WORKFLOWS[name].read_text()
        assert "configure-aws-credentials" not in text
        assert "secrets." not in text
        assert "pull_request_target" not in text


def test_a_deployment_is_started_by_a_person_in_an_environment_that_may_ask_for_approval() -> None:
    (trigger,) = triggers("deploy")
    deploy = jobs("deploy")["deploy"]

    assert trigger == "workflow_dispatch"
    assert triggers("deploy")[trigger]["inputs"]["environment"]["options"] == list(ENVIRONMENTS)
    assert deploy["environment"] == "${{ inputs.environment }}"
    assert deploy["needs"] == "build"
    assert commands("build") == ["make check", 'make synth ENV="$ENV" OUT=build/assembly']


def test_the_job_that_may_deploy_runs_the_pinned_cdk_and_nothing_else() -> None:
    build, deploy = jobs("deploy")["build"], jobs("deploy")["deploy"]
    (checkout,) = (step["with"] for step in deploy["steps"] if step.get("uses", "").startswith("actions/checkout@"))
    (uploaded,) = (step["with"] for step in build["steps"] if step.get("uses", "").startswith("actions/upload-"))
    (downloaded,) = (step["with"] for step in deploy["steps"] if step.get("uses", "").startswith("actions/download-"))

    assert checkout["sparse-checkout"].split() == ["/package.json", "/package-lock.json"]
    assert (uploaded["path"], uploaded["name"]) == ("build/assembly", downloaded["name"])
    assert commands("deploy") == [
        "npm ci --ignore-scripts --no-audit --no-fund",
        "node node_modules/aws-cdk/bin/cdk diff --app assembly",
        "node node_modules/aws-cdk/bin/cdk deploy --app assembly --all --require-approval never",
    ]
    locked = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    assert set(locked) == {"", "node_modules/aws-cdk"}
    assert locked["node_modules/aws-cdk"]["integrity"].startswith("sha512-")


def test_an_assembly_can_be_deployed_from_another_folder(dev: Assembly, tmp_path: Path) -> None:
    moved = tmp_path / "assembly"
    shutil.copytree(dev.folder, moved)
    named = [
        moved / asset["source"]["path"]
        for manifest in moved.glob("*.assets.json")
        for asset in json.loads(manifest.read_text())["files"].values()
    ]

    assert named
    for path in named:
        assert path.exists()
        assert path.resolve().is_relative_to(moved)


def test_deployments_take_on_the_role_that_the_delivery_stack_tells() -> None:
    (credentials,) = [step for step in steps("deploy") if "configure-aws-credentials" in step.get("uses", "")]

    assert credentials["with"] == {
        "role-to-assume": "${{ vars.DEPLOY_ROLE_ARN }}",
        "aws-region": "${{ vars.AWS_REGION }}",
    }
    assert stack_name("ENV", "delivery") in WORKFLOWS["deploy"].read_text()
    assert '"DeployRoleArn"' in (ROOT / "stacks" / "delivery.py").read_text()


def test_a_release_attests_all_that_it_publishes_before_it_does() -> None:
    release = jobs("release")
    provenance, materials = (step["with"] for step in release["attest"]["steps"] if "attest@" in step["uses"])
    (publish,) = (step["run"] for step in release["publish"]["steps"] if "run" in step)

    assert release["publish"]["needs"] == "attest"
    assert release["attest"]["needs"] == "build"
    assert provenance["subject-path"].split() == publish.partition("--generate-notes ")[2].split()
    assert materials == {"subject-path": "dist/*", "sbom-path": "sbom/spotkeeper.cdx.json"}


def test_the_diff_of_a_pull_request_covers_every_environment() -> None:
    loops = re.findall(r"for environment in (.*?); do", WORKFLOWS["diff"].read_text())

    assert loops == [" ".join(ENVIRONMENTS)] * 2
