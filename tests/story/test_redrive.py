"""Somebody redrives dead letters: what they tell has long been known, or is of nobody any more."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from emulation.cloud import Cloud
from emulation.events.router import Event
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.classify import Cause
from tests.story.queues import all_is_handled
from tests.story.user import User, eventually

WEEKS_AGO = "2026-01-01T00:00:00Z"
GONE_JOB = "00000000-0000-4000-8000-000000000000"
GONE_INSTANCE = "i-00000000000000000"


def redrive(cloud: Cloud, letters: Iterable[tuple[str, Event]]) -> None:
    """Move letters into the queues that they died in, as SQS does, and wait until all have been handled."""
    sqs = cloud.session.client("sqs", endpoint_url=cloud.endpoint_url)
    queues = cloud.deployment.queues
    for queue_arn, event in letters:
        sqs.send_message(QueueUrl=queues[queue_arn].url, MessageBody=json.dumps(event))
    all_is_handled(cloud)


def ledger(cloud: Cloud, user: User) -> dict[str, Any]:
    """Return every item of the ledger but those of interruptions that concern nobody, and where the sweeper is."""
    dynamodb = cloud.session.client("dynamodb", endpoint_url=cloud.endpoint_url)
    pages = dynamodb.get_paginator("scan").paginate(TableName=user.connection.descriptor.ledger_table)
    others = (GONE_INSTANCE, "SWEEPER")
    items = [item for page in pages for item in page["Items"] if not any(one in item["pk"]["S"] for one in others)]
    return {f"{item['pk']['S']} {item['sk']['S']}": item for item in items}


def aged(event: Event) -> Event:
    """Return the event as one of weeks ago, of a job or an instance that nobody knows any more."""
    told = json.dumps(event)
    names = {"jobId": GONE_JOB, "instance-id": GONE_INSTANCE}
    for field, gone in names.items():
        if field in event["detail"]:
            told = told.replace(event["detail"][field], gone)
    return {**json.loads(told), "time": WEEKS_AGO}


def test_dead_letters_that_are_redriven_change_nothing_while_the_run_goes_on_nor_after_its_end(
    cloud: Cloud, user: User, tmp_path: Path
) -> None:
    cloud.market.dry()
    run = user.submit(
        f"""
        import os, pathlib, time
        while not (pathlib.Path({str(tmp_path)!r}) / "end").exists():
            time.sleep(0.05)
        """
    )
    eventually(lambda: user.run(run), lambda found: found.state is RunState.WAITING)
    cloud.market.restore()
    user.waits_no_longer(run)
    cloud.market.reclaim(user.claimed(run), notice=True)
    user.claimed(run, epoch=2)
    eventually(lambda: user.attempts(run)[0].cause, lambda cause: cause == Cause.INTERRUPTED)

    letters = [(one.queue_arn, one.event) for one in cloud.router.delivered if one.event["source"] != "aws.events"]
    letters += [(queue_arn, aged(event)) for queue_arn, event in letters]
    before = ledger(cloud, user)
    redrive(cloud, letters)
    assert ledger(cloud, user) == before
    (tmp_path / "end").touch()
    ended = user.ended(run)
    before = ledger(cloud, user)
    redrive(cloud, reversed(letters))

    assert (ended.state, ended.submission, ended.epoch) == (RunState.SUCCEEDED, 2, 2)
    assert ledger(cloud, user) == before
    assert {event["detail-type"] for _, event in letters} == {
        "Batch Job State Change",
        "Batch Job Queue Blocked",
        "EC2 Spot Instance Interruption Warning",
    }
