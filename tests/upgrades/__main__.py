"""Write today's templates and ledger schema as the last release (`make release-templates`)."""

import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

import app
from stacks.environments import ENVIRONMENTS
from tests.stacks.synthesized import Assembly
from tests.upgrades.ledger_schema import ledger_schema
from tests.upgrades.release import ROOT, write_release


def main() -> None:
    """Synthesize every environment into `releases/<version of pyproject.toml>`, in place of what was there."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    environments = {}
    for name in ENVIRONMENTS:
        with TemporaryDirectory() as folder:
            app.build(name, folder).synth()
            environments[name] = Assembly(Path(folder), name).templates
    schema = ledger_schema(next(iter(environments.values()))["storage"])
    written = write_release(version, environments, schema)
    sys.stdout.write(f"{written.relative_to(ROOT)}: {', '.join(environments)}, and the ledger's schema\n")


if __name__ == "__main__":
    main()
