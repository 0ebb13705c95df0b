import json
import math
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spotkeeper.trainer import safetensors
from spotkeeper.trainer.layout import ALIGNMENT, plan
from spotkeeper.trainer.state_tree import Encoder, decode

DTYPES = sorted(safetensors.DTYPE_NAMES, key=str)


@st.composite
def tensors(draw: Any) -> torch.Tensor:
    """Any dtype, up to three dimensions, empty ones and transposed views included; any bits, so not-a-numbers too."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    size = math.prod(shape) * torch.empty((), dtype=dtype).element_size()
    raw = bytearray(draw(st.binary(min_size=size, max_size=size)))
    if dtype is torch.bool:
        raw = bytearray(byte & 1 for byte in raw)
    flat = torch.frombuffer(raw, dtype=torch.uint8).clone().view(dtype) if raw else torch.empty(0, dtype=dtype)
    tensor = flat.reshape(shape)
    return tensor.transpose(0, -1) if shape and draw(st.booleans()) else tensor


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.floats().map(np.float64),
    st.integers(0, 9).map(np.int32),
)
arrays = st.sampled_from([np.arange(6, dtype=np.uint32), np.zeros((2, 0)), np.array(3.5), np.arange(9.0)[::-2]])
keys = st.one_of(st.text(max_size=3), st.integers(), st.just("$tensor"), st.tuples(st.integers(), st.text(max_size=2)))
trees = st.recursive(
    st.one_of(scalars, tensors(), arrays),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
        st.dictionaries(st.integers(), st.integers(), max_size=2).map(Counter),
    ),
    max_leaves=8,
)


def filled(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return the file that the arena would hold."""
    layout = plan(tensors)
    content = bytearray(layout.total_bytes)
    content[: len(layout.head)] = layout.head
    for name, tensor in tensors.items():
        raw = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        content[layout.offsets[name] : layout.offsets[name] + len(raw)] = raw
    return bytes(content)


def through_storage(state: Any) -> Any:
    encoder = Encoder()
    tree = json.dumps(encoder.encode(state, "state"), allow_nan=False)
    return decode(json.loads(tree), safetensors.load(memoryview(filled(encoder.tensors))))


def bits(value: Any) -> Any:
    """Return a description that is equal for two values exactly if types, shapes and all bits are."""
    if isinstance(value, torch.Tensor):
        flat = value.contiguous().reshape(-1).view(torch.uint8)
        return ("tensor", value.dtype, tuple(value.shape), flat.numpy().tobytes())
    if isinstance(value, np.ndarray | np.generic):
        return (type(value), value.dtype, value.shape, value.tobytes())
    if isinstance(value, dict):
        return (type(value), [(bits(key), bits(item)) for key, item in value.items()])
    if isinstance(value, list | tuple):
        return (type(value), [bits(item) for item in value])
    return (type(value), np.float64(value).tobytes() if isinstance(value, float) else value)


@given(trees)
@settings(max_examples=150, deadline=None)
def test_every_state_comes_back_with_its_types_and_its_bits(state: Any) -> None:
    assert bits(through_storage(state)) == bits(state)


def test_a_module_state_keeps_the_versions_of_its_layers() -> None:
    state = torch.nn.Sequential(torch.nn.BatchNorm1d(3)).state_dict()

    restored = through_storage(state)

    assert restored._metadata == state._metadata  # type: ignore[attr-defined]
    assert bits(dict(restored)) == bits(dict(state))


def test_memory_that_two_names_share_is_stored_once_and_shared_again() -> None:
    weight = torch.arange(6.0)
    encoder = Encoder()

    tree = encoder.encode({"one": weight, "two": weight, "part": weight[:3]}, "state")
    restored = decode(tree, safetensors.load(memoryview(filled(encoder.tensors))))

    assert list(encoder.tensors) == ["state.one", "state.part"]
    assert restored["one"] is restored["two"]
    assert restored["part"].tolist() == [0, 1, 2]


def test_two_paths_that_read_the_same_keep_their_own_tensors() -> None:
    state = {"a": {"b": torch.zeros(1)}, "a.b": torch.ones(1)}

    restored = through_storage(state)

    assert (restored["a"]["b"].item(), restored["a.b"].item()) == (0, 1)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (object(), "builtins.object"),
        ({1, 2}, "builtins.set"),
        (torch.eye(2).to_sparse(), "sparse"),
        (torch.empty(1, device="meta"), "meta"),
        (torch.zeros(1, dtype=torch.complex128), "complex128"),
        (np.array(["text"]), "numpy array of <U4"),
    ],
)
def test_a_type_that_cannot_be_stored_is_refused_by_its_path(value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"opt\.state\.0 .*{reason}"):
        Encoder().encode({"state": [value]}, "opt")


def test_an_ordered_dict_is_accepted_as_a_dict() -> None:
    assert through_storage(OrderedDict(a=1)) == {"a": 1}


def test_a_form_of_a_later_version_is_refused() -> None:
    with pytest.raises(ValueError, match=r"form '\$novel'"):
        decode({"$novel": 1}, {})


def test_the_file_is_what_the_format_says() -> None:
    content = filled({"b": torch.tensor([1, 2], dtype=torch.int16), "a": torch.tensor(1.0)})

    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])

    assert (8 + length) % ALIGNMENT == 0
    assert header == {
        "a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
        "b": {"dtype": "I16", "shape": [2], "data_offsets": [4, 8]},
    }
    assert content[8 + length :] == bytes.fromhex("0000803f") + bytes.fromhex("01000200")
