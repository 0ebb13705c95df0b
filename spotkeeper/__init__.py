"""Keep your spot: training runs that survive the loss of their machine.

    import spotkeeper
    run = spotkeeper.Run(model=model, opt=optimizer)

Importing this package loads neither torch nor boto3; using `Run` does.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spotkeeper.trainer.run import Run

__all__ = ["Run"]


def __getattr__(name: str) -> Any:
    if name == "Run":
        from spotkeeper.trainer.run import Run

        return Run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
