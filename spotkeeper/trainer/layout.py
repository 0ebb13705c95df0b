"""Where each tensor lies in a safetensors file, so that memory can be filled which is that file byte for byte.

    8 bytes   length of the header, little-endian
    header    {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, …}, padded with spaces to 64
    data      the tensors, without gaps, the widest types first so that each lies aligned

github.com/huggingface/safetensors#format. Any reader of the format opens these files.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch

from spotkeeper.trainer.safetensors import DTYPE_NAMES

ALIGNMENT: Final = 64
"""Of the first tensor: a cache line, which is what copying at full speed asks for."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The file that holds certain tensors: its first bytes, and where the others go."""

    head: bytes
    """Length and header."""
    offsets: Mapping[str, int]
    """Of each tensor's first byte in the file."""
    total_bytes: int


def plan(tensors: Mapping[str, torch.Tensor]) -> Layout:
    """Lay the tensors out, each as the dense values that it shows; the format can hold them (`check_storable`)."""
    header: dict[str, dict[str, object]] = {}
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        end = position + size_bytes(tensor)
        header[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    head = len(text).to_bytes(8, "little") + text
    offsets = {name: len(head) + entry["data_offsets"][0] for name, entry in header.items()}  # type: ignore[index]
    return Layout(head, offsets, len(head) + position)


def size_bytes(tensor: torch.Tensor) -> int:
    """Return what the values take, strides apart."""
    return tensor.numel() * tensor.element_size()
