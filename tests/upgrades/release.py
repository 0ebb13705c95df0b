"""The last release, as it stands in `releases/`: every environment's templates, and the ledger's schema."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

from tests.stacks.synthesized import Template

ROOT: Final = Path(__file__).parents[2]
RELEASES: Final = ROOT / "releases"
SCHEMA_FILE: Final = "ledger-schema.json"
ACCEPTED: Final = RELEASES / "accepted-losses.json"
"""What the next release takes away on purpose: `environment/stack/logical id` to the reason. Emptied by a release."""

Templates = dict[str, Template]
"""Of one environment, by the role of the stack: storage, network, batch, recovery, …"""


def last_release() -> Path:
    """Return the folder of the last release: there is one."""
    (folder,) = (path for path in RELEASES.iterdir() if path.is_dir())
    return folder


def released_templates(environment: str) -> Templates:
    """Return an environment's templates of the last release."""
    folder = last_release() / environment
    return {path.name.removesuffix(".template.json"): json.loads(path.read_text()) for path in folder.iterdir()}


def released_schema() -> dict[str, Any]:
    """Return the ledger's schema of the last release."""
    schema: dict[str, Any] = json.loads((last_release() / SCHEMA_FILE).read_text())
    return schema


def accepted_losses(environment: str) -> dict[str, str]:
    """Return what an upgrade of an environment may take away: `stack/logical id` to the reason."""
    prefix = f"{environment}/"
    accepted: dict[str, str] = json.loads(ACCEPTED.read_text())
    return {place.removeprefix(prefix): why for place, why in accepted.items() if place.startswith(prefix)}


def write_release(version: str, environments: dict[str, Templates], schema: dict[str, Any]) -> Path:
    """Put a release in place of the last one."""
    for path in RELEASES.glob("*/"):
        shutil.rmtree(path)
    folder = RELEASES / version
    for environment, templates in environments.items():
        for stack, template in templates.items():
            _write(folder / environment / f"{stack}.template.json", template)
    _write(folder / SCHEMA_FILE, schema)
    _write(ACCEPTED, {})
    return folder


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # As CDK writes them, so that `cdk diff --template` takes them; sorted, so that a diff of two releases is short.
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
