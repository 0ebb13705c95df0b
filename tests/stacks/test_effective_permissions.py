"""What jobs may do to bucket, ledger and key when the policies of role and resource are evaluated together."""

from typing import Any

import pytest

from spotkeeper.contract.budgets import budget_partition
from spotkeeper.contract.ledger import instance_partition, run_partition
from tests.stacks.iam_evaluation import Request, Statement, is_allowed
from tests.stacks.synthesized import ACCOUNT, REGION, Assembly

BUCKET = f"arn:aws:service:{REGION}:{ACCOUNT}:Checkpoints620E2F20.Arn"
LEDGER = f"arn:aws:service:{REGION}:{ACCOUNT}:LedgerB7379752.Arn"

COMMIT = "commit/mine/000002-000000000100.json"
EPOCH = "epoch/mine/000002"
DATA = "data/mine/e000002-s000000000100-a1b2/r0.safetensors"
SOURCE = "source/9f86d081.tar.gz"
MIRROR = "mirror/mine/model.pt"

HTTPS = {"aws:SecureTransport": "true", "s3:TlsVersion": "1.3"}
CREATES = {**HTTPS, "s3:ObjectCreationOperation": "true"}
CREATES_ONLY_IF_ABSENT = {**CREATES, "s3:if-none-match": "*"}
SENDS_A_PART = {**HTTPS, "s3:ObjectCreationOperation": "false"}

EVERYTHING: Statement = {"Effect": "Allow", "Action": "*", "Resource": "*"}
"""AdministratorAccess, which somebody attaches in an emergency and forgets."""


def job_role(assembly: Assembly) -> list[Statement]:
    policy = assembly.one("batch", "AWS::IAM::Policy", "JobRole")
    assert "JobRole" in str(policy["Roles"])
    statements: list[Statement] = assembly.resolved("batch", policy["PolicyDocument"]["Statement"])
    return statements


def bucket_policy(assembly: Assembly) -> list[Statement]:
    policy = assembly.one("storage", "AWS::S3::BucketPolicy")
    statements: list[Statement] = assembly.resolved("storage", policy["PolicyDocument"]["Statement"])
    return statements


def job_may(assembly: Assembly, action: str, key: str, context: Any, *more: Statement) -> bool:
    request = Request(action=f"s3:{action}", resource=f"{BUCKET}/{key}" if key else BUCKET, context=context)
    return is_allowed(request, [*job_role(assembly), *more], bucket_policy(assembly))


@pytest.mark.parametrize(
    ("action", "key", "context"),
    [
        ("PutObject", DATA, CREATES),
        ("PutObject", DATA, SENDS_A_PART),
        ("PutObject", COMMIT, CREATES_ONLY_IF_ABSENT),
        ("PutObject", COMMIT, SENDS_A_PART),
        ("PutObject", EPOCH, CREATES_ONLY_IF_ABSENT),
        *(("GetObject", key, HTTPS) for key in (DATA, COMMIT, EPOCH, SOURCE)),
        *(("DeleteObject", key, HTTPS) for key in (DATA, COMMIT)),
        ("AbortMultipartUpload", DATA, HTTPS),
        ("ListBucket", "", HTTPS),
    ],
)
def test_a_job_may_do_what_its_checkpoints_need(
    any_environment: Assembly, action: str, key: str, context: dict[str, str]
) -> None:
    assert job_may(any_environment, action, key, context)


@pytest.mark.parametrize(
    ("action", "key", "context"),
    [
        # Outside of the four kinds of key that are its own.
        *(("PutObject", key, CREATES_ONLY_IF_ABSENT) for key in (SOURCE, MIRROR, "other/x", "x", "Data/x")),
        *(("GetObject", key, HTTPS) for key in (MIRROR, "other/x")),
        *(("DeleteObject", key, HTTPS) for key in (EPOCH, SOURCE, MIRROR)),
        # Around TLS.
        ("GetObject", DATA, {"aws:SecureTransport": "false"}),
        ("GetObject", DATA, {**HTTPS, "s3:TlsVersion": "1.1"}),
        # Around the policies.
        ("PutObjectAcl", DATA, HTTPS),
        ("PutObjectTagging", DATA, HTTPS),
        ("PutEncryptionConfiguration", "", HTTPS),
        ("DeleteBucket", "", HTTPS),
    ],
)
def test_a_job_may_do_nothing_beside(any_environment: Assembly, action: str, key: str, context: dict[str, str]) -> None:
    assert not job_may(any_environment, action, key, context)


