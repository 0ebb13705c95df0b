import re
import subprocess
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from emulation.batch.executor import Delays
from tests.emulation.compute import ON_DEMAND_QUEUE, ZONES, Compute, compute, eventually

NO_DELAYS = Delays(boot_seconds=0, pull_seconds=0)
SLEEP = "import time; time.sleep(60)"
READ_IMDS = """
import os, time, urllib.error, urllib.request
base = os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
def read(path, method="GET", **headers):
    request = urllib.request.Request(base + path, method=method, headers=headers)
    return urllib.request.urlopen(request, timeout=5).read().decode()
token = read("/latest/api/token", "PUT", **{"X-aws-ec2-metadata-token-ttl-seconds": "60"})
def get(path):
    try:
        return read("/latest/meta-data/" + path, **{"X-aws-ec2-metadata-token": token})
    except urllib.error.HTTPError as error:
        return error.code
"""


def statuses(cloud: Compute, job_id: str) -> list[str]:
    return [event["detail"]["status"] for event in cloud.of_type("Batch Job State Change", jobId=job_id)]


def is_alive(pid: str) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def started_instance(cloud: Compute, job_id: str, attempt: int = 1) -> str:
    """Return the instance of an attempt once its program has written its first line."""
    path = cloud.work_dir / job_id / str(attempt) / "output.log"
    eventually(lambda: path.exists() and path.read_text().endswith("\n"))
    return cloud.batch.attempts(job_id)[attempt - 1].instance.id


def test_a_job_waits_for_capacity_and_then_runs_through_every_state(tmp_path: Path) -> None:
    with compute(tmp_path) as cloud:
        cloud.market.dry()
        job_id = cloud.submit(["sh", "-c", "echo hello; exit 0"])
        eventually(lambda: cloud.describe(job_id).get("statusReason"))
        waiting = cloud.describe(job_id)
        assert waiting["status"] == "RUNNABLE"
        assert waiting["statusReason"] == (
            "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested for instance type "
            "[m6i.xlarge, m7i.xlarge, r6i.xlarge]"
        )
        assert not cloud.market.instances
        cloud.market.restore()
        done = cloud.wait(job_id)
        assert done["status"] == "SUCCEEDED"
        assert done["container"]["exitCode"] == 0
        assert done["statusReason"] == "Essential container in task exited"
        assert cloud.output(job_id) == "hello\n"
        (instance,) = cloud.market.instances
        eventually(lambda: cloud.of_type("EC2 Instance State-change Notification", state="terminated"))
        assert instance.ending == "terminated"
        eventually(lambda: len(statuses(cloud, job_id)) == 4)
        assert statuses(cloud, job_id) == ["RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"]
        states = [event["detail"]["state"] for event in cloud.of_type("EC2 Instance State-change Notification")]
        assert states == ["pending", "running", "shutting-down", "terminated"]


def test_a_reclaim_without_notice_costs_the_attempt_and_the_next_one_runs(tmp_path: Path) -> None:
    with compute(tmp_path) as cloud:
        job_id = cloud.submit(
            ["sh", "-c", 'echo "attempt $AWS_BATCH_JOB_ATTEMPT"; test $AWS_BATCH_JOB_ATTEMPT = 2 || sleep 60']
        )
        instance_id = started_instance(cloud, job_id)
        cloud.market.reclaim(instance_id, notice=False)
        done = cloud.wait(job_id)
        assert done["status"] == "SUCCEEDED"
        lost, succeeded = done["attempts"]
        assert lost["statusReason"] == f"Host EC2 (instance {instance_id}) terminated."
        assert "exitCode" not in lost["container"]
        assert succeeded["container"]["exitCode"] == 0
        assert cloud.output(job_id, 2) == "attempt 2\n"
        assert cloud.of_type("EC2 Spot Instance Interruption Warning") == []
        eventually(lambda: "SUCCEEDED" in statuses(cloud, job_id))
        assert statuses(cloud, job_id) == ["RUNNABLE", "STARTING", "RUNNING"] * 2 + ["SUCCEEDED"]
        first, second = (attempt.instance for attempt in cloud.batch.attempts(job_id))
        assert first.pool != second.pool  # the pool that was taken from comes last


