"""The safetensors file layout: named tensors as raw bytes behind a JSON header, nothing executable.

`layout` says how a file lies; this module says what it can hold, and reads it.
"""

import ctypes
import json
from typing import Final

import numpy as np
import torch

DTYPES: Final = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPE_NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}


def check_storable(tensor: torch.Tensor, path: str) -> None:
    """Refuse a tensor whose content this layout cannot hold.

    Raises:
        ValueError: naming the path of the tensor in the state and what is unusual about it.
    """
    if tensor.dtype not in DTYPE_NAMES:
        raise ValueError(f"{path} has dtype {tensor.dtype}; a checkpoint holds {', '.join(sorted(DTYPES))}")
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        raise ValueError(
            f"{path} is a {tensor.layout} tensor on {tensor.device}; a checkpoint holds dense tensors with content: "
            "leave it out of the state dict, or turn it into one"
        )


def load(content: memoryview) -> dict[str, torch.Tensor]:
    """Return the tensors as views of the content, which must have been verified before and outlive them.

    Nothing may be written to them: the content may be a file.

    Raises:
        ValueError: if it is not such a file, or holds a type that this version does not know.
    """
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(bytes(content[8 : 8 + length]))
        data = _bytes_tensor(content[8 + length :])
        return {name: _tensor(data, **entry) for name, entry in header.items() if name != "__metadata__"}
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"not a safetensors file that this version can read: {error!r}") from error


def _bytes_tensor(content: memoryview) -> torch.Tensor:
    if content.nbytes == 0:
        return torch.empty(0, dtype=torch.uint8)
    # torch warns of read-only memory, and takes an address without a warning. The array keeps the memory alive.
    array = np.frombuffer(content, dtype=np.uint8)
    memory = (ctypes.c_uint8 * content.nbytes).from_address(array.ctypes.data)
    memory.keeps = array  # type: ignore[attr-defined]
    return torch.frombuffer(memory, dtype=torch.uint8)


def _tensor(data: torch.Tensor, dtype: str, shape: list[int], data_offsets: list[int]) -> torch.Tensor:
    begin, end = data_offsets
    if not 0 <= begin <= end <= data.numel():
        raise ValueError(f"data_offsets {data_offsets} lie outside of {data.numel()} bytes")
    if begin == end:
        return torch.empty(shape, dtype=DTYPES[dtype])
    raw = data[begin:end]
    if raw.data_ptr() % DTYPES[dtype].itemsize:
        raw = raw.clone()  # written by somebody who does not align
    return raw.view(DTYPES[dtype]).reshape(shape)
