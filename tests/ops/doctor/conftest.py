import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import app
from emulation.aws import Aws
from emulation.aws import connect as connect_to
from emulation.server import Server
from emulation.templates.assembly import read
from emulation.templates.load import load
from spotkeeper.contract.local_endpoint import local_endpoint_file
from spotkeeper.ops.connection import Connection, LocalEndpoint, connect
from stacks.environments import DEV
from stacks.network_modes import Isolated, Network

REGION = "us-east-1"


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Network], Path]:
    """Synthesize dev with one profile, in a network mode, once."""
    folders: dict[str, Path] = {}

    def synthesized(network: Network) -> Path:
        name = type(network).__name__
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            app.assemble(replace(DEV, profiles=DEV.profiles[:1], network=network), str(folders[name])).synth()
        return folders[name]

    return synthesized


@pytest.fixture
def network() -> Network:
    return DEV.network


@pytest.fixture
def change() -> Callable[[str], str]:
    """What somebody has changed in the text of the templates."""
    return lambda text: text


@pytest.fixture
def endpoint(
    templates: Callable[[Network], Path], network: Network, change: Callable[[str], str], tmp_path: Path
) -> Iterator[LocalEndpoint]:
    """The environment in moto, by its real templates."""
    folder = tmp_path / "assembly"
    folder.mkdir()
    for path in templates(network).iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(
                change(path.read_text()).encode() if path.name.endswith(".template.json") else path.read_bytes()
            )
        else:
            (folder / path.name).symlink_to(path)
    server = Server()
    try:
        load(read(folder), connect_to(server.endpoint_url, REGION), environment="dev")
        yield LocalEndpoint(endpoint_url=server.endpoint_url, region=REGION, environment="dev")
    finally:
        server.stop()


@pytest.fixture
def aws(endpoint: LocalEndpoint) -> Aws:
    return connect_to(endpoint.endpoint_url, REGION)


@pytest.fixture
def local(endpoint: LocalEndpoint) -> Connection:
    return connect("dev", local=endpoint)


@pytest.fixture
def shell(endpoint: LocalEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell in which `spotkeeper --local` finds the environment."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("SPOTKEEPER_ENV", raising=False)
    told: dict[str, Any] = {name: getattr(endpoint, name) for name in ("endpoint_url", "region", "environment")}
    path = local_endpoint_file({"XDG_STATE_HOME": str(tmp_path / "state")})
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(told))


ISOLATED = Isolated()
