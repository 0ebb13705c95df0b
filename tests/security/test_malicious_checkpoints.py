"""A checkpoint is read, never executed: whoever can write one gains nothing but a refusal."""

import ast
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

import spotkeeper
from spotkeeper.trainer import safetensors


class Runs:
    """Unpickled, it calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


def torch_saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def payloads(target: Path) -> dict[str, bytes]:
    """Files that write to `target` in whoever unpickles them."""
    writes = f"open({str(target)!r}, 'w').close()"
    code = Runs(exec, writes)
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(code))
    return {
        "exec": pickle.dumps(code),
        "eval": pickle.dumps(Runs(eval, f"exec({writes!r})")),
        "open": pickle.dumps(Runs(open, str(target), "w")),
        "inside a state dict": pickle.dumps({"model": {"weight": code}}),
        "protocol 0, which is text": pickle.dumps(code, protocol=0),
        "as torch saves it": torch_saved({"weight": code}),
        "in a zip file": zipped.getvalue(),
    }


NAMES = [
    "exec",
    "eval",
    "open",
    "inside a state dict",
    "protocol 0, which is text",
    "as torch saves it",
    "in a zip file",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_pickle_in_place_of_a_checkpoint_is_refused_and_not_run(name: str, tmp_path: Path) -> None:
    target = tmp_path / "ran"
    content = payloads(target)[name]

    with pytest.raises(ValueError, match="not a safetensors file"):
        safetensors.load(memoryview(content))

    assert not target.exists()


def test_the_payload_would_have_run(tmp_path: Path) -> None:
    target = tmp_path / "ran"

    pickle.loads(payloads(target)["exec"])

    assert target.exists()


def test_no_module_of_the_product_can_execute_what_it_reads() -> None:
    executing = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    found = []
    for path in Path(spotkeeper.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=names):
                    found += [(path.name, alias.name) for alias in names if alias.name.split(".")[0] in executing]
                case ast.ImportFrom(module=str(module)) if module.split(".")[0] in executing:
                    found.append((path.name, module))
                case ast.Call(func=ast.Attribute(attr="load", value=ast.Name(id="torch" | "np" | "numpy" as library))):
                    found.append((path.name, f"{library}.load"))
                case ast.Call(func=ast.Name(id="eval" | "exec" as function)):
                    found.append((path.name, function))

    assert found == []
