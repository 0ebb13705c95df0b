"""Each alarm of the synthesized template fires on what the shipped handlers emit, and stays quiet while all is well.

Handlers run on moto and write their metrics to standard output; those are taken as emitted five minutes apart, which is
the sweeper's period. The alarms that read metrics of AWS's services are in tests/story/test_alarms.py.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from emulation.alarms.metric_alarm import ALARM, OK
from emulation.alarms.metric_data import Datum, read_embedded
from emulation.alarms.service_metrics import invocations
from emulation.alarms.watch import AlarmWatch
from emulation.aws import connect
from emulation.server import Server
from emulation.templates.assembly import Assembly
from emulation.templates.deployment import Resource
from emulation.templates.load import load
from lambdas.record_interruption.handler import handle as record_interruption
from lambdas.sweep_runs.handler import handle as sweep_runs
from spotkeeper.contract.alarms import ALARMS
from spotkeeper.contract.checkpoint_layout import manifest_key, mirror_prefix
from spotkeeper.contract.descriptor import Training
from spotkeeper.contract.ledger import LISTING_OPEN, RunState, claim_request, completion_request
from spotkeeper.contract.names import descriptor_parameter
from spotkeeper.control.listing import Position
from spotkeeper.control.run import Attempt, Lack
from spotkeeper.control.submit import submit
from spotkeeper.policy.placement import Mode
from tests.control.fakes import new_run
from tests.control.ledger_table import TABLE
from tests.control.mocked_aws import REGION
from tests.control.recorded_events import SCHEDULED
from tests.lambdas.invocation import CONTEXT, context, sqs
from tests.ops.deployed_environment import BUCKET

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from spotkeeper.ops.connection import Connection

PERIOD_MINUTES = 5
SWEEPS_AN_HOUR = 12


@pytest.fixture(scope="session")
def alarms(deployable: Callable[[str], Assembly]) -> tuple[Resource, ...]:
    """The resources of dev, as they were synthesized."""
    server = Server()
    try:
        deployment, _ = load(deployable("dev"), connect(server.endpoint_url, REGION), environment="dev")
    finally:
        server.stop()
    return deployment.resources


@dataclass
class Hour:
    """What handlers emit, minute by minute, and the alarms that follow from it."""

    environment: "Connection"
    watch: AlarmWatch
    capture: pytest.CaptureFixture[str]
    data: list[Datum] = field(default_factory=list)
    minute: int = 0

    def invoke(self, handle: Callable[..., Any], *bodies: Any, in_context: "LambdaContext" = CONTEXT) -> None:
        """Call a handler, and take what it emits as emitted at this minute."""
        self.capture.readouterr()
        handle(sqs(*bodies), in_context)
        emitted = read_embedded(self.capture.readouterr().out.splitlines())
        self.data += [replace(datum, at=60.0 * self.minute) for datum in emitted]

    def sweep(self, times: int = 1, before: Callable[[int], None] = lambda _: None) -> None:
        """Sweep so many times, five minutes apart; `before` each, something happens."""
        for number in range(times):
            before(number)
            self.invoke(sweep_runs, SCHEDULED)
            self.pass_by(PERIOD_MINUTES)

    def pass_by(self, minutes: int) -> None:
        self.minute += minutes

    @property
    def states(self) -> list[dict[str, str]]:
        """The states of the alarms at each minute, the first after the first sweep."""
        return self.watch.states(self.data, begin=0, end=60.0 * self.minute)

    @property
    def fired(self) -> set[str]:
        return {name for state in self.states for name in state if state[name] == ALARM}


@pytest.fixture
def hour(environment: "Connection", alarms: tuple[Resource, ...], capsys: pytest.CaptureFixture[str]) -> Hour:
    return Hour(environment, AlarmWatch(alarms), capsys)


def ago(minutes: float) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat(timespec="milliseconds")


def complete(environment: "Connection", run_id: str) -> str:
    """Submit a run whose job moto ends at once, and complete it as the trainer does. Return the job's id."""
    profile = environment.descriptor.profiles["cpu"]
    run = new_run(run_id, job_queue=profile.spot_queue, job_definition=profile.job_definition)
    job_id = submit(run, ports=environment.ports, now=ago(1)).job_id
    assert job_id is not None
    client = boto3.client("dynamodb", region_name=REGION)
    client.update_item(
        **claim_request(table=TABLE, run_id=run_id, submission=1, job_id=job_id, attempt=1, claimed_at=ago(1))
    )
    client.update_item(**completion_request(table=TABLE, run_id=run_id, epoch=1, step=1200, completed_at=ago(0)))
    return job_id


