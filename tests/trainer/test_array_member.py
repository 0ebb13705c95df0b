"""A child of an array job: the run is told by its index, and its own variables come with the claim."""

import json
from pathlib import Path

import boto3
import pytest

from spotkeeper.contract.exit_codes import EXIT_COMPLETED, EXIT_REFUSED
from spotkeeper.contract.ledger import RUN_SORT_KEY, run_partition
from spotkeeper.trainer.array_member import as_member, is_member
from spotkeeper.trainer.attempt_ledger import AttemptLedger, ClaimRefusedError
from spotkeeper.trainer.attempt_settings import Claim
from tests.trainer.conftest import clean_environ
from tests.trainer.run_ledger import JOB, RunLedger
from tests.trainer.test_exec import answering, python, run_exec

CHILD = {"SPOTKEEPER_SWEEP": "lr", "AWS_BATCH_JOB_ARRAY_INDEX": "7"}


@pytest.mark.parametrize(
    ("environ", "run_id"),
    [
        ({"SPOTKEEPER_RUN_ID": "tiny"}, "tiny"),
        (CHILD, "lr-0007"),
        ({**CHILD, "AWS_BATCH_JOB_ARRAY_INDEX": "9999"}, "lr-9999"),
        ({**CHILD, "SPOTKEEPER_RUN_ID": "tiny"}, "tiny"),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "7"}, None),
        ({}, None),
    ],
)
def test_the_run_is_the_one_that_is_named_or_the_member_of_the_index(
    environ: dict[str, str], run_id: str | None
) -> None:
    assert as_member(environ).get("SPOTKEEPER_RUN_ID") == run_id
    assert is_member(environ) == (run_id is not None and run_id.startswith("lr-"))


@pytest.mark.parametrize(
    "changes",
    [
        {"AWS_BATCH_JOB_ARRAY_INDEX": ""},
        {"AWS_BATCH_JOB_ARRAY_INDEX": "-1"},
        {"AWS_BATCH_JOB_ARRAY_INDEX": "٣"},
        {"SPOTKEEPER_SWEEP": "L R"},
    ],
)
def test_an_index_or_a_name_of_another_form_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        as_member({**CHILD, **changes})
    done = run_exec(["true"], clean_environ(**{**CHILD, **changes}))
    assert done.code == EXIT_REFUSED, done.output


def test_a_child_claims_its_members_run_and_gives_the_program_that_members_variables(
    aws: dict[str, str], tmp_path: Path
) -> None:
    ledger = RunLedger("ledger-of-members")
    client = boto3.client("dynamodb")
    for index in (6, 7):
        client.put_item(
            TableName=ledger.table,
            Item={
                "pk": {"S": run_partition(f"lr-000{index}")},
                "sk": {"S": RUN_SORT_KEY},
                "state": {"S": "submitting"},
                "submission": {"N": "1"},
                "epoch": {"N": "0"},
                "version": {"N": "1"},
                "variables": {"M": {"LR": {"S": f"0.{index}"}, "MODEL": {"S": "small"}}},
            },
        )
    told = tmp_path / "told.json"
    names = ("LR", "MODEL", "SPOTKEEPER_RUN_ID", "SPOTKEEPER_EPOCH")
    environ = clean_environ(
        **aws,
        **CHILD,
        MODEL="small",
        SPOTKEEPER_LEDGER_TABLE=ledger.table,
        SPOTKEEPER_URI="s3://checkpoints",
        SPOTKEEPER_SUBMISSION="1",
        AWS_BATCH_JOB_ID=f"{JOB}:7",
        AWS_BATCH_JOB_ATTEMPT="1",
    )

    done = run_exec(
        python(f"import json, os; json.dump([os.environ[n] for n in {names}], open({str(told)!r}, 'w'))"), environ
    )

    assert done.code == EXIT_COMPLETED, done.output
    assert json.loads(told.read_text()) == ["0.7", "small", "lr-0007", "1"]
    key = {"pk": {"S": run_partition("lr-0007")}, "sk": {"S": RUN_SORT_KEY}}
    run = client.get_item(TableName=ledger.table, Key=key)["Item"]
    assert (run["job_id"]["S"], run["state"]["S"], "completion" in run) == (f"{JOB}:7", "running", True)


CLAIM = Claim(table="ledger", submission=1, job_id=JOB, attempt=1)
REFUSED = {"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"}


def test_a_run_that_the_ledger_does_not_know_yet_is_waited_for(
    aws: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert aws
    with answering([(400, REFUSED), (400, REFUSED), (200, {"Attributes": {"epoch": {"N": "1"}}})]) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)

        assert AttemptLedger("tiny", CLAIM).claim().epoch == 1


def test_a_run_that_the_ledger_never_knows_is_refused_in_the_end(
    aws: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert aws
    with answering([(400, REFUSED)]) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)

        with pytest.raises(ClaimRefusedError):
            AttemptLedger("tiny", CLAIM, patience_seconds=0.1).claim()


def test_a_run_that_belongs_to_another_is_refused_at_once(aws: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert aws
    with answering([(400, {**REFUSED, "Item": {"submission": {"N": "2"}}})]) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)

        with pytest.raises(ClaimRefusedError):
            AttemptLedger("tiny", CLAIM).claim()


def test_a_completion_that_is_refused_is_not_waited_for(aws: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert aws
    with answering([(400, REFUSED)]) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)

        with pytest.raises(ClaimRefusedError):
            AttemptLedger("tiny", CLAIM).record_completion(1, None)
