"""Judge cloud assemblies: `python -m tests.security FOLDER…`, each folder named as its environment."""

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.security import acknowledgements, house_rules, iam
from tests.security.finding import Finding


def findings(folder: Path) -> Iterator[Finding]:
    """Return everything that is wrong with the templates of an environment."""
    assembly = iam.DeployedNames(folder, folder.name)
    for template in assembly.templates.values():
        yield from house_rules.judge(template)
    yield from iam.judge(assembly)
    yield from acknowledgements.judge(folder)


def main() -> None:
    """Print the findings of each assembly; exit 1 if there are any."""
    folders = [Path(name) for name in sys.argv[1:]]
    found = [f"{folder.name}: {finding}" for folder in folders for finding in findings(folder)]
    print("\n".join(found) if found else f"security: 0 findings in {', '.join(folder.name for folder in folders)}")
    sys.exit(bool(found) or not folders)


if __name__ == "__main__":
    main()