@pytest.mark.parametrize("key", [COMMIT, EPOCH, SOURCE])
def test_nobody_overwrites_a_manifest_an_epoch_or_a_source_however_much_he_may(
    any_environment: Assembly, key: str
) -> None:
    assert not job_may(any_environment, "PutObject", key, CREATES, EVERYTHING)
    assert job_may(any_environment, "PutObject", key, CREATES_ONLY_IF_ABSENT, EVERYTHING)


def test_sagemakers_mirror_is_outside_of_the_rule_because_it_overwrites(any_environment: Assembly) -> None:
    request = Request(action="s3:PutObject", resource=f"{BUCKET}/{MIRROR}", context=CREATES)

    assert is_allowed(request, [EVERYTHING], bucket_policy(any_environment))


@pytest.mark.parametrize(
    ("action", "key"),
    [
        *(("DeleteObjectVersion", key) for key in (DATA, COMMIT, EPOCH, SOURCE, MIRROR)),
        ("PutLifecycleConfiguration", ""),
        ("PutBucketVersioning", ""),
        ("PutBucketPolicy", ""),
        ("DeleteBucketPolicy", ""),
    ],
)
def test_a_job_never_deletes_a_version_however_much_is_attached_to_its_role(
    any_environment: Assembly, action: str, key: str
) -> None:
    assert not job_may(any_environment, action, key, HTTPS)
    assert not job_may(any_environment, action, key, HTTPS, EVERYTHING)


@pytest.mark.parametrize("function", ["ObserveJob", "SweepRuns"])
@pytest.mark.parametrize(
    ("action", "key", "expected"),
    [
        ("DeleteObject", f"mirror/mine/{COMMIT}", True),
        ("DeleteObject", f"mirror/mine/{DATA}", True),
        *(("DeleteObject", f"mirror/mine/{key}", False) for key in ("completion/mine.json", EPOCH, "model.pt")),
        *(("DeleteObject", key, False) for key in (COMMIT, DATA, EPOCH, SOURCE, "mirrors/mine/" + DATA)),
        *((action, f"mirror/mine/{DATA}", False) for action in ("DeleteObjectVersion", "PutObject", "GetObject")),
    ],
)
def test_who_moves_runs_takes_old_checkpoints_out_of_mirrors_and_nothing_else_from_the_bucket(
    dev: Assembly, function: str, action: str, key: str, expected: bool
) -> None:
    policy = dev.one("recovery", "AWS::IAM::Policy", f"{function}Role")
    statements = dev.resolved("recovery", policy["PolicyDocument"]["Statement"])
    request = Request(action=f"s3:{action}", resource=f"{BUCKET}/{key}", context=HTTPS)

    assert is_allowed(request, statements, bucket_policy(dev)) is expected


@pytest.mark.parametrize(("action", "context"), [("PutObject", CREATES), ("GetObject", HTTPS), ("DeleteObject", HTTPS)])
def test_iam_does_not_tell_runs_apart_as_the_decision_says(
    any_environment: Assembly, action: str, context: dict[str, str]
) -> None:
    """The limit of docs/decisions/0010-one-job-role.md: should this fail, the page promises too little."""
    assert job_may(any_environment, action, DATA.replace("mine", "another"), context)


