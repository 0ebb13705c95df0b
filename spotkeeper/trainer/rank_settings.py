"""Which of the processes that train one model this is, as torchrun and its relatives tell it."""

from collections.abc import Mapping
from dataclasses import dataclass

from spotkeeper.trainer.environment import EnvironmentReader, natural_int, positive_int


@dataclass(frozen=True, kw_only=True, slots=True)
class RankSettings:
    """The place of this process, and where the processes' common store is."""

    rank: int
    local_rank: int
    """Among the processes of this host."""
    world_size: int
    store_host: str
    store_port: int
    has_store_of_launcher: bool
    """torchrun keeps the store itself; where nobody does, the process of rank 0 has to."""
    restart: int
    """How often torchrun has started the processes again."""

    @classmethod
    def read(cls, environ: Mapping[str, str], reader: EnvironmentReader) -> "RankSettings | None":
        """Return the settings, or None for a process that trains alone; `reader` collects what is unusable."""
        world_size = reader.optional("WORLD_SIZE", positive_int) or 1
        if world_size == 1:
            return None
        because = f"WORLD_SIZE={world_size}: start the program by torchrun"
        return cls(
            rank=reader.required("RANK", natural_int, 0, because=because),
            local_rank=reader.required("LOCAL_RANK", natural_int, 0, because=because),
            world_size=world_size,
            store_host=reader.required("MASTER_ADDR", str, "", because=because),
            store_port=reader.required("MASTER_PORT", positive_int, 1, because=because),
            has_store_of_launcher=environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
            restart=reader.optional("TORCHELASTIC_RESTART_COUNT", natural_int) or 0,
        )
