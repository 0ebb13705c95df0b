from dataclasses import replace
from decimal import Decimal
from typing import Any

import boto3
import pytest

from stacks.environments import DEV, ENVIRONMENTS, PROD, TRAINING_CPU, TRAINING_GPU_24GB
from stacks.settings import Environment
from stacks.training_prices import TRAINING_PRICES_USD
from stacks.training_settings import TrainingSettings

SETTINGS = TrainingSettings(profiles=(TRAINING_CPU, TRAINING_GPU_24GB), default_profile="sm-cpu")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": "SM"}, "TrainingProfile.name must be .* got 'SM'"),
        ({"volume_gib": 0}, "volume_gib must be a whole number from 1 to 16384, got 0"),
        ({"volume_gib": True}, "volume_gib must be a whole number .* got True"),
        ({"spot_instance_types": ()}, "spot_instance_types must name at least one type"),
        ({"spot_instance_types": ("m5.xlarge",)}, "must be 'ml.' and a type of the table .* got 'm5.xlarge'"),
        ({"spot_instance_types": ("ml.m5.xxl",)}, "must be 'ml.' and a type of the table .* got 'ml.m5.xxl'"),
        ({"spot_instance_types": ("ml.m5.xlarge", "ml.m5.xlarge")}, "must name each type once"),
        ({"spot_instance_types": ("ml.g5.xlarge",)}, "one class, 0 GPUs of 0 MiB .* ml.g5.xlarge has 1 of 22888"),
        ({"spot_instance_types": ("ml.m7g.xlarge",)}, "architecture x86_64, .* got 'ml.m7g.xlarge'"),
        ({"on_demand_instance_types": ()}, r"must be 1 to 5 types .* got \(\)"),
        ({"on_demand_instance_types": tuple(f"ml.m{i}.xlarge" for i in range(6))}, "must be 1 to 5 types"),
        ({"spot_instance_types": ["ml.m5.xlarge"]}, "spot_instance_types must be a tuple"),
    ],
)
def test_a_training_profile_that_sagemaker_would_refuse_is_refused_with_the_fix(
    change: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        replace(TRAINING_CPU, **change)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"profiles": (TRAINING_CPU, TRAINING_CPU)}, "profiles must name each once"),
        ({"default_profile": "cpu"}, r"default_profile must be one of \['sm-cpu', 'sm-gpu-24gb'\], got 'cpu'"),
        ({"starting_seconds": 599}, "starting_seconds must be a whole number from 600 to 86400, got 599"),
        ({"is_in_vpc": 1}, "is_in_vpc must be True or False, got 1"),
        ({"service_queue_instances": 0}, "service_queue_instances must be a whole number from 1 to 1000, got 0"),
        ({"on_demand_prices_usd": {"ml.p5.48xlarge": "1"}}, "must name types of its profiles, .* got 'ml.p5.48xlarge'"),
    ],
)
def test_training_settings_that_do_not_fit_are_refused_with_the_fix(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        replace(SETTINGS, **change)


def with_training(environment: Environment, **change: Any) -> Environment:
    return replace(environment, training=replace(SETTINGS, **change))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (
            with_training(DEV, profiles=(replace(TRAINING_CPU, name="cpu"),), default_profile="cpu"),
            r"environment 'dev': .* names that Environment.profiles has not, got \['cpu'\] in both",
        ),
        (with_training(DEV, on_demand_prices_usd={"ml.m5.xlarge": "0,23"}), "must be US dollars as text"),
        (with_training(DEV, on_demand_prices_usd={"ml.m5.xlarge": "0"}), "must be above 0"),
        (with_training(PROD), "without the prices of ml.m6i.xlarge, ml.m7i.xlarge nothing can be leased for training"),
        (replace(DEV, training=SETTINGS.profiles), "Environment.training must be"),  # type: ignore[arg-type]
    ],
)
def test_training_is_refused_where_it_does_not_fit_its_environment(environment: Environment, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        environment.check()


def test_a_price_of_ones_own_comes_first_and_lets_a_total_cap_be_kept() -> None:
    own = {"ml.m5.xlarge": "0.20", "ml.m6i.xlarge": "0.3", "ml.m7i.xlarge": "0.3"}
    environment = with_training(PROD, on_demand_prices_usd=own)

    environment.check()

    assert environment.training is not None
    assert environment.training.prices_of(TRAINING_CPU, "us-east-1") == own
    assert SETTINGS.prices_of(TRAINING_CPU, "us-east-1") == {"ml.m5.xlarge": "0.23"}
    assert SETTINGS.prices_of(TRAINING_CPU, "eu-west-1") == {}


def test_every_type_of_settings_and_prices_is_one_that_sagemaker_trains_on() -> None:
    client = boto3.client("sagemaker", region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none")
    offered = set(client.meta.service_model.shape_for("TrainingInstanceType").enum)
    used = {
        name
        for environment in ENVIRONMENTS.values()
        if environment.training
        for name in environment.training.instance_types
    }

    assert used <= offered
    for prices in TRAINING_PRICES_USD.values():
        assert prices.keys() <= offered
        assert all(Decimal(price) > 0 for price in prices.values())
