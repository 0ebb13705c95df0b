"""The stacks. Importing this package chooses the Node that jsii starts when `aws_cdk` is imported."""

import os
import sys
from pathlib import Path

_node = Path(sys.executable).with_name("node")
if _node.exists():
    # `make setup` puts Node beside Python; a machine's own may be missing or too old for jsii.
    os.environ.setdefault("JSII_NODE", str(_node))
