"""State dicts as JSON and tensors, and back: no pickle, so a checkpoint can be read but never executed.

What JSON has, it says itself. What it has not is an object with one key that begins with "$":

    {"$tensor": name}           a tensor, stored under that name        {"$array": name}     a numpy array, likewise
    {"$tuple": […]}             {"$counter": [[key, count], …]}         {"$number": [dtype, hex]}  a numpy scalar
    {"$dict": [[key, value], …]}            keys that are not plain text; optimizers number their parameters
    {"$module": {…}, "metadata": {…}}       a module's state dict, with the versions of its layers
    {"$part": name, "cut": {…}} this process's part of a tensor that is cut over several (sharded_tensor)
    {"$float": hex}             infinity and not-a-number, bit for bit

Everything comes back with the exact value it had, and with its type, but for these: a torch.Size as a tuple, an
OrderedDict as a dict, a Parameter as a Tensor, a DTensor as a `Part`. Any other type is refused by its path.
"""

import math
import struct
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch

from spotkeeper.trainer.safetensors import check_storable
from spotkeeper.trainer.sharded_tensor import Part, describe_cut, is_sharded

PLAIN_TYPES: Final = frozenset((type(None), bool, int, str))
"""Of values that JSON has, and that nobody can change in place."""
DICT_TYPES: Final = (dict, OrderedDict)


def are_plain(values: list[Any] | tuple[Any, ...]) -> bool:
    """Tell whether all are of plain types, in one look: Python's generator alone has 625 numbers."""
    return PLAIN_TYPES.issuperset(map(type, values))


class Encoder:
    """Turns a state into JSON, collecting its tensors. Tensors that are the same memory are stored once."""

    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self._names: dict[tuple[object, ...], str] = {}

    def encode(self, value: Any, path: str) -> Any:
        """Return what stands for `value` in JSON.

        Raises:
            ValueError: naming the path of a value whose type a checkpoint cannot hold.
        """
        kind = type(value)
        if kind in PLAIN_TYPES:
            return value
        if kind is float:
            return value if math.isfinite(value) else {"$float": struct.pack(">d", value).hex()}
        if kind is list:
            return self._items(value, path)
        if kind is tuple or isinstance(value, torch.Size):
            return {"$tuple": self._items(value, path)}
        if kind is Counter:
            return {"$counter": self._pairs(value, path)}
        if kind in DICT_TYPES:
            return self._dict(value, path)
        if isinstance(value, (torch.Tensor, Part)):
            return self._tensor(value, path)
        if isinstance(value, np.ndarray):
            return {"$array": self._store(_tensor_of(value, path), path)}
        if isinstance(value, np.generic) and value.dtype.kind in "biufc":
            return {"$number": [value.dtype.str, value.tobytes().hex()]}
        raise ValueError(
            f"{path} is a {kind.__module__}.{kind.__qualname__}, which a checkpoint cannot hold: let its state_dict "
            "return numbers, text, tensors, numpy arrays, and lists, tuples and dicts of them"
        )

    def _dict(self, value: dict[Any, Any], path: str) -> Any:
        is_plain = all(type(key) is str and not key.startswith("$") for key in value)
        content: Any = (
            {key: self.encode(item, f"{path}.{key}") for key, item in value.items()}
            if is_plain
            else {"$dict": self._pairs(value, path)}
        )
        # torch hangs the versions of a module's layers on the state dict as an attribute.
        metadata = getattr(value, "_metadata", None)
        if metadata is None:
            return content
        return {"$module": content, "metadata": self.encode(dict(metadata), f"{path} (metadata)")}

    def _items(self, values: list[Any] | tuple[Any, ...], path: str) -> list[Any]:
        if are_plain(values):
            return list(values)
        return [self.encode(item, f"{path}.{index}") for index, item in enumerate(values)]

    def _pairs(self, values: Mapping[Any, Any], path: str) -> list[Any]:
        return [
            [self.encode(key, f"{path} (key {key!r})"), self.encode(item, f"{path}.{key}")]
            for key, item in values.items()
        ]

    def _tensor(self, tensor: torch.Tensor | Part, path: str) -> Any:
        if is_sharded(tensor):
            tensor = Part(tensor.to_local().detach(), describe_cut(tensor))
        if isinstance(tensor, Part):
            return {"$part": self._store(tensor.local, path), "cut": tensor.cut}
        return {"$tensor": self._store(tensor, path)}

    def _store(self, tensor: torch.Tensor, path: str) -> str:
        check_storable(tensor, path)
        memory = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.device)
        known = self._names.get(memory)
        if known is not None and tensor.numel() > 0:
            return known
        name = path
        while name in self.tensors:
            name += "'"
        self.tensors[name] = tensor
        self._names[memory] = name
        return name


def decode(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Return the state that `Encoder.encode` was given.

    Raises:
        ValueError: if it names a tensor that is not there, or uses a form that this version does not know.
    """
    if isinstance(value, list):
        return [decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "$module" in value:
        module = OrderedDict(decode(value["$module"], tensors))
        module._metadata = OrderedDict(decode(value["metadata"], tensors))  # type: ignore[attr-defined]  # noqa: SLF001  (torch's own way)
        return module
    form = next((key for key in value if key.startswith("$")), None)
    if form is None:
        return {key: decode(item, tensors) for key, item in value.items()}
    if form == "$part":
        return Part(_named(value[form], tensors), value["cut"])
    return _decode_form(form, value[form], tensors)


def _decode_form(form: str, content: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    match form:
        case "$tensor":
            return _named(content, tensors)
        case "$array":
            return _named(content, tensors).numpy()
        case "$tuple":
            return tuple(decode(item, tensors) for item in content)
        case "$dict":
            return {decode(key, tensors): decode(item, tensors) for key, item in content}
        case "$counter":
            return Counter({decode(key, tensors): decode(item, tensors) for key, item in content})
        case "$float":
            return struct.unpack(">d", bytes.fromhex(content))[0]
        case "$number":
            dtype, raw = content
            return np.frombuffer(bytes.fromhex(raw), dtype=dtype)[0]
        case _:
            raise ValueError(f"the checkpoint uses the form {form!r}, which this version of spotkeeper does not know")


def _named(name: str, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    if name not in tensors:
        raise ValueError(f"the checkpoint refers to a tensor {name!r} that it does not hold")
    return tensors[name]


def _tensor_of(array: np.ndarray[Any, Any], path: str) -> torch.Tensor:
    try:
        # A copy, because torch takes neither read-only nor negatively strided memory.
        return torch.from_numpy(array.copy())
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is a numpy array of {array.dtype}, which a checkpoint cannot hold") from error