def test_a_host_that_is_cut_off_goes_on_while_its_job_runs_elsewhere_and_batch_never_hears_of_its_end(
    tmp_path: Path,
) -> None:
    program = (
        "import os, pathlib, time\n"
        "print('up', flush=True)\n"
        "while os.environ['AWS_BATCH_JOB_ATTEMPT'] == '1' and not pathlib.Path('end').exists(): time.sleep(0.02)\n"
        "raise SystemExit(3 if os.environ['AWS_BATCH_JOB_ATTEMPT'] == '1' else 0)\n"
    )
    with compute(tmp_path) as cloud:
        job_id = cloud.python(program)
        instance_id = started_instance(cloud, job_id)
        cloud.batch.cut_off(instance_id)
        done = cloud.wait(job_id)
        first, _ = cloud.batch.attempts(job_id)
        assert (done["status"], first.unreported_exit_code, first.instance.ended_at) == ("SUCCEEDED", None, None)
        (first.log_path.parent / "work" / "end").touch()
        eventually(lambda: first.instance.ended_at)
        assert (first.exit_code, first.unreported_exit_code) == (None, 3)
        lost = cloud.describe(job_id)["attempts"][0]
        assert lost["statusReason"] == f"Host EC2 (instance {instance_id}) terminated."
        with pytest.raises(ValueError, match="no container runs"):
            cloud.batch.cut_off(instance_id)


def test_a_notice_is_seen_on_the_instance_and_its_deadline_is_kept(tmp_path: Path) -> None:
    program = READ_IMDS + (
        "print('before', get('spot/instance-action'), flush=True)\n"
        "while get('spot/instance-action') == 404: time.sleep(0.02)\n"
        "print('notice', get('spot/instance-action'), flush=True)\n"
        "while True: print('alive', time.time(), flush=True); time.sleep(0.02)\n"
    )
    with compute(tmp_path, grace_seconds=2.0) as cloud:
        job_id = cloud.python(program, retryStrategy={"attempts": 1})
        instance_id = started_instance(cloud, job_id)
        noticed_at = datetime.now(UTC)
        cloud.market.reclaim(instance_id, notice=True)
        done = cloud.wait(job_id)
        lines = cloud.output(job_id).splitlines()
        assert lines[0] == "before 404"
        stated = re.fullmatch(r'notice \{"action":"terminate","time":"(....-..-..T..:..:..Z)"\}', lines[1])
        assert stated is not None
        deadline = datetime.fromisoformat(stated[1])
        assert 2.0 <= (deadline - noticed_at).total_seconds() <= 3.1
        assert float(lines[-1].split()[1]) >= deadline.timestamp() - 0.25  # it lived until the deadline
        assert done["stoppedAt"] / 1000 >= deadline.timestamp()
        assert done["status"] == "FAILED"
        assert done["statusReason"] == f"Host EC2 (instance {instance_id}) terminated."
        eventually(lambda: statuses(cloud, job_id)[-1] == "FAILED")
        (warning,) = cloud.of_type("EC2 Spot Instance Interruption Warning")
        assert warning["detail"] == {"instance-id": instance_id, "instance-action": "terminate"}


def test_a_job_that_yields_on_notice_goes_on_elsewhere_and_ec2_still_takes_the_instance(tmp_path: Path) -> None:
    program = READ_IMDS + (
        "print('up', flush=True)\n"
        "if os.environ['AWS_BATCH_JOB_ATTEMPT'] == '2': raise SystemExit(0)\n"
        "while get('spot/instance-action') == 404: time.sleep(0.02)\n"
        "raise SystemExit(75)\n"
    )
    with compute(tmp_path, grace_seconds=2.0) as cloud:
        job_id = cloud.python(program)
        cloud.market.reclaim(started_instance(cloud, job_id), notice=True)
        done = cloud.wait(job_id)
        assert [attempt["container"]["exitCode"] for attempt in done["attempts"]] == [75, 0]
        yielded, resumed = cloud.batch.attempts(job_id)
        noticed = yielded.instance
        eventually(lambda: noticed.ended_at)
        assert noticed.ending == "reclaimed"
        assert noticed.ended_at is not None
        assert noticed.deadline is not None
        assert noticed.ended_at >= noticed.deadline
        assert resumed.started_at_ms is not None
        assert resumed.started_at_ms < noticed.deadline.timestamp() * 1000  # it did not wait for the old host


