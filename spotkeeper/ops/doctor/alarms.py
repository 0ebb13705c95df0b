"""Are all alarms there, do they speak, and does somebody listen?"""

import re
from collections.abc import Iterator
from typing import Any

from spotkeeper.contract.alarms import ALARMS
from spotkeeper.ops.doctor.examined import Examined
from spotkeeper.ops.doctor.finding import Finding

_TYPES = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")


def alarms_exist(examined: Examined) -> Iterator[Finding]:
    """Every alarm exists, with its actions on, and tells the environment's topic."""
    made = examined.resources("observability", *_TYPES)
    names = {alarm: _physical_id(alarm, made) for alarm in ALARMS}
    described = _describe(examined, [name for name in names.values() if name])
    topics = set(examined.resources("observability", "AWS::SNS::Topic").values())
    for alarm, name in names.items():
        found = described.get(name)
        if found is None:
            yield Finding(
                subject=f"alarm {alarm}",
                value="missing",
                expected="there: nobody is told otherwise",
                fix=f"{examined.deploy} makes what a stack never had; what was deleted by hand comes back when its "
                "resource is removed from the stack and deployed again",
            )
            continue
        if not found["ActionsEnabled"]:
            yield Finding(
                subject=f"alarm {alarm}",
                value="its actions are disabled",
                expected="enabled: it changes its state and tells nobody",
                fix=examined.aws(f"cloudwatch enable-alarm-actions --alarm-names {name}"),
            )
        if not topics & set(found["AlarmActions"]):
            yield Finding(
                subject=f"alarm {alarm}",
                value=f"tells {', '.join(found['AlarmActions']) or 'nobody'}",
                expected=f"tells {', '.join(sorted(topics)) or 'the topic of the environment'}",
                fix=f"put the action back in the console, since {examined.deploy} changes only what a template changed",
            )


def somebody_is_told(examined: Examined) -> Iterator[Finding]:
    """The topic has subscribers, and each has confirmed."""
    sns = examined.client("sns")
    for topic in examined.resources("observability", "AWS::SNS::Topic").values():
        pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
        subscriptions = [subscription for page in pages for subscription in page["Subscriptions"]]
        if not subscriptions:
            yield Finding(
                subject=f"topic {topic}",
                value="no subscriptions",
                expected="at least one: alarms tell nobody",
                fix=f"name people in alarms=AlarmSettings(emails=…) of stacks/environments.py, {examined.deploy}",
            )
        for subscription in subscriptions:
            if not subscription["SubscriptionArn"].startswith("arn:"):  # PendingConfirmation, or Deleted.
                yield Finding(
                    subject=f"subscription of {subscription['Endpoint']}",
                    value=subscription["SubscriptionArn"],
                    expected="confirmed: until then it gets nothing",
                    fix="open the link in AWS's message, which is good for three days; for a new one "
                    + examined.aws(
                        f"sns subscribe --topic-arn {topic} --protocol {subscription['Protocol']} "
                        f"--notification-endpoint {subscription['Endpoint']}"
                    ),
                )


def _physical_id(alarm: str, made: dict[str, str]) -> str:
    # CDK adds a hash of eight digits to the logical id of what stands below a construct.
    found = [physical for logical, physical in made.items() if re.fullmatch(f"{alarm}([0-9A-F]{{8}})?", logical)]
    return found[0] if found else ""


def _describe(examined: Examined, names: list[str]) -> dict[str, Any]:
    if not names:  # Without a name CloudWatch would describe all of the account.
        return {}
    pages = (
        examined.client("cloudwatch")
        .get_paginator("describe_alarms")
        .paginate(AlarmNames=names, AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    )
    return {
        alarm["AlarmName"]: alarm
        for page in pages
        for kind in ("MetricAlarms", "CompositeAlarms")
        for alarm in page.get(kind, [])
    }
