"""The cloud assembly: what `python app.py ENV` writes, read back.

Layout: docs.aws.amazon.com/cdk/v2/guide/apps.html and aws-cdk-lib's cloud-assembly-schema. The command that runs
is the one that `cdk deploy` would run, so the emulation loads the templates that an account would get.
"""

import errno
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
# A fixed date, so that the same folder gives the same archive. It is the earliest that zip can say.
_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class FileAsset:
    """A file or folder that a deployment would upload."""

    path: Path
    is_folder: bool
    """A folder is uploaded as a zip archive."""
    bucket: str
    """With `${AWS::…}` placeholders."""
    key: str

    def content(self) -> bytes:
        """Return the bytes to upload."""
        return zip_folder(self.path) if self.is_folder else self.path.read_bytes()


@dataclass(frozen=True, kw_only=True, slots=True)
class StackTemplate:
    """One synthesized stack."""

    name: str
    template: Mapping[str, Any]
    account: str
    """Empty where the stack does not say."""
    region: str
    """Empty where the stack does not say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Assembly:
    """A synthesized application."""

    stacks: tuple[StackTemplate, ...]
    """Each after those that it depends on."""
    file_assets: tuple[FileAsset, ...]
    image_assets: tuple[str, ...]
    """Names of container images, which nothing builds here."""


def synthesize(environment: str, out: Path, *, app: Path = _REPOSITORY / "app.py") -> Assembly:
    """Write the cloud assembly of `environment` into `out` and read it; takes about 4 s on two cores.

    Raises:
        ValueError: if the application refuses; the message ends with what it said.
        OSError: if the disk is full.
    """
    # The environment's own folder comes first, so that jsii finds the Node that pip installed there.
    search_path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    out.parent.mkdir(parents=True, exist_ok=True)
    # jsii's Node leaves its folders behind when Ctrl-C ends it: they go with one of ours.
    with tempfile.TemporaryDirectory(prefix="synthesis-", dir=out.parent, ignore_cleanup_errors=True) as temporary:
        synthesis = subprocess.run(
            [sys.executable, str(app), environment],
            cwd=app.parent,
            env={
                **os.environ,
                "PATH": search_path,
                "CDK_OUTDIR": str(out),
                "TMPDIR": temporary,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if synthesis.returncode != 0:
        said = (synthesis.stderr.strip() or synthesis.stdout.strip()).splitlines()
        if said and errno.errorcode[errno.ENOSPC] in said[-1]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out))
        raise ValueError(
            f"environment {environment!r} could not be synthesized (exit {synthesis.returncode}): "
            f"{said[-1] if said else 'no message'}"
        )
    return read(out)


def read(folder: Path) -> Assembly:
    """Read a cloud assembly.

    Raises:
        ValueError: if the folder holds none, or one in which stacks depend on one another in a circle.
    """
    manifest_file = folder / "manifest.json"
    if not manifest_file.is_file():
        raise ValueError(f"{folder} holds no cloud assembly: it has no manifest.json")
    artifacts: dict[str, Any] = json.loads(manifest_file.read_text())["artifacts"]
    stacks = tuple(
        _stack(folder, artifact_id, artifacts[artifact_id])
        for artifact_id in _in_dependency_order(artifacts)
        if artifacts[artifact_id]["type"] == "aws:cloudformation:stack"
    )
    manifests = [
        json.loads((folder / artifact["properties"]["file"]).read_text())
        for artifact in artifacts.values()
        if artifact["type"] == "cdk:asset-manifest"
    ]
    files = {
        (destination["bucketName"], destination["objectKey"]): FileAsset(
            path=folder / asset["source"]["path"],
            is_folder=asset["source"]["packaging"] == "zip",
            bucket=destination["bucketName"],
            key=destination["objectKey"],
        )
        for manifest in manifests
        for asset in manifest.get("files", {}).values()
        for destination in asset["destinations"].values()
        # Each stack's template is an asset too; only the CDK command line wants those in a bucket.
        if not asset["source"]["path"].endswith(".template.json")
    }
    images = {
        asset.get("displayName", asset_id)
        for manifest in manifests
        for asset_id, asset in manifest.get("dockerImages", {}).items()
    }
    return Assembly(stacks=stacks, file_assets=tuple(files.values()), image_assets=tuple(sorted(images)))


def zip_folder(folder: Path) -> bytes:
    """Return a zip archive of a folder, the same bytes for the same contents."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                entry = zipfile.ZipInfo(str(path.relative_to(folder)), _ZIP_DATE)
                entry.external_attr = (path.stat().st_mode & 0xFFFF) << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                zipped.writestr(entry, path.read_bytes())
    return archive.getvalue()


def _stack(folder: Path, artifact_id: str, artifact: Mapping[str, Any]) -> StackTemplate:
    account, region = artifact["environment"].removeprefix("aws://").split("/")
    properties = artifact["properties"]
    return StackTemplate(
        name=properties.get("stackName", artifact_id),
        template=json.loads((folder / properties["templateFile"]).read_text()),
        account="" if account == "unknown-account" else account,
        region="" if region == "unknown-region" else region,
    )


def _in_dependency_order(artifacts: Mapping[str, Any]) -> list[str]:
    ordered: list[str] = []
    open_visits: set[str] = set()

    def visit(artifact_id: str) -> None:
        if artifact_id in ordered:
            return
        if artifact_id in open_visits:
            raise ValueError(f"the stacks depend on one another in a circle through {artifact_id}")
        open_visits.add(artifact_id)
        for dependency in artifacts[artifact_id].get("dependencies", ()):
            visit(dependency)
        ordered.append(artifact_id)

    for artifact_id in artifacts:
        visit(artifact_id)
    return ordered
