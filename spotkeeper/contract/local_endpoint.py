"""Where a running emulation says how to reach it, so that `spotkeeper --local` finds it.

The file is JSON: {"endpoint_url": "http://127.0.0.1:PORT", "region": "us-east-1", "environment": "dev", "pid": 1234}.
"""

from collections.abc import Mapping
from pathlib import Path


def local_endpoint_file(environ: Mapping[str, str]) -> Path:
    """Return the file's path: `$XDG_STATE_HOME/spotkeeper/local.json`, by default under `~/.local/state`."""
    state_home = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state_home) / "spotkeeper" / "local.json"
