"""The safetensors file layout: named tensors as raw bytes behind a JSON header, nothing executable.

    8 bytes   length of the header, little-endian
    header    {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, …}, padded with spaces to 8
    data      the tensors, without gaps, the widest types first so that each lies aligned

github.com/huggingface/safetensors#format. Any reader of the format opens these files.
"""

import json
from collections.abc import Mapping
from typing import Final

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
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        raise ValueError(
            f"{path} is a {tensor.layout} tensor on {tensor.device}; a checkpoint holds dense tensors with content: "
            "leave it out of the state dict, or turn it into one"
        )


def dump(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return the file's content. Shared or strided memory is written as the values that each tensor shows."""
    by_width = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header: dict[str, dict[str, object]] = {}
    position = 0
    for name, tensor in by_width:
        check_storable(tensor, name)
        end = position + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    content: list[bytes | memoryview] = [len(text).to_bytes(8, "little"), text]
    content += [_raw_bytes(tensor) for _, tensor in by_width]
    return b"".join(content)


def load(content: bytes | memoryview) -> dict[str, torch.Tensor]:
    """Return the tensors, each in memory of its own. The content must have been verified before.

    Raises:
        ValueError: if it is not such a file, or holds a type that this version does not know.
    """
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(bytes(content[8 : 8 + length]))
        return {name: _tensor(content, 8 + length, **entry) for name, entry in header.items() if name != "__metadata__"}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a safetensors file that this version can read: {error!r}") from error


def _raw_bytes(tensor: torch.Tensor) -> memoryview:
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    # Flat first: a tensor without dimensions has no last one that could be viewed as bytes.
    return memoryview(plain.reshape(-1).view(torch.uint8).numpy().data)


def _tensor(
    content: bytes | memoryview, origin: int, dtype: str, shape: list[int], data_offsets: list[int]
) -> torch.Tensor:
    begin, end = data_offsets
    if begin == end:
        return torch.empty(shape, dtype=DTYPES[dtype])
    raw = bytearray(memoryview(content)[origin + begin : origin + end])
    return torch.frombuffer(raw, dtype=torch.uint8).clone().view(DTYPES[dtype]).reshape(shape)