def test_a_rebalance_recommendation_comes_before_the_notice_and_is_none(tmp_path: Path) -> None:
    program = READ_IMDS + (
        "print('up', flush=True)\n"
        "while get('events/recommendations/rebalance') == 404: time.sleep(0.01)\n"
        "print('rebalance, action', get('spot/instance-action'), flush=True)\n"
        "time.sleep(60)\n"
    )
    with compute(tmp_path, grace_seconds=1.0) as cloud:
        job_id = cloud.python(program, retryStrategy={"attempts": 1})
        cloud.market.reclaim(started_instance(cloud, job_id), notice=True, rebalance_lead_seconds=1500)
        cloud.wait(job_id)
        assert cloud.output(job_id).splitlines()[1] == "rebalance, action 404"
        kinds = [
            event["detail-type"]
            for event in cloud.events
            if event["source"] == "aws.ec2" and "state" not in event["detail"]
        ]
        assert kinds == ["EC2 Instance Rebalance Recommendation", "EC2 Spot Instance Interruption Warning"]


@pytest.mark.parametrize(("exit_code", "attempts"), [(75, 10), (1, 1), (76, 1)])
def test_only_a_yield_is_retried(tmp_path: Path, exit_code: int, attempts: int) -> None:
    with compute(tmp_path) as cloud:
        done = cloud.wait(cloud.submit(["sh", "-c", f"exit {exit_code}"]))
        assert done["status"] == "FAILED"
        assert [attempt["container"]["exitCode"] for attempt in done["attempts"]] == [exit_code] * attempts


def test_a_job_that_is_submitted_for_one_attempt_is_not_retried_whatever_its_definition_says(tmp_path: Path) -> None:
    with compute(tmp_path) as cloud:
        job_id = cloud.submit(["sh", "-c", "exit 75"], jobQueue=ON_DEMAND_QUEUE, retryStrategy={"attempts": 1})
        assert [attempt["container"]["exitCode"] for attempt in cloud.wait(job_id)["attempts"]] == [75]


def test_a_program_is_told_the_time_limit_that_its_attempt_has_here(tmp_path: Path) -> None:
    with compute(tmp_path) as cloud:
        variable = {"name": "SPOTKEEPER_ATTEMPT_SECONDS", "value": "36000"}
        job_id = cloud.submit(
            ["sh", "-c", "echo $SPOTKEEPER_ATTEMPT_SECONDS"], containerOverrides={"environment": [variable]}
        )
        cloud.wait(job_id)
        assert float(cloud.output(job_id)) == cloud.clock.real_seconds(36000)


def test_a_program_that_cannot_start_fails_with_the_reason(tmp_path: Path) -> None:
    with compute(tmp_path) as cloud:
        done = cloud.wait(cloud.submit(["no-such-program"]))
        assert (done["status"], done["statusReason"]) == ("FAILED", "Task failed to start")
        assert done["container"]["reason"].startswith("CannotStartContainerError:")
        assert "exitCode" not in done["container"]
        assert "startedAt" not in done


TRAP = "trap 'echo stopping; exit 143' TERM; echo up; while :; do sleep 0.05; done"
DEAF = "trap '' TERM; echo up; while :; do sleep 0.05; done"


@pytest.mark.parametrize(("script", "exit_code"), [(TRAP, 143), (DEAF, 137)])
def test_an_attempt_past_its_time_limit_gets_sigterm_then_sigkill_and_no_retry(
    tmp_path: Path, script: str, exit_code: int
) -> None:
    with compute(tmp_path, grace_seconds=0.5) as cloud:
        job_id = cloud.submit(["sh", "-c", script], timeout={"attemptDurationSeconds": 500})
        done = cloud.wait(job_id)
        assert done["status"] == "FAILED"
        assert done["statusReason"] == "Job attempt duration exceeded timeout"
        assert [attempt["container"]["exitCode"] for attempt in done["attempts"]] == [exit_code]
        assert done["stoppedAt"] - done["startedAt"] >= 500
        assert ("stopping" in cloud.output(job_id)) == (exit_code == 143)


