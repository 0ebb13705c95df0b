"""What one process of several has for itself, and writes and restores itself.

That is its random numbers, its gradients, its place in a stream, and what the program names as such. All else is the
same in all of them, and rank 0 writes it once.
"""

from typing import Any

from spotkeeper.trainer import rng, safetensors
from spotkeeper.trainer.checkpoint import Checkpoint
from spotkeeper.trainer.state_tree import decode


def with_own_part(state: dict[str, Any], checkpoint: Checkpoint, *, rank: int, world_size: int) -> dict[str, Any]:
    """Return the state that this rank goes on with: the common one, with its own part in its place.

    With another number of processes, the common state is the same. A rank that the checkpoint does not know gets random
    numbers of its own, derived from step and rank.

    Raises:
        ValueError: if the numbers differ although objects have a state for each rank.
    """
    saved_size, per_rank = checkpoint.manifest["world_size"], state["loop"].get("per_rank", [])
    if saved_size != world_size and per_rank:
        raise ValueError(
            f"{checkpoint.key} holds a state of {', '.join(per_rank)} for each of {saved_size} processes, and there "
            f"are {world_size} now: start as many, or start a new run (another SPOTKEEPER_RUN_ID, or an empty folder)"
        )
    if rank == 0:
        return state
    if checkpoint.part is None:
        own = rng.derived(checkpoint.manifest["step"], rank)
        return {**state, "loop": {**state["loop"], "rng": own}}
    tensors = safetensors.load(checkpoint.part.tensors)
    part = {name: decode(item, tensors) for name, item in checkpoint.part.state.items()}
    return {"objects": {**state["objects"], **part["objects"]}, "loop": {**state["loop"], **part["loop"]}}
