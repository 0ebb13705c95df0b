"""Which run a child of an array job is an attempt of, and what that run alone is given.

All children of an array share one environment. So the run is told by the sweep and the child's index, and its own
parameters come with its claim, from the ledger.
"""

from collections.abc import Mapping

from spotkeeper.contract import environment_variables as names
from spotkeeper.contract.names import check_name, member_id


def as_member(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with the run's id in it; that of any other attempt as it is.

    Raises:
        ValueError: if the index is missing or malformed, or the sweep's name is.
    """
    if not is_member(environ):
        return dict(environ)
    index = environ.get(names.BATCH_ARRAY_INDEX, "")
    if not (index.isascii() and index.isdigit()):
        raise ValueError(
            f"{names.BATCH_ARRAY_INDEX} must be the index of an array job's child, as {names.SWEEP} is set and "
            f"{names.RUN_ID} is not; got {index!r}"
        )
    return {**environ, names.RUN_ID: member_id(check_name(names.SWEEP, environ[names.SWEEP]), int(index))}


def is_member(environ: Mapping[str, str]) -> bool:
    """Tell whether the environment is shared with other runs."""
    return bool(environ.get(names.SWEEP)) and not environ.get(names.RUN_ID)
