"""Submissions that AWS refuses or does not answer, or that the user breaks off: the run can always be named."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from typer.testing import CliRunner

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.aws.batch import SUBMIT_CONFIG, AWSBatch
from spotkeeper.control.ports import Refused
from spotkeeper.ops.cli import app
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.failure import OperationError
from spotkeeper.ops.plan import Plan, Request
from spotkeeper.ops.submission import prepare, submit
from tests.control.fakes import NOW
from tests.control.mocked_aws import REGION
from tests.ops.intercepted import intercepted

Answer = Callable[[], Any]
"""What botocore is given instead of sending a call: a reply, an exception, or None to send it."""


def answering(environment: Connection, *answers: Answer) -> Connection:
    """Return the environment with answers of its own to the first calls of SubmitJob."""
    client = boto3.client("batch", region_name=REGION, config=SUBMIT_CONFIG)
    remaining: Iterator[Answer] = iter(answers)
    client.meta.events.register("before-call.batch.SubmitJob", lambda **_: next(remaining, lambda: None)())
    return replace(environment, batch=AWSBatch(environment.batch_client, client))


def error(code: str, status: int) -> Any:
    """Return an error as botocore takes it from a handler."""
    body = {"Error": {"Code": code, "Message": "words of AWS"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return SimpleNamespace(status_code=status), body


def unreachable() -> Any:
    raise EndpointConnectionError(endpoint_url="https://batch.us-east-1.amazonaws.com")


def no_pause(_: float) -> None:
    raise AssertionError("nothing to wait for")


def planned(environment: Connection) -> Plan:
    request = Request(command=("python", "-c", "1"))
    return prepare(request, connection=environment, source_directory=None, suffix="0a1b2c", now=NOW)


@pytest.mark.parametrize(
    ("code", "state"),
    [
        ("ClientException", RunState.FAILED),
        ("UnrecognizedClientException", RunState.FAILED),
    ],
)
def test_a_run_whose_job_is_refused_is_named_and_has_the_words(
    environment: Connection, code: str, state: RunState
) -> None:
    connection = answering(environment, lambda: error(code, 403))
    announced: list[str] = []

    with pytest.raises(Refused, match="words of AWS"):
        submit(planned(environment), connection=connection, now=NOW, pause=no_pause, announce=announced.append)

    assert announced == ["python-0a1b2c"]
    run = environment.run_of("python-0a1b2c")
    assert run.state is state
    assert "words of AWS" in str(run.reason)


def test_who_may_not_submit_is_told_that_the_run_is_recorded_and_that_the_sweeper_goes_on_with_it(
    environment: Connection,
) -> None:
    connection = answering(environment, lambda: error("AccessDeniedException", 403))

    with pytest.raises(
        OperationError, match=r"your AWS role may not submit its job: the sweeper does so .*words of AWS"
    ):
        submit(planned(environment), connection=connection, now=NOW, pause=no_pause)

    assert environment.run_of("python-0a1b2c").state is RunState.SUBMITTING


@pytest.mark.parametrize("answer", [unreachable, lambda: error("TooManyRequestsException", 429)])
def test_a_short_outage_is_overcome(environment: Connection, answer: Answer) -> None:
    pauses: list[float] = []

    run = submit(planned(environment), connection=answering(environment, answer, answer), now=NOW, pause=pauses.append)

    assert (run.state, pauses) == (RunState.SUBMITTED, [1, 2])


def test_a_long_outage_ends_with_the_run_named_and_what_to_do(environment: Connection) -> None:
    connection = answering(environment, *[unreachable] * 5)
    pauses: list[float] = []

    with pytest.raises(OperationError) as refusal:
        submit(planned(environment), connection=connection, now=NOW, pause=pauses.append)

    assert pauses == [1, 2, 4, 8]
    assert "run python-0a1b2c is recorded, but AWS did not confirm its job" in str(refusal.value)
    assert "`spotkeeper cancel python-0a1b2c` and submit again (Could not connect" in str(refusal.value)


def test_the_id_of_a_recorded_run_is_printed_even_if_the_user_breaks_off(environment: Connection) -> None:
    def break_off(**_: Any) -> None:
        raise KeyboardInterrupt

    with intercepted("batch.SubmitJob", break_off):
        result = CliRunner().invoke(app, ["submit", "--", "python", "-c", "1"])

    (run,) = environment.ledger.list_runs("open", 10)
    assert result.exit_code != 0
    assert result.stdout == f"{run.run_id}\n"
    assert f"`spotkeeper cancel {run.run_id}`" in result.stderr


def test_what_fails_before_the_run_is_recorded_names_no_run(environment: Connection) -> None:
    plan = planned(environment)
    gone = replace(plan, definition={"jobDefinitionName": "x" * 200, "type": "container"})
    announced: list[str] = []

    with pytest.raises(Exception, match=r"RegisterJobDefinition|jobDefinitionName"):
        submit(gone, connection=environment, now=NOW, pause=no_pause, announce=announced.append)

    assert announced == []
    assert environment.ledger.list_runs("open", 10) == ()
