from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from spotkeeper.contract.descriptor import Caps
from spotkeeper.policy import money
from spotkeeper.policy.money import check_microusd, parse_usd
from stacks.alarm_settings import AlarmSettings
from stacks.environments import CPU, DEV, GPU_24GB, GPU_80GB_X8
from stacks.instance_types import INSTANCE_TYPES
from stacks.settings import MAX_USD, Profile, memory_for_a_job_mib

ZONES = ("eu-west-1a", "eu-west-1b")
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:team/hub-token-a1B2c3"

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/images-1@sha256:" + "a" * 64


def profiles(count: int) -> tuple[Profile, ...]:
    return CPU, *(replace(CPU, name=f"cpu-{index}") for index in range(1, count))


def teams(count: int) -> tuple[str, ...]:
    return tuple(f"team{index}" for index in range(count))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": "Dev"}, r"Environment.name must be .* got 'Dev'"),
        ({"region": "us-east-1a"}, "region must be an AWS region such as 'us-east-1', got 'us-east-1a'"),
        ({"region": "US-EAST-1"}, "must be an AWS region"),
        ({"region": "virginia"}, "must be an AWS region"),
        ({"region": "eu-west-1"}, "zones of region 'eu-west-1' such as 'eu-west-1a', got 'us-east-1a'"),
        ({"availability_zones": ("us-east-1a",)}, r"2 to 16 different zones, got \('us-east-1a',\)"),
        ({"availability_zones": ("us-east-1a", "us-east-1a")}, "2 to 16 different zones"),
        ({"availability_zones": ("us-east-1a", "eu-west-1b")}, "zones of region 'us-east-1' .* got 'eu-west-1b'"),
        ({"availability_zones": ("us-east-1a", "us-east-1")}, "zones of region .* got 'us-east-1'"),
        ({"profiles": (CPU, CPU)}, "profiles must name each once, got cpu more than once"),
        ({"profiles": profiles(26)}, "profiles must be at most 25 .* got 26: disable some"),
        ({"profiles": ()}, r"default_profile must be one of \[\], got 'cpu'"),
        ({"default_profile": "gpu"}, r"default_profile must be one of \['cpu', 'gpu-24gb'\], got 'gpu'"),
        ({"spot_max_vcpus": 3}, "spot_max_vcpus must be at least 4, .* profile 'cpu', got 3"),
        ({"spot_max_vcpus": 100_001}, "spot_max_vcpus must be 1 to 100000 .* got 100001"),
        ({"spot_max_vcpus": 64.5}, "spot_max_vcpus must be .* a whole number, got 64.5"),
        ({"spot_max_vcpus": "64"}, "a whole number, got '64'"),
        ({"on_demand_max_vcpus": 0}, "on_demand_max_vcpus must be 1 to 100000 .* got 0"),
        ({"profiles": (CPU, GPU_80GB_X8), "spot_max_vcpus": 96}, "on_demand_max_vcpus must be at least 96"),
        ({"teams": ()}, "teams must be 1 to 500 .* got 0"),
        ({"teams": teams(501)}, "teams must be 1 to 500 .* got 501"),
        ({"teams": ("a", "a")}, "teams must name each once, got a more than once"),
        ({"teams": ("ml-research",)}, "share identifiers take no punctuation.* got 'ml-research'"),
        ({"data_prefixes": ("s3://bucket/data",)}, "ending with a slash .* got 's3://bucket/data'"),
        ({"data_prefixes": ("s3://bucket/*/",)}, "without wildcards"),
        ({"data_prefixes": ("s3://bucket/a/", "s3://bucket/a/")}, "data_prefixes must name each once, got s3://bucket"),
        ({"secret_arns": ("hunter2",)}, "secret_arns must be whole ARNs"),
        ({"secret_arns": (SECRET[:-7],)}, "with the suffix of six characters"),
        ({"secret_arns": (SECRET[:-6] + "*",)}, "without wildcards"),
        ({"secret_arns": (SECRET.replace("hub", "?ub"),)}, "without wildcards"),
        (
            {"secret_arns": (SECRET.replace("us-east-1", "eu-west-1"),)},
            "of region 'us-east-1', .* got one of 'eu-west-1'",
        ),
        ({"secret_arns": (SECRET, SECRET)}, "secret_arns must name each once"),
        ({"image_repositories": ("team/trainer:latest",)}, "registry, tag or digest, got 'team/trainer:latest'"),
        ({"image_repositories": ("https://team/trainer",)}, "without scheme, registry"),
        ({"image_repositories": ("registry.example.com/trainer",)}, "without scheme, registry"),
        ({"image_repositories": ("Trainer",)}, "must be ECR repository names"),
        ({"image_repositories": ("trainer/",)}, "must be ECR repository names"),
        ({"image_repositories": ("trainer", "trainer")}, "image_repositories must name each once"),
        ({"image_builder": "laptop"}, "image_builder must be 'docker' or 'codebuild', got 'laptop'"),
        ({"trainer_images": {"tpu": IMAGE}}, r"trainer_images must name variants of \('cpu', 'gpu'\), got 'tpu'"),
        (
            {"trainer_images": {"cpu": IMAGE.partition("@")[0] + ":latest"}},
            r"'cpu'\] must be ACCOUNT.* a tag may point",
        ),
        ({"trainer_images": {"cpu": IMAGE[:-1]}}, "copy what `make image ENV=dev VARIANT=cpu` prints"),
        ({"trainer_images": {"gpu": "python@sha256:" + "a" * 64}}, r"trainer_images\['gpu'\] must be ACCOUNT.dkr.ecr"),
        ({"trainer_images": {"gpu": IMAGE.replace("us-east-1", "eu-west-1")}}, "of region 'us-east-1', .* 'eu-west-1'"),
        ({"permissions_boundary_arn": "boundary"}, "permissions_boundary_arn must be the ARN .* got 'boundary'"),
        ({"permissions_boundary_arn": "arn:aws:iam::123456789012:role/x"}, "must be the ARN of a managed policy"),
        ({"permissions_boundary_arn": "arn:aws:iam::123456789012:policy/*"}, "must be the ARN of a managed policy"),
        ({"github_subject": "repo:acme/ml:*"}, "without wildcards, .* got 'repo:acme/ml:\\*'"),
        ({"github_subject": "repo:acme/*:environment:prod"}, "github_subject must be"),
        ({"github_subject": "repo:acme/ml:ref:refs/heads/main"}, "only an environment of GitHub can ask for approval"),
        ({"github_subject": "repo:acme/ml:pull_request"}, "github_subject must be"),
        ({"github_subject": "acme/ml"}, "github_subject must be"),
        ({"max_attempt_seconds": 59}, "max_attempt_seconds must be 60 to 432000 .* got 59"),
        ({"max_attempt_seconds": 432001}, "got 432001"),
        ({"max_attempt_seconds": 3600.0}, "a whole number, got 3600.0"),
        ({"runnable_limit_seconds": 599}, "runnable_limit_seconds must be 600 to 86400 .* got 599"),
        ({"runnable_limit_seconds": 86401}, "got 86401"),
        ({"log_retention": 30}, "log_retention must be one of logs.RetentionDays.* got 30"),
        ({"is_protected": "no"}, "is_protected must be True or False, got 'no'"),
        ({"is_protected": 0}, "is_protected must be True or False, got 0"),
        ({"has_own_key": "alias/mine"}, "has_own_key must be True or False, got 'alias/mine'"),
        ({"team_caps": {"sales": Caps()}}, r"team_caps must name teams of \('research',\), got 'sales': add the team"),
        ({"team_caps": {"research": Caps(total_usd="1,0")}}, r"team_caps\['research'\].total_usd must be .* got '1,0'"),
        (
            {"total_cap_usd_per_month": "100"},
            "without the prices of g5.16xlarge, .* leased .*'gpu-24gb'",
        ),
        ({"team_caps": {"research": Caps(total_usd="1")}}, "a total cap is set, and without the prices"),
        ({"on_demand_prices_usd": {"m5.xlrage": "1"}}, "must name types of the table in .* got 'm5.xlrage'"),
        ({"on_demand_prices_usd": {"m5.xlarge": 0.192}}, r"on_demand_prices_usd\['m5.xlarge'\] must be .* got 0.192"),
        ({"on_demand_prices_usd": {"m5.xlarge": "0.00"}}, "must be above 0: no instance is free"),
        ({"fallback_after_seconds": 299}, "fallback_after_seconds must be 300 to 604800 .* got 299"),
        ({"segment_seconds": 899}, "segment_seconds must be 900 to 432000 .* got 899"),
        ({"segment_seconds": 3600.0}, "a whole number, got 3600.0"),
        ({"standby_after_seconds": 86401}, "standby_after_seconds must be 300 to 86400 .* got 86401"),
        ({"standby_age_seconds": 59}, "standby_age_seconds must be 60 to 86400 .* got 59"),
        ({"standby_patience_seconds": True}, "standby_patience_seconds must be .* got True"),
        ({"budget_alert_emails": ("nobody",)}, "budget_alert_emails must be e-mail addresses, got 'nobody'"),
        ({"budget_alert_emails": ("a@b.org", "a@b.org")}, "budget_alert_emails must name each once"),
        ({"budget_alert_emails": tuple(f"a{n}@b.org" for n in range(11))}, "at most 10 .* got 11: name a mailing list"),
        ({"budget_alert_emails": ("a@b.org",), "fallback_cap_usd_per_month": "0"}, "needs a cap above .0 to alert of"),
    ],
)
def test_an_environment_that_cannot_work_is_refused_with_field_rule_and_value(
    change: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        replace(DEV, **change).check()


NOT_MONEY: list[Any] = [
    "10,00", "-1", "+1", "1e3", "1e308", "NaN", "inf", "", " 5", "5 ", "$5", "5.", ".5", "0.1234567", "10000000.01",
    "\u0665", 5, 5.0, True, 1e308, float("nan"), float("inf"), Decimal(5),
]  # fmt: skip


@pytest.mark.parametrize("value", NOT_MONEY, ids=repr)
@pytest.mark.parametrize("cap", ["fallback_cap_usd_per_month", "total_cap_usd_per_month"])
def test_what_is_no_plain_amount_of_dollars_is_refused(cap: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"Environment.{cap} must be US dollars as text .* such as '20'"):
        replace(DEV, **{cap: value}).check()


@pytest.mark.parametrize("value", ["0", "20", "12.50", "0.000001", "10000000"])
def test_the_control_plane_reads_every_amount_that_the_settings_take(value: str) -> None:
    replace(DEV, fallback_cap_usd_per_month=value).check()
    assert check_microusd(parse_usd(value)) == Decimal(value) * 1_000_000
    assert MAX_USD == money.MAX_USD


def test_prices_that_the_operator_states_come_before_the_table_and_a_type_without_a_price_is_absent() -> None:
    settings = replace(DEV, on_demand_prices_usd={"g5.xlarge": "2"})

    assert settings.prices_of(GPU_24GB) == {
        "g5.xlarge": "2",
        "g5.2xlarge": "1.212",
        "g6.xlarge": "0.8048",
        "g6.2xlarge": "0.9776",
    }
    assert settings.prices_of(CPU) == {}


def test_in_a_region_without_a_table_no_price_is_known() -> None:
    settings = replace(DEV, region="eu-north-1", availability_zones=("eu-north-1a", "eu-north-1b"))

    assert settings.prices_of(GPU_24GB) == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": "GPU"}, "Profile.name must be"),
        ({"vcpus": 0}, "Profile.vcpus must be 1 to 1024 .* got 0"),
        ({"vcpus": True}, "Profile.vcpus must be .* a whole number, got True"),
        ({"vcpus": 5}, "Profile.vcpus must be at most 4, what g5.xlarge in Profile.spot_.* got 5"),
        ({"memory_mib": 14337}, "Profile.memory_mib must be at most 14336, what g5.xlarge in .* got 14337: lower it"),
        ({"gpus": -1}, "Profile.gpus must be 0 to 16 .* got -1"),
        ({"gpus": 2}, "one class, 2 GPUs of 22888 MiB .* g5.xlarge has 1 of 22888"),
        ({"gpu_memory_mib": 16384}, "one class, 1 GPUs of 16384 MiB .* g5.xlarge has 1 of 22888"),
        ({"shared_memory_mib": 14336}, r"shared_memory_mib must be 64 to 14335 \(below memory_mib\)"),
        ({"root_volume_gib": 29}, "root_volume_gib must be 30 to 16384 .* got 29"),
        ({"spot_instance_types": ()}, "spot_instance_types must name at least 2 instance types"),
        ({"spot_instance_types": ("g5.xlarge",)}, r"must name at least 2 instance types, got \('g5.xlarge',\)"),
        ({"spot_instance_types": ("g5.xlarge", "optimal")}, "got 'optimal': .*families and 'optimal' are no types"),
        ({"spot_instance_types": ("g5.xlarge", "g5")}, "types of the table in stacks/instance_types.py, got 'g5'"),
        ({"spot_instance_types": ("g5.xlarge", "g5.xlrage")}, "got 'g5.xlrage': add its row"),
        ({"spot_instance_types": ("g5.xlarge", "g6e.xlarge")}, "g6e.xlarge has 1 of 45776: move it to a profile"),
        ({"spot_instance_types": ("g5.xlarge", "g5.12xlarge")}, "g5.12xlarge has 4 of 22888"),
        ({"spot_instance_types": ("g5.xlarge", "m7i.xlarge")}, "m7i.xlarge has 0 of 0"),
        (
            {"spot_instance_types": ("g5.xlarge", "m7g.xlarge")},
            "architecture x86_64, .* m7g.xlarge is arm64: remove it",
        ),
        ({"on_demand_instance_types": ()}, "on_demand_instance_types must name at least 1 instance types"),
        ({"on_demand_instance_types": ("g6e.xlarge",)}, "on_demand_instance_types must be of one class"),
        ({"on_demand_instance_types": ("g5.xlarge", "g5.xlarge")}, "must name each once, got g5.xlarge"),
    ],
)
def test_a_profile_that_cannot_work_is_refused_with_field_rule_and_value(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        replace(GPU_24GB, **change)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"alarms": ("me@example.com",)},
            r"Environment.alarms must be AlarmSettings\(…\), got \('me@example.com',\): name its fields, emails, urls",
        ),
        (
            {"teams": "research"},
            r"Environment.teams must be a tuple, \('…',\), got 'research': a tuple of one has a comma",
        ),
        ({"teams": ["research"]}, r"Environment.teams must be a tuple, \('…',\), got \['research'\]$"),
        ({"teams": (1,)}, "Environment.teams must be text, '…', got 1"),
        ({"profiles": CPU}, r"Environment.profiles must be a tuple, \(Profile\(…\),\), got Profile.*: a tuple of one"),
        ({"profiles": ("cpu",)}, r"Environment.profiles must be Profile\(…\), got 'cpu': name its fields, name, vcpus"),
        ({"trainer_images": IMAGE}, "Environment.trainer_images must be a mapping, {'…': '…'}, got '1234"),
        ({"trainer_images": {"cpu": None}}, "Environment.trainer_images must be text, '…', got None"),
        (
            {"team_caps": {"research": "20"}},
            r"Environment.team_caps must be Caps\(…\), got '20': name its fields, fall",
        ),
        ({"game_day": True}, r"Environment.game_day must be GameDay\(…\), got True"),
        ({"region": None}, "Environment.region must be text, '…', got None"),
    ],
)
def test_a_setting_of_another_type_is_refused_with_the_form_that_it_has(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        replace(DEV, **change).check()


def test_nested_settings_say_their_own_name() -> None:
    slip: Any = "me@example.com"
    with pytest.raises(
        ValueError, match=r"AlarmSettings.emails must be a tuple, \('…',\), got 'me@example.com': a tuple"
    ):
        AlarmSettings(emails=slip)


@pytest.mark.parametrize("secrets", [("correct-horse-battery-staple",), "correct-horse-battery-staple"])
def test_a_refused_secret_is_not_repeated_in_the_message(secrets: Any) -> None:
    with pytest.raises(ValueError, match="secret_arns") as refusal:
        replace(DEV, secret_arns=secrets).check()

    assert "battery" not in str(refusal.value)


@pytest.mark.parametrize(
    "change",
    [
        {"max_attempt_seconds": 60, "runnable_limit_seconds": 600},
        {"max_attempt_seconds": 432000, "runnable_limit_seconds": 86400},
        {"data_prefixes": ("s3://bucket/", "s3://bucket/a/b/")},
        {"secret_arns": (SECRET, SECRET.replace("hub", "lab"))},
        {"image_repositories": ("trainer", "team/trainer", "a.b", "team/sub-team/a__b.c")},
        {"image_builder": "codebuild", "trainer_images": {"cpu": IMAGE, "gpu": IMAGE.replace("images", "team/shared")}},
        {"permissions_boundary_arn": "arn:aws:iam::123456789012:policy/team/boundary"},
        {"github_subject": "repo:acme/ml:environment:prod"},
        {"github_subject": "repo:acme@123456/ml.ops@456789:environment:prod-eu"},
        {"github_subject": "repo:acme-123456/ml-456789:environment:prod"},
        {"spot_max_vcpus": 100_000, "on_demand_max_vcpus": 4},
        {"fallback_after_seconds": 300, "segment_seconds": 900, "standby_after_seconds": 300},
        {"standby_age_seconds": 60, "standby_patience_seconds": 600},
        {"fallback_cap_usd_per_month": "0", "budget_alert_emails": ()},
        {"team_caps": {"research": Caps(fallback_usd="0.50", total_usd=None)}},
        {
            "profiles": (CPU,),
            "total_cap_usd_per_month": "0",
            "team_caps": {"research": Caps(total_usd="1")},
            "training": None,
        },
        {"budget_alert_emails": tuple(f"first.last+{n}@sub.example.org" for n in range(10))},
        {"profiles": profiles(25)},
        {"teams": teams(500)},
        {"region": "eu-west-1", "availability_zones": ZONES},
        {"region": "us-gov-west-1", "availability_zones": ("us-gov-west-1a", "us-gov-west-1b")},
        {"region": "ap-southeast-2", "availability_zones": ("ap-southeast-2a", "ap-southeast-2c")},
    ],
)
def test_the_limits_themselves_are_allowed(change: dict[str, Any]) -> None:
    replace(DEV, **change).check()


def test_a_job_leaves_an_eighth_of_the_memory_to_the_host_more_than_aws_measures_and_advises() -> None:
    for instance in INSTANCE_TYPES.values():
        kernel = instance.memory_mib * (8192 - 7985) / 8192
        advised = instance.memory_mib * 0.05

        assert memory_for_a_job_mib(instance) == instance.memory_mib * 7 / 8
        assert memory_for_a_job_mib(instance) <= instance.memory_mib - kernel - advised
