"""The client of SageMaker that a function makes, which may have an SDK older than what we ask SageMaker for.

Lambda's runtime brings its own botocore, months behind. What is newer stands in `newer_models`, in botocore's own form
of additions to a service's model; where the runtime knows it by itself, adding it changes nothing.
"""

from pathlib import Path
from typing import Any, Final

import boto3
import botocore.session
from botocore.config import Config

NEWER_MODELS: Final = Path(__file__).parent / "newer_models"


def training_client(config: Config) -> Any:
    """Return a client of SageMaker that knows `InstancePreferences`, of 2026, whatever botocore's age."""
    core = botocore.session.get_session()
    core.get_component("data_loader").search_paths.append(str(NEWER_MODELS))
    return boto3.Session(botocore_session=core).client("sagemaker", config=config)