def hold(environment: "Connection", run_id: str, *, minutes: float, **changes: Any) -> None:
    """Record a run that an attempt has held for so long; AWS Batch does not answer for its job."""
    environment.ledger.create(
        new_run(
            run_id,
            **{
                "state": RunState.RUNNING,
                "job_id": f"job-of-{run_id}",
                "claimed_job_id": f"job-of-{run_id}",
                "claimed_attempt": 1,
                "claimed_at": ago(minutes),
                "epoch": 1,
                **changes,
            },
        )
    )


def lose_host(environment: "Connection", run_id: str, **changes: Any) -> None:
    """Record that the attempt which held the run lost its host a minute ago, three minutes after a warning."""
    facts = {
        "job_id": f"job-of-{run_id}",
        "epoch": 1,
        "claimed_at": ago(60),
        "warned_at": ago(4),
        "stopped_at": ago(1),
        "cause": "interrupted",
    }
    attempt = Attempt(run_id=run_id, submission=1, attempt=1)
    environment.ledger.record_attempt(attempt, **{**facts, **changes})


def commit(run_id: str, epoch: int = 1) -> None:
    """Commit a checkpoint at this moment."""
    key = manifest_key(run_id, epoch, 100)
    boto3.client("s3", region_name=REGION).put_object(Bucket=BUCKET, Key=key, Body=b"{}")


def wait_for_spot(environment: "Connection", run_id: str, **changes: Any) -> None:
    """Record a run that has waited for spot for a month, and goes on waiting."""
    profile = environment.descriptor.profiles["cpu"]
    environment.ledger.create(
        new_run(
            run_id,
            **{
                "state": RunState.WAITING,
                "wait_until": ago(-600),
                "dry_since": ago(30 * 24 * 60),
                "num_capacity_waits": 9,
                "lacks": Lack.CAPACITY,
                "job_id": "job-0",
                "job_queue": profile.spot_queue,
                "job_definition": profile.job_definition,
                **changes,
            },
        )
    )


def test_the_alarms_are_those_that_the_contract_names(alarms: tuple[Resource, ...]) -> None:
    named = set(AlarmWatch(alarms).states([], begin=0, end=60)[0])

    assert named == {*ALARMS, "HostsLost", "RunsStalled"}


def test_all_alarms_stay_quiet_while_runs_train_save_lose_hosts_and_finish(hour: Hour) -> None:
    def train(number: int) -> None:
        # Now and then the sweeper is faster than the event.
        if number % 6 == 0:
            complete(hour.environment, f"done-{number}")
        hold(hour.environment, f"saves-{number}", minutes=30)
        commit(f"saves-{number}")
        if number % 3 == 0:
            lose_host(hour.environment, f"saves-{number}")

    hour.sweep(2 * SWEEPS_AN_HOUR, before=train)

    assert hour.fired == set()
    assert {datum.series.name for datum in hour.data} >= {"Sweeps", "CheckpointAge", "BudgetLeft", "HostsLost"}
    assert hour.states[-1]["BudgetHeadroom"] == OK, "it is measured, and not merely unknown"


def test_sweeper_silent_fires_a_quarter_of_an_hour_after_the_last_sweep(hour: Hour) -> None:
    hour.sweep(8)
    last = hour.minute - PERIOD_MINUTES
    hour.pass_by(60)

    silent = [minute for minute, state in enumerate(hour.states, start=1) if state["SweeperSilent"] == ALARM]

    assert silent[0] == last + 15
    assert silent == list(range(last + 15, hour.minute + 1)), "and goes on"
    assert hour.fired == {"SweeperSilent"}, "what is not measured any more changes nothing else"


def test_sweeper_silent_fires_too_when_sweeps_run_out_of_time(hour: Hour) -> None:
    hour.sweep(3)
    hold(hour.environment, "one-of-many", minutes=1)
    hour.environment.ledger.keep_position(LISTING_OPEN, Position(began_at=ago(60), last=None))
    for _ in range(5):
        hour.invoke(sweep_runs, SCHEDULED, in_context=context(remaining_milliseconds=28_000))
        hour.pass_by(PERIOD_MINUTES)

    assert hour.fired == {"SweeperSilent"}


def test_what_alarms_read_is_measured_although_the_sweep_has_no_time_left(hour: Hour) -> None:
    hour.environment.ledger.create(new_run("stuck", state=RunState.PARKED, reason="no newer checkpoint"))

    for _ in range(2):
        hour.invoke(sweep_runs, SCHEDULED, in_context=context(remaining_milliseconds=45_000))
        hour.pass_by(PERIOD_MINUTES)

    assert hour.fired == {"NoProgress"}