@pytest.mark.parametrize(("stop_timeout_seconds", "grace_seconds"), [(20, 20), (110, 30)])
def test_a_time_out_gives_30_s_to_save_or_the_stop_timeout_if_that_is_shorter(
    tmp_path: Path, stop_timeout_seconds: float, grace_seconds: float
) -> None:
    settings = {"stop_timeout_seconds": stop_timeout_seconds}
    with compute(tmp_path, settings=settings, speed=100, grace_seconds=0, delays=NO_DELAYS) as cloud:
        done = cloud.wait(cloud.submit(["sh", "-c", DEAF], timeout={"attemptDurationSeconds": 60}))
        aws_seconds = (done["stoppedAt"] - done["startedAt"]) / 10
        assert 60 + grace_seconds <= aws_seconds < 60 + 110


def test_terminate_gives_the_stop_timeout_of_the_launch_template(tmp_path: Path) -> None:
    for stop_timeout_seconds, longest_seconds in ((20, 110), (110, 1000)):
        settings = {"stop_timeout_seconds": stop_timeout_seconds}
        work_dir = tmp_path / str(stop_timeout_seconds)
        with compute(work_dir, settings=settings, speed=100, grace_seconds=0, delays=NO_DELAYS) as cloud:
            job_id = cloud.submit(["sh", "-c", DEAF])
            started_instance(cloud, job_id)
            terminated_at = time.monotonic()
            cloud.batch.handle("TerminateJob", {"jobId": job_id, "reason": "enough"})
            cloud.wait(job_id)
            aws_seconds = (time.monotonic() - terminated_at) * 100
            assert stop_timeout_seconds <= aws_seconds < longest_seconds


def test_a_hop_limit_of_one_hides_the_notice_from_the_container(tmp_path: Path) -> None:
    program = READ_IMDS.replace("timeout=5", "timeout=0.3").replace("token = ", "print('asking', flush=True)\ntoken = ")
    with compute(tmp_path, settings={"metadata_reaches_containers": False}) as cloud:
        job_id = cloud.python(program)
        instance_id = started_instance(cloud, job_id)
        cloud.market.reclaim(instance_id, notice=True)
        assert cloud.wait(job_id)["status"] == "FAILED"
        assert "timed out" in cloud.output(job_id)


def test_terminate_stops_a_running_job_with_the_callers_reason(tmp_path: Path) -> None:
    with compute(tmp_path, grace_seconds=0.5) as cloud:
        job_id = cloud.submit(["sh", "-c", TRAP])
        started_instance(cloud, job_id)
        cloud.batch.handle("TerminateJob", {"jobId": job_id, "reason": "no longer needed"})
        done = cloud.wait(job_id)
        assert (done["status"], done["statusReason"]) == ("FAILED", "no longer needed")
        assert done["isTerminated"] is True
        assert done["container"]["exitCode"] == 143
        assert len(done["attempts"]) == 1


def test_cancel_ends_a_waiting_job_and_leaves_a_running_one_alone(tmp_path: Path) -> None:
    with compute(tmp_path) as cloud:
        running = cloud.submit(["sh", "-c", "echo up; sleep 0.5"])
        started_instance(cloud, running)
        cloud.market.dry()
        waiting = cloud.submit(["true"])
        cloud.wait(waiting, "RUNNABLE")
        for job_id in (running, waiting):
            cloud.batch.handle("CancelJob", {"jobId": job_id, "reason": "changed my mind"})
        cancelled = cloud.wait(waiting)
        assert (cancelled["status"], cancelled["statusReason"]) == ("FAILED", "changed my mind")
        assert (cancelled["isCancelled"], cancelled["attempts"]) == (True, [])
        assert cloud.wait(running)["status"] == "SUCCEEDED"


