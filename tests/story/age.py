"""Let time pass over what is in the emulated S3, which tells the age of every object."""

from datetime import timedelta

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from spotkeeper.contract.checkpoint_layout import commit_prefix
from spotkeeper.control.run import Run
from tests.story.user import User


def age_commits(user: User, run: Run, *, seconds: float) -> None:
    """Make the run's checkpoints so much older."""
    bucket = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].get_bucket(user.connection.descriptor.checkpoint_bucket)
    for name, stored in bucket.keys.items():
        if name.startswith(commit_prefix(run.run_id)):
            stored.last_modified -= timedelta(seconds=seconds)