def test_sweeper_repairing_fires_when_no_event_closes_runs_for_half_an_hour(hour: Hour) -> None:
    def finish(number: int) -> None:
        complete(hour.environment, f"done-{number}")

    hour.sweep(8, before=finish)

    assert hour.fired == {"SweeperRepairing"}


def isolate(environment: "Connection", run_id: str, *, minutes: float) -> None:
    """Record a run without network that an attempt has held for so long."""
    training = Training(role_arn="arn:aws:iam::123456789012:role/training", default_profile="sm", profiles={})
    boto3.client("ssm", region_name=REGION).put_parameter(
        Name=descriptor_parameter("dev"),
        Value=replace(environment.descriptor, training=training).to_json(),
        Type="String",
        Overwrite=True,
    )
    hold(environment, run_id, minutes=minutes, profile="sm", job_queue="sagemaker/sm/spot", is_isolated=True)


def test_mirror_stopped_fires_when_nothing_of_a_run_without_network_arrives(hour: Hour) -> None:
    isolate(hour.environment, "isolated", minutes=70)

    hour.sweep(2)

    assert hour.fired == {"MirrorStopped"}


def test_mirror_stopped_is_quiet_while_checkpoints_arrive(hour: Hour) -> None:
    isolate(hour.environment, "isolated", minutes=70)
    manifest = json.dumps({"created_at": ago(10), "objects": []}).encode()
    key = mirror_prefix("isolated") + manifest_key("isolated", 1, 100)
    boto3.client("s3", region_name=REGION).put_object(Bucket=BUCKET, Key=key, Body=manifest)

    hour.sweep(2)

    assert hour.fired == set()


def test_handler_errors_fires_when_messages_fail_again_and_again(hour: Hour) -> None:
    for _ in range(8):
        hour.invoke(record_interruption, "no event")
        hour.sweep()

    assert hour.fired == {"HandlerErrors"}


def test_handler_errors_does_not_fire_for_one_message_that_ends_in_the_dead_letters(hour: Hour) -> None:
    for minute in range(40):
        if minute in (5, 11, 17, 23, 29):  # its queue's visibility time-out is six minutes
            hour.invoke(record_interruption, "no event")
        if minute % PERIOD_MINUTES == 0:
            hour.invoke(sweep_runs, SCHEDULED)
        hour.pass_by(1)

    assert hour.fired == set()


def test_handler_errors_fires_when_a_function_times_out_at_each_invocation(
    hour: Hour, alarms: tuple[Resource, ...]
) -> None:
    (name,) = (
        resource.physical_id
        for resource in alarms
        if resource.logical_id.startswith("ObserveJobFunction") and resource.type == "AWS::Lambda::Function"
    )
    hour.sweep(7)

    hour.data += invocations(name, [(60.0 * minute, True) for minute in range(2, hour.minute, 4)])

    assert hour.fired == {"HandlerErrors"}


def test_handler_errors_fires_when_runs_cannot_be_reconciled(hour: Hour) -> None:
    # A later release's state, after a rollback.
    boto3.client("dynamodb", region_name=REGION).put_item(
        TableName=TABLE,
        Item={
            "pk": {"S": "RUN#newer"},
            "sk": {"S": "RUN"},
            "run_id": {"S": "newer"},
            "listing": {"S": "open"},
            "created_at": {"S": ago(60)},
            "state": {"S": "hibernating"},
        },
    )

    hold(hour.environment, "readable", minutes=91, epoch=2)
    commit("readable")

    hour.sweep(8)

    assert hour.fired == {"HandlerErrors", "CheckpointStale"}, "the other run is looked after, and the sweeper beats"


def test_checkpoint_stale_fires_when_an_attempt_has_not_saved_for_an_hour(hour: Hour) -> None:
    # What it saved was by an attempt before; half an hour is for restoring that.
    hold(hour.environment, "saves-not", minutes=91, epoch=2)
    commit("saves-not")
    hold(hour.environment, "never-saves", minutes=600)

    hour.sweep(2)
    assert hour.fired == {"CheckpointStale"}

    commit("saves-not", epoch=2)
    hour.sweep(2)
    assert hour.states[-1]["CheckpointStale"] == OK


def test_checkpoint_stale_waits_for_an_attempt_that_still_has_time(hour: Hour) -> None:
    hold(hour.environment, "young", minutes=85, epoch=2)
    commit("young")

    hour.sweep(2)

    assert hour.fired == set()


def test_spot_capacity_dry_fires_when_runs_wait_beyond_the_limit_and_ends_with_the_wait(hour: Hour) -> None:
    hour.sweep()
    wait_for_spot(hour.environment, "dry")
    hour.sweep(4)
    assert hour.fired == {"SpotCapacityDry"}

    run = hour.environment.run_of("dry")
    hour.environment.ledger.advance(run, state=RunState.CANCELLED)
    hour.sweep(2)
    assert hour.states[-1]["SpotCapacityDry"] == OK