@pytest.mark.parametrize(
    ("action", "leading_keys", "expected"),
    [
        ("UpdateItem", [run_partition("mine")], True),
        ("GetItem", [run_partition("mine")], True),
        ("UpdateItem", [budget_partition("run/mine")], False),
        ("UpdateItem", [instance_partition("i-0abc")], False),
        ("UpdateItem", [run_partition("mine"), budget_partition("run/mine")], False),
        ("UpdateItem", [], False),
        ("PutItem", [run_partition("mine")], False),
        ("DeleteItem", [run_partition("mine")], False),
        ("Query", [run_partition("mine")], False),
        ("DeleteTable", [], False),
    ],
)
def test_a_job_updates_items_of_runs_and_nothing_else_of_the_ledger(
    any_environment: Assembly, action: str, leading_keys: list[str], expected: bool
) -> None:
    context = {"dynamodb:LeadingKeys": leading_keys}
    request = Request(action=f"dynamodb:{action}", resource=LEDGER, context=context)

    assert is_allowed(request, job_role(any_environment)) is expected


@pytest.mark.parametrize(
    ("action", "account", "service", "expected"),
    [
        ("kms:Decrypt", ACCOUNT, "s3", True),
        ("kms:GenerateDataKey", ACCOUNT, "s3", True),
        ("kms:Decrypt", ACCOUNT, "dynamodb", True),
        ("kms:Decrypt", ACCOUNT, "secretsmanager", False),
        ("kms:Decrypt", ACCOUNT, None, False),
        ("kms:Decrypt", "999999999999", "s3", False),
        ("kms:ScheduleKeyDeletion", ACCOUNT, "s3", False),
        ("kms:DisableKey", ACCOUNT, None, False),
    ],
)
def test_the_key_opens_what_the_bucket_opens_and_only_through_the_bucket(
    prod: Assembly, action: str, account: str, service: str | None, expected: bool
) -> None:
    policy = prod.resolved("storage", prod.one("storage", "AWS::KMS::Key")["KeyPolicy"]["Statement"])
    via = {"kms:ViaService": f"{service}.{REGION}.amazonaws.com"} if service else {}
    request = Request(action=action, resource="the key", context={"kms:CallerAccount": account, **via})

    assert is_allowed(request, job_role(prod), policy) is expected


# The evaluation itself


@pytest.mark.parametrize(
    ("condition", "context", "expected"),
    [
        ({"StringEquals": {"k": ["a", "b"]}}, {"k": "b"}, True),
        ({"StringEquals": {"k": "a"}}, {}, False),
        ({"StringEquals": {"k": "a*"}}, {"k": "ab"}, False),
        ({"StringLike": {"k": "a?c*"}}, {"k": "abcd"}, True),
        ({"StringLike": {"k": "a[b]"}}, {"k": "ab"}, False),
        ({"Null": {"k": "true"}}, {}, True),
        ({"Null": {"k": "true"}}, {"k": "x"}, False),
        ({"Null": {"k": "false"}}, {"k": []}, False),
        ({"Bool": {"k": "true"}}, {"k": "false"}, False),
        ({"ForAllValues:StringLike": {"k": "a*"}}, {"k": ["a1", "b1"]}, False),
        ({"ForAllValues:StringLike": {"k": "a*"}}, {}, True),
        ({"NumericLessThan": {"k": 1.2}}, {"k": "1.1"}, True),
        ({"NumericLessThan": {"k": 1.2}, "Bool": {"j": "true"}}, {"k": "1.1"}, False),
    ],
)
def test_conditions_hold_as_iam_documents_them(
    condition: dict[str, Any], context: dict[str, Any], expected: bool
) -> None:
    statement = {"Effect": "Allow", "Action": "s3:get*", "Resource": "a/*", "Condition": condition}

    assert is_allowed(Request(action="s3:GetObject", resource="a/b/c", context=context), [statement]) is expected


@pytest.mark.parametrize(
    "change", [{"Condition": {"StringNotLike": {"k": "a"}}}, {"NotResource": "x"}, {"Condition": {"Foo:Bool": {}}}]
)
def test_what_the_evaluation_does_not_know_is_refused(change: dict[str, Any]) -> None:
    statement = {**EVERYTHING, **change}
    if "Condition" in change:
        statement["Condition"] = {operator: {"k": "a"} for operator in change["Condition"]}

    with pytest.raises(NotImplementedError):
        is_allowed(Request(action="s3:GetObject", resource="a"), [statement])