def test_the_head_of_a_dry_queue_is_given_up_after_the_queues_time_limit(tmp_path: Path) -> None:
    with compute(tmp_path, settings={"time_limit_seconds": 600}) as cloud:
        cloud.market.dry()
        first = cloud.submit(["true"])
        second = cloud.submit(["true"])
        done = cloud.wait(first)
        assert done["statusReason"] == (
            "Canceled by JobStateTimeLimit action due to reason: CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
        )
        assert done["status"] == "FAILED"
        assert done["stoppedAt"] - done["createdAt"] >= 600
        later = cloud.wait(second)  # its time counts from when it became the head
        assert later["stoppedAt"] - done["stoppedAt"] >= 590
        eventually(lambda: len(cloud.of_type("Batch Job Queue Blocked")) == 2)
        blocked = cloud.of_type("Batch Job Queue Blocked", jobId=first)[0]
        assert blocked["resources"] == [done["jobArn"], done["jobQueue"]]
        assert blocked["detail"]["statusReason"].startswith("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - ")
        eventually(lambda: "FAILED" in statuses(cloud, second))
        order = [event["detail"].get("status") for event in cloud.events if event["detail"].get("jobId") == first]
        assert order == ["RUNNABLE", "RUNNABLE", "FAILED"]


def test_a_job_that_fits_no_instance_is_not_given_up_for_want_of_capacity(tmp_path: Path) -> None:
    with compute(tmp_path, settings={"time_limit_seconds": 100}) as cloud:
        too_many = [{"type": "VCPU", "value": "512"}]
        job_id = cloud.submit(["true"], containerOverrides={"resourceRequirements": too_many})
        eventually(lambda: cloud.of_type("Batch Job Queue Blocked", jobId=job_id))
        assert cloud.describe(job_id)["statusReason"].startswith("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - ")
        with pytest.raises(TimeoutError, match="is RUNNABLE"):  # five times the queue's limit
            cloud.wait(job_id, timeout_seconds=0.5)


def test_capacity_that_comes_back_stops_the_time_limit(tmp_path: Path) -> None:
    with compute(tmp_path, settings={"time_limit_seconds": 600}) as cloud:
        cloud.market.dry()
        job_id = cloud.submit(["sleep", "1"])
        eventually(lambda: cloud.of_type("Batch Job Queue Blocked", jobId=job_id))
        cloud.market.restore()
        assert cloud.wait(job_id)["status"] == "SUCCEEDED"


def test_a_dry_spot_market_leaves_on_demand_alone(tmp_path: Path) -> None:
    with compute(tmp_path) as cloud:
        cloud.market.dry()
        program = READ_IMDS + "print(get('instance-life-cycle'), get('placement/availability-zone'))"
        job_id = cloud.python(program, jobQueue=ON_DEMAND_QUEUE)
        assert cloud.wait(job_id)["status"] == "SUCCEEDED"
        life_cycle, zone = cloud.output(job_id).split()
        assert (life_cycle, zone in ZONES) == ("on-demand", True)


def test_a_queue_holds_no_more_than_its_environments_vcpus(tmp_path: Path) -> None:
    with compute(tmp_path, settings={"max_vcpus": 8}) as cloud:
        jobs = [cloud.submit(["sleep", "0.2"]) for _ in range(6)]
        for job_id in jobs:
            assert cloud.wait(job_id)["status"] == "SUCCEEDED"
        spans = [(instance.launched_at, instance.ended_at) for instance in cloud.market.instances]
        for begin, _ in spans:
            assert sum(other <= begin and (end is None or end > begin) for other, end in spans) <= 2


def starts(cloud: Compute) -> list[str]:
    return [event["detail"]["jobName"] for event in cloud.of_type("Batch Job State Change", status="STARTING")]


def test_the_share_with_the_fewest_jobs_in_flight_has_its_turn(tmp_path: Path) -> None:
    with compute(tmp_path, settings={"max_vcpus": 8, "fair_share": True}) as cloud:
        cloud.market.dry()
        for share, name in (("a", "a1"), ("a", "a2"), ("b", "b1")):
            job_id = cloud.submit(["sleep", "0.2"], jobName=name, shareIdentifier=share)
            cloud.wait(job_id, "RUNNABLE")
        cloud.market.restore()
        eventually(lambda: len(starts(cloud)) == 3)
        assert sorted(starts(cloud)[:2]) == ["a1", "b1"]