def test_budget_headroom_fires_when_reservations_have_taken_the_environments_cap(hour: Hour) -> None:
    hour.sweep()
    assert hour.fired == set()

    for number in range(3):
        due = {"wait_until": ago(1), "fallback_cap_microusd": 40_000_000, "attempt_seconds": 4 * 3600}
        wait_for_spot(hour.environment, f"falls-back-{number}", **due)
    hour.sweep(2)

    assert hour.fired == {"BudgetHeadroom"}
    assert min(datum.value for datum in hour.data if datum.series.name == "BudgetLeft") <= 20


def test_budget_headroom_fires_when_a_deadline_first_run_crosses_its_own_cap(hour: Hour) -> None:
    wait_for_spot(
        hour.environment,
        "in-a-hurry",
        wait_until=ago(1),
        mode=Mode.DEADLINE_FIRST.value,
        fallback_cap_microusd=1_000_000,
        attempt_seconds=3600,
    )

    hour.sweep(2)

    assert hour.fired == {"BudgetHeadroom"}
    assert min(datum.value for datum in hour.data if datum.series.name == "BudgetLeft") > 20


def test_no_progress_fires_when_a_run_is_parked_and_ends_when_a_person_has_dealt_with_it(hour: Hour) -> None:
    hour.environment.ledger.create(new_run("stuck", state=RunState.PARKED, reason="no newer checkpoint"))
    hour.sweep(2)
    assert hour.fired == {"NoProgress"}

    hour.environment.ledger.advance(hour.environment.run_of("stuck"), state=RunState.CANCELLED)
    hour.sweep(2)
    assert hour.states[-1]["NoProgress"] == OK


def test_notice_not_honoured_fires_when_a_warned_attempt_saved_nothing_more(hour: Hour) -> None:
    hold(hour.environment, "saves-never", minutes=30)
    lose_host(hour.environment, "saves-never")
    hour.sweep(2)
    assert hour.fired == set(), "a program without checkpoints cannot save on a notice"

    commit("deaf")
    hold(hour.environment, "deaf", minutes=30)
    # S3 tells that the commit is of now: the warning came five minutes after it.
    lose_host(hour.environment, "deaf", warned_at=ago(-5), stopped_at=ago(-7))

    hour.sweep(2)

    assert hour.fired == {"NoticeNotHonoured"}


def test_preemption_storm_fires_when_many_hosts_go_and_runs_suffer(hour: Hour) -> None:
    for number in range(10):
        hold(hour.environment, f"run-{number}", minutes=30)
        commit(f"run-{number}")
        lose_host(hour.environment, f"run-{number}")
    hour.sweep(2)
    assert hour.fired == {"HostsLost"}, "which tells nobody: every run saved, and there is capacity"

    hour.environment.ledger.create(new_run("parked", state=RunState.PARKED, reason="a queue that can never run it"))
    hour.sweep(2)
    assert hour.fired == {"HostsLost", "NoProgress"}, "a run that is parked suffers from no storm"

    hour.environment.ledger.advance(hour.environment.run_of("run-3"), num_stalls=2)
    hour.sweep(2)
    assert hour.fired == {"HostsLost", "NoProgress", "RunsStalled", "PreemptionStorm"}


def test_every_alarm_of_the_contract_is_shown_to_fire() -> None:
    words = {alarm: re.sub("(?<!^)([A-Z])", r"_\1", alarm).lower() for alarm in ALARMS}

    shown = {alarm for alarm in ALARMS if any(name.startswith(f"test_{words[alarm]}_fires") for name in globals())}

    # What SQS reports is in tests/story/test_alarms.py.
    assert shown == {*ALARMS} - {"DeadLetters"}


def test_no_metric_has_a_dimension_but_the_environment(hour: Hour) -> None:
    hour.invoke(record_interruption, "no event")
    complete(hour.environment, "done")
    hour.sweep()

    assert {datum.series.namespace for datum in hour.data} == {"Spotkeeper"}
    assert {datum.series.dimensions for datum in hour.data} == {frozenset({("environment", "dev")})}


def test_an_idle_environment_sends_few_metrics_for_each_is_billed(hour: Hour) -> None:
    hour.sweep(3)

    names = {datum.series.name for datum in hour.data}
    assert names == {
        "Sweeps", "EventsReceived", "CheckpointAge", "BudgetLeft", "RunsWithoutProgress", "WaitsOverLimit",
    }  # fmt: skip
