"""From an address to the store that is there."""

from pathlib import Path

from spotkeeper.trainer.local_store import LocalStore
from spotkeeper.trainer.store import Store


def open_store(uri: str) -> Store:
    """Return the store at `s3://bucket[/prefix]` or at a local folder, which is created when first written.

    Raises:
        ValueError: if the address has another scheme or no bucket.
    """
    if uri.startswith("s3://"):
        # Imported here: a laptop that saves to a folder needs no boto3.
        from spotkeeper.trainer.s3_store import S3Store

        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not bucket:
            raise ValueError(f"{uri!r} names no bucket: write s3://bucket or s3://bucket/prefix")
        return S3Store(bucket, prefix.strip("/"))
    if "://" in uri or not uri:
        raise ValueError(f"checkpoints go to s3://bucket[/prefix] or to a folder; got {uri!r}")
    return LocalStore(Path(uri))
