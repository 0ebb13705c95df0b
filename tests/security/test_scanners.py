"""The scanners of `make security` find what each is there for, and find nothing here (`make check` says so)."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def make(target: str, *variables: str) -> "subprocess.CompletedProcess[str]":
    venv = f"BIN={Path(sys.executable).parent}"
    return subprocess.run(
        ["make", "--silent", target, venv, "--assume-old=.venv/.ready", *variables],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "pickle.load(open(path, 'rb'))",
        "subprocess.run(name, shell=True)",
        "yaml.load(text)",
    ],
)
def test_bandit_finds_code_that_runs_what_it_reads(line: str, tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(f"import pickle, subprocess, torch, yaml\n{line}\n")

    found = make("scan-code", f"CODE={tmp_path}")

    assert found.returncode != 0
    assert "planted.py:2" in found.stdout


# In parts, so that this file passes the scan.
SECRETS = {
    "an AWS key": "AKIA" + "Q3ZJ7RPWX5KLMN2T",
    "a GitHub token": "ghp" + "_" + "aB3d" * 9,
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "a word that opens": "pass" + "word = 'hX9vQ2mZ7p'",
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_detect_secrets_finds_a_secret_in_a_file(secret: str, tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text(f"{secret}\n")

    found = make("scan-secrets", f"FILES={planted}")

    assert found.returncode != 0
    assert "planted.py:1" in found.stdout


WORKFLOW = """
name: planted
on: {on}
permissions: {{}}
jobs:
  job:
    runs-on: ubuntu-24.04
    permissions: {{contents: read}}
    steps:
      - uses: actions/checkout@{version}
        with: {{persist-credentials: false}}
      - run: {run}
"""
PINNED = "11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2"


@pytest.mark.parametrize(
    ("on", "version", "run", "audit"),
    [
        ("pull_request", "v4", "make check", "unpinned-uses"),
        ("pull_request_target", PINNED, "make check", "dangerous-triggers"),
        ("pull_request", PINNED, "echo ${{ github.event.pull_request.title }}", "template-injection"),
    ],
)
def test_zizmor_finds_a_workflow_that_a_stranger_can_use(
    on: str, version: str, run: str, audit: str, tmp_path: Path
) -> None:
    workflows = tmp_path / ".github" / "workflows"
    workflows.mkdir(parents=True)
    (workflows / "planted.yml").write_text(WORKFLOW.format(on=on, version=version, run=run))

    found = make("scan-workflows", f"WORKFLOWS={workflows.parent}")

    assert found.returncode != 0
    assert f"[{audit}]" in found.stdout


def test_without_workflows_there_is_nothing_to_scan() -> None:
    assert make("scan-workflows", "WORKFLOWS=").returncode == 0


def locked(text: str) -> set[tuple[str, str]]:
    return set(re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", text, re.MULTILINE))


def test_the_bills_of_materials_list_every_locked_package_with_its_hashes_and_torch(tmp_path: Path) -> None:
    done = make("sbom", f"SBOM={tmp_path}")

    assert done.returncode == 0, done.stderr
    for lock, name in (("requirements.lock", "spotkeeper"), ("trainer_image/requirements.lock", "trainer_image")):
        bill = json.loads((tmp_path / f"{name}.cdx.json").read_text())
        listed = {(item["name"], item["version"]) for item in bill["components"]}
        hashed = {item["name"] for item in bill["components"] if json.dumps(item).count("SHA-256")}
        packages = locked((ROOT / lock).read_text())
        assert bill["bomFormat"] == "CycloneDX"
        assert bill["metadata"]["component"]["name"] == "spotkeeper"
        assert listed == packages | {("torch", dict(listed)["torch"])}
        assert {package for package, _ in packages} <= hashed