def test_a_retry_goes_to_the_front_even_of_higher_priorities(tmp_path: Path) -> None:
    script = "echo up; sleep 0.3; test $AWS_BATCH_JOB_ATTEMPT = 2 || exit 75"
    with compute(tmp_path, settings={"max_vcpus": 4, "fair_share": True}) as cloud:
        low = cloud.submit(["sh", "-c", script], jobName="low", shareIdentifier="a", schedulingPriorityOverride=1)
        started_instance(cloud, low)
        high = cloud.submit(["true"], jobName="high", shareIdentifier="a", schedulingPriorityOverride=9)
        assert cloud.wait(high)["status"] == "SUCCEEDED"
        assert starts(cloud) == ["low", "low", "high"]


def test_a_job_whose_host_dies_while_booting_keeps_its_attempts(tmp_path: Path) -> None:
    with compute(tmp_path, delays=Delays(boot_seconds=400, pull_seconds=10)) as cloud:
        job_id = cloud.submit(["true"])
        eventually(lambda: cloud.market.instances)
        assert cloud.describe(job_id)["status"] == "RUNNABLE"
        cloud.market.reclaim(cloud.market.instances[0].id, notice=False)
        done = cloud.wait(job_id)
        assert (done["status"], len(done["attempts"]), len(cloud.market.instances)) == ("SUCCEEDED", 1, 2)


def test_a_host_that_dies_before_the_container_starts_costs_an_attempt_without_a_start(tmp_path: Path) -> None:
    with compute(tmp_path, delays=Delays(boot_seconds=10, pull_seconds=400)) as cloud:
        job_id = cloud.submit(["true"])
        cloud.wait(job_id, "STARTING")
        cloud.market.reclaim(cloud.market.instances[0].id, notice=False)
        lost, succeeded = cloud.wait(job_id)["attempts"]
        assert lost["statusReason"].startswith("Host EC2 (instance i-")
        assert "startedAt" not in lost
        assert succeeded["container"]["exitCode"] == 0


def test_terminate_before_the_container_starts_never_starts_it(tmp_path: Path) -> None:
    with compute(tmp_path, delays=Delays(boot_seconds=10, pull_seconds=300)) as cloud:
        job_id = cloud.submit(["echo", "ran"])
        cloud.wait(job_id, "STARTING")
        cloud.batch.handle("TerminateJob", {"jobId": job_id, "reason": "stop"})
        done = cloud.wait(job_id)
        assert (done["status"], done["statusReason"]) == ("FAILED", "stop")
        assert not cloud.batch.attempts(job_id)[0].log_path.exists()


def test_cancel_gives_back_the_instance_that_was_booting(tmp_path: Path) -> None:
    with compute(tmp_path, delays=Delays(boot_seconds=10_000)) as cloud:
        job_id = cloud.submit(["true"])
        eventually(lambda: cloud.market.instances)
        cloud.batch.handle("CancelJob", {"jobId": job_id, "reason": "no"})
        assert cloud.wait(job_id)["status"] == "FAILED"
        eventually(lambda: cloud.market.instances[0].ended_at)
        assert cloud.market.instances[0].ending == "terminated"


def test_an_attempt_is_listed_only_once_it_has_ended(tmp_path: Path) -> None:
    with compute(tmp_path) as cloud:
        job_id = cloud.submit(["sh", "-c", "echo up; test $AWS_BATCH_JOB_ATTEMPT = 2 && sleep 60; exit 75"])
        started_instance(cloud, job_id, attempt=2)
        job = cloud.describe(job_id)
        assert (job["status"], len(job["attempts"]), len(cloud.batch.attempts(job_id))) == ("RUNNING", 1, 2)
        assert job["container"]["taskArn"] == cloud.batch.attempts(job_id)[1].task_arn
        assert "exitCode" not in job["container"]


