"""Say in one sentence that nobody is signed in, before the CDK says it at length."""

import sys

import boto3
from botocore.exceptions import BotoCoreError

from spotkeeper.ops import failure


def main() -> None:
    """Exit 1 with that sentence unless there are AWS credentials; whether AWS accepts them, it says itself."""
    try:
        if boto3.Session().get_credentials() is None:
            sys.exit(failure.NO_CREDENTIALS)
    except BotoCoreError as error:
        sys.exit(failure.sentence(error))


if __name__ == "__main__":
    main()
