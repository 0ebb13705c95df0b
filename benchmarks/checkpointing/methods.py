"""Ways to save a training to a local disk, each at its best, and all as durable: synced before they count.

A method saves into a new name each time, as all of them do in use, and forgets the save before the last.
"""

import ctypes
import mmap
import os
import shutil
from concurrent.futures import Future
from enum import Enum
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType, AsyncSaveResponse, async_save

from benchmarks.checkpointing.training import Training

CHUNK_BYTES = 16 << 20


class Measured(Enum):
    """What is of interest about a method."""

    TRAINING = "training"
    """Its stall, and what a training loses by it."""
    STALL = "stall"
    """Its stall alone."""
    SAVE = "save"
    RESTORE = "restore"


class Method:
    """A way to save and restore."""

    measured: ClassVar[frozenset[Measured]] = frozenset({Measured.TRAINING, Measured.SAVE, Measured.RESTORE})

    def __init__(self, training: Training, folder: Path) -> None:
        self.training = training
        self.folder = folder
        self._numbers = count()
        self._saved: list[Path] = []

    def begin_step(self) -> None:
        """Do what the method needs between two steps."""

    def save(self) -> None:
        """Begin to save the state of this moment; return when the training may go on."""
        raise NotImplementedError

    def is_durable(self) -> bool:
        """Tell whether the last save is."""
        return True

    def wait(self) -> None:
        """Wait until it is."""

    def restore(self) -> None:
        """Bring the last save back into the model and its optimizer."""
        raise NotImplementedError

    def forget(self) -> None:
        """Delete all saves but the last, outside of what is timed."""
        for path in self._saved[:-1]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        del self._saved[:-1]

    def _new_path(self) -> Path:
        path = self.folder / f"save-{next(self._numbers)}"
        self._saved.append(path)
        return path

    def _load_state(self, model: Any, opt: Any) -> None:
        self.training.model.load_state_dict(model)
        self.training.opt.load_state_dict(opt)


class Memcpy(Method):
    """A copy of every tensor into memory that has been written before: what a snapshot cannot be faster than."""

    measured = frozenset({Measured.STALL, Measured.RESTORE})

    def __init__(self, training: Training, folder: Path) -> None:
        super().__init__(training, folder)
        self._arena = bytearray(training.num_bytes())
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._arena))

    def save(self) -> None:
        """Copy out."""
        position = self._address
        for tensor in self.training.tensors().values():
            ctypes.memmove(position, tensor.data_ptr(), tensor.nbytes)
            position += tensor.nbytes

    def restore(self) -> None:
        """Copy back."""
        position = self._address
        for tensor in self.training.tensors().values():
            ctypes.memmove(tensor.data_ptr(), position, tensor.nbytes)
            position += tensor.nbytes


class RawWrite(Method):
    """The same bytes from one warm buffer, written, synced and renamed: what a save cannot be faster than."""

    measured = frozenset({Measured.SAVE})
    flags: ClassVar[int] = 0

    def __init__(self, training: Training, folder: Path) -> None:
        super().__init__(training, folder)
        self._num_bytes = training.num_bytes()
        # Page-aligned, as O_DIRECT needs it, and touched.
        self._buffer = mmap.mmap(-1, -(-self._num_bytes // CHUNK_BYTES) * CHUNK_BYTES)
        for position in range(0, len(self._buffer), CHUNK_BYTES):
            self._buffer[position : position + CHUNK_BYTES] = os.urandom(CHUNK_BYTES)

    def save(self) -> None:
        """Write."""
        path = self._new_path()
        partial = path.with_suffix(".partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | self.flags, 0o644)
        try:
            for position in range(0, self._num_bytes, CHUNK_BYTES):
                os.write(descriptor, memoryview(self._buffer)[position : position + CHUNK_BYTES])
            os.ftruncate(descriptor, self._num_bytes)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _publish(partial, path)


class RawDirectWrite(RawWrite):
    """The same past the page cache."""

    flags = os.O_DIRECT


class TorchSave(Method):
    """`torch.save`, synced and renamed."""

    is_mapped: ClassVar[bool] = False

    def save(self) -> None:
        """Write."""
        path = self._new_path()
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            torch.save(self._state(), file)
            file.flush()
            os.fsync(file.fileno())
        _publish(partial, path)

    def restore(self) -> None:
        """Load without pickle's arbitrary code."""
        state = torch.load(self._saved[-1], weights_only=True, mmap=self.is_mapped)
        self._load_state(state["model"], state["opt"])

    def _state(self) -> dict[str, Any]:
        return {"model": self.training.model.state_dict(), "opt": self.training.opt.state_dict()}


class TorchSaveMapped(TorchSave):
    """The same, restored from a mapping.

    The optimizer's moments stay in the file until a step first writes to them: some of the cost comes later.
    """

    measured = frozenset({Measured.RESTORE})
    is_mapped = True


class Safetensors(Method):
    """`safetensors.torch.save_file`, synced and renamed."""

    def save(self) -> None:
        """Write."""
        path = self._new_path()
        partial = path.with_suffix(".partial")
        save_file(self.training.tensors(), partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        _publish(partial, path)

    def restore(self) -> None:
        """Map, and copy into the tensors that are there."""
        loaded = load_file(self._saved[-1])
        with torch.no_grad():
            for name, tensor in self.training.tensors().items():
                tensor.copy_(loaded[name])


class DcpSave(Method):
    """`torch.distributed.checkpoint.async_save` with its defaults, on one process."""

    def __init__(self, training: Training, folder: Path) -> None:
        super().__init__(training, folder)
        self._options: dict[str, Any] = {"no_dist": True}
        self._upload: Future[Any] | None = None

    def save(self) -> None:
        """Stage, and hand over."""
        reply = async_save(self._state(), checkpoint_id=self._new_path(), **self._options)
        if isinstance(reply, AsyncSaveResponse):
            reply.staging_completion.result()
            self._upload = reply.upload_completion
        else:
            self._upload = reply

    def is_durable(self) -> bool:
        """Ask the future."""
        assert self._upload is not None
        return bool(self._upload.done())

    def wait(self) -> None:
        """Wait for the future; a save that failed raises here."""
        assert self._upload is not None
        self._upload.result()

    def restore(self) -> None:
        """Load into the tensors that are there."""
        # What is not a tensor comes back through the dictionary; parameters and moments share their memory with it.
        load(self._state(), checkpoint_id=self._saved[-1], no_dist=True)

    def _state(self) -> dict[str, Any]:
        return {"tensors": self.training.tensors()}


class DcpCachedStager(DcpSave):
    """The same with a stager that keeps its memory from save to save."""

    def __init__(self, training: Training, folder: Path) -> None:
        super().__init__(training, folder)
        self._stager = DefaultStager(
            StagingOptions(
                use_pinned_memory=False, use_shared_memory=False, use_async_staging=False, use_non_blocking_copy=False
            )
        )
        self._options["async_stager"] = self._stager


class DcpProcess(DcpSave):
    """The same in a process of its own, over shared memory that is kept from save to save."""

    def __init__(self, training: Training, folder: Path) -> None:
        super().__init__(training, folder)
        dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
        self._stager = DefaultStager(
            StagingOptions(
                use_pinned_memory=False, use_shared_memory=True, use_async_staging=False, use_non_blocking_copy=False
            )
        )
        self._options = {"async_stager": self._stager, "async_checkpointer_type": AsyncCheckpointerType.PROCESS}


def _publish(partial: Path, path: Path) -> None:
    partial.rename(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