def test_a_job_sees_what_batch_and_the_job_say_and_nothing_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    with compute(tmp_path, host_environment={"OMP_NUM_THREADS": "1"}) as cloud:
        job_id = cloud.submit(
            ["sh", "-c", "env; echo PARAMETER Ref::rate Ref::unknown; echo PWD=$(pwd)"],
            parameters={"rate": "0.1"},
            containerOverrides={
                "environment": [{"name": "BOTH", "value": "job"}, {"name": "AWS_REGION", "value": "eu-west-1"}]
            },
        )
        cloud.wait(job_id)
        lines = cloud.output(job_id).splitlines()
        seen = dict(line.split("=", 1) for line in lines if "=" in line)
        assert seen["AWS_BATCH_JOB_ID"] == job_id
        assert seen["AWS_BATCH_JOB_ATTEMPT"] == "1"
        assert (seen["AWS_BATCH_JQ_NAME"], seen["AWS_BATCH_CE_NAME"]) == ("spot", "spot-ce")
        assert (seen["FROM_DEFINITION"], seen["BOTH"], seen["OMP_NUM_THREADS"]) == ("1", "job", "1")
        assert (seen["AWS_REGION"], seen["AWS_DEFAULT_REGION"]) == ("us-east-1", "us-east-1")
        assert "SECRET_OF_THE_HOST" not in seen
        assert "PARAMETER 0.1 Ref::unknown" in lines
        assert len({seen["HOME"], seen["TMPDIR"], seen["PWD"]}) == 3
        assert not Path(seen["HOME"]).exists()  # the container's file system ends with it
        assert Path(seen["PWD"]).is_relative_to(tmp_path)


ESCAPES = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
print(os.getpid(), flush=True)
time.sleep(60)
"""


def test_stop_leaves_no_process_behind_even_one_in_a_session_of_its_own(tmp_path: Path) -> None:
    with compute(tmp_path) as cloud:
        job_id = cloud.python(ESCAPES)
        started_instance(cloud, job_id)
        eventually(lambda: len(cloud.output(job_id).split()) == 2)
        pids = cloud.output(job_id).split()
        assert [is_alive(pid) for pid in pids] == [True, True]
    assert [is_alive(pid) for pid in pids] == [False, False]


def test_fifty_jobs_survive_ten_reclaims_and_none_is_lost(tmp_path: Path) -> None:
    with compute(tmp_path, settings={"max_vcpus": 32}, grace_seconds=0.5) as cloud:
        jobs = [cloud.submit(["sh", "-c", "echo up; sleep 0.3"], jobName=f"job-{index}") for index in range(50)]
        reclaimed: set[str] = set()
        while len(reclaimed) < 10:
            running = eventually(
                lambda: [
                    instance
                    for instance in cloud.market.instances
                    if instance.ended_at is None and instance.id not in reclaimed
                ]
            )
            instance = running[len(reclaimed) % len(running)]
            try:
                cloud.market.reclaim(instance.id, notice=len(reclaimed) % 2 == 0)
            except ValueError:
                continue  # its job ended meanwhile
            reclaimed.add(instance.id)
            threading.Event().wait(0.1)
        assert [cloud.wait(job_id, timeout_seconds=60)["status"] for job_id in jobs] == ["SUCCEEDED"] * 50
        lost = [attempt for job_id in jobs for attempt in cloud.describe(job_id)["attempts"]]
        host_losses = [attempt for attempt in lost if attempt["statusReason"].startswith("Host EC2")]
        assert 1 <= len(host_losses) <= 10
        assert len(lost) == 50 + len(host_losses)
        eventually(lambda: all(instance.ended_at for instance in cloud.market.instances))


def test_the_same_seed_gives_the_same_ids_and_pools(tmp_path: Path) -> None:
    def run(folder: Path) -> tuple[str, list[tuple[str, str, str, float]]]:
        with compute(folder) as cloud:
            job_id = cloud.submit(["sh", "-c", "exit 75"], retryStrategy={"attempts": 3})
            cloud.wait(job_id)
            return job_id, [(one.id, one.type, one.zone, one.usd_per_hour) for one in cloud.market.instances]

    assert run(tmp_path / "first") == run(tmp_path / "second")
