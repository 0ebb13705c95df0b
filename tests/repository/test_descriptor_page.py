import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from spotkeeper.contract import descriptor

PAGE = (Path(__file__).parents[2] / "docs" / "descriptor.md").read_text()
SECTIONS = {
    "## Fields": descriptor.Descriptor,
    "### Profile": descriptor.Profile,
    "### Placement": descriptor.Placement,
    "### Caps": descriptor.Caps,
    "### Training": descriptor.Training,
    "### TrainingProfile": descriptor.TrainingProfile,
}


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_page_lists_every_field_of_the_schema_in_its_order(heading: str) -> None:
    section = re.split(r"^#+ ", PAGE.partition(f"{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    kind: Any = SECTIONS[heading]

    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [field.name for field in fields(kind)]


def test_the_page_names_the_version_that_is_read() -> None:
    assert f"| `version` | of this schema: {descriptor.SCHEMA_VERSION} |" in PAGE
