"""The container of an attempt that reaches no network: nothing but its mirrored folder tells what it has done."""

from typing import Any, Final

from spotkeeper.contract.exit_codes import EXIT_COMPLETED
from tests.simulation.attempt import Container
from tests.simulation.invariants import require
from tests.simulation.mirrored_folder import MirroredFolder
from tests.simulation.training import TrainingJob

LEAVES_AFTER_SECONDS: Final = (1.0, 100.0)


class ClosedContainer(Container):
    """One attempt of a training job without network. It claims nothing: it is alone, or the fence is broken.

    Args:
        arguments: As for `Container`.
        folder: Its checkpoint folder, as SageMaker has filled it.
        others: As for `Container`.
    """

    def __init__(self, *arguments: Any, folder: MirroredFolder, **others: Any) -> None:
        self._folder = folder
        super().__init__(*arguments, **others)

    def kill(self) -> None:
        """End it where it stands: with its host, whose files go with it, or because its job was stopped."""
        super().kill()
        assert isinstance(self._job, TrainingJob)
        (self._folder.finish if self._job.is_stopping else self._folder.cut_off)()

    def _run(self) -> int:
        code = super()._run()
        is_fenced = code == self._programs.exit_codes.EXIT_FENCED
        require(not is_fenced, "I2 never two", f"{self.name} finds a newer attempt in a folder of its own")
        self._folder.finish()
        return code

    def _begin(self) -> int | None:
        self._invariants.trains_alone(self)
        if self._folder.is_complete():
            self._trace(self.name, "finds that the program has finished")
            return EXIT_COMPLETED
        return None

    def _checkpoints(self) -> Any:
        return self._programs.checkpoint.Checkpoints(self._folder, run_id=self.run_id, keep=2, epoch=None)

    def _complete(self, step: int | None) -> None:
        self._folder.complete(step)
        self._trace(self.name, "writes its completion record")
        # From here on its host may be lost with what the record tells of.
        self._scheduler.pause(self._choices.among(f"{self.name}: leaves after", LEAVES_AFTER_SECONDS))

    def _give_way_if_asked(self) -> None:
        """Nobody can ask it."""
