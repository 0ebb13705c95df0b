"""Let time pass over what is in the emulated S3, which tells the age of every object."""

import json
from datetime import datetime, timedelta

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from spotkeeper.contract.checkpoint_layout import commit_prefix, mirror_prefix
from spotkeeper.control.ports import Conflict
from spotkeeper.control.run import Run
from spotkeeper.trainer.manifest import seal
from tests.story.user import User, eventually


def age_commits(user: User, run: Run, *, seconds: float) -> None:
    """Make the run's checkpoints so much older."""
    bucket = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].get_bucket(user.connection.descriptor.checkpoint_bucket)
    for name, stored in bucket.keys.items():
        if name.startswith(commit_prefix(run.run_id)):
            stored.last_modified -= timedelta(seconds=seconds)


def age_mirror(user: User, run: Run, *, seconds: float) -> None:
    """Make what the run's mirror has brought so much older, and the attempt that made it older still."""
    s3, bucket = user.connection.s3, user.connection.descriptor.checkpoint_bucket
    prefix = mirror_prefix(run.run_id) + commit_prefix(run.run_id)
    for stored in s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]:
        manifest = json.loads(s3.get_object(Bucket=bucket, Key=stored["Key"])["Body"].read())
        del manifest["crc64nvme"]  # is sealed anew, or nobody would resume from it
        manifest["created_at"] = _earlier(manifest["created_at"], seconds)
        s3.put_object(Bucket=bucket, Key=stored["Key"], Body=seal(manifest))
    claimed_at = _earlier(user.run(run).claimed_at or "", 2 * seconds)

    def is_written() -> bool:
        try:
            return user.connection.ledger.advance(user.run(run), claimed_at=claimed_at).claimed_at == claimed_at
        except Conflict:
            return False  # the sweeper was at it

    eventually(is_written, bool)


def _earlier(moment: str, seconds: float) -> str:
    return (datetime.fromisoformat(moment) - timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
