"""What the standard scanners let pass and we do not: a rule a function, from one template's resources to findings.

cdk-nag has no rule on AWS Batch, and cfn-lint accepts broken FIS templates (see docs/threat-model.md). Each rule is
held against a planted defect in `test_planted_defects`, and against the shipped stacks, where it finds nothing.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tests.security.finding import Finding
from tests.security.statements import allowing, as_list, is_bound_to_a_source, principals

Resources = Mapping[str, Mapping[str, Any]]
Found = Iterator[tuple[str, str]]
"""Logical ids, and what is wrong."""

UNCONDITIONAL_TRUST: Final = {
    "ec2.amazonaws.com": "An instance profile is attached by ec2:RunInstances of the own account, under iam:PassRole; "
    "No document says that EC2 sends a source; if it does not, a condition locks every host out (docs/live-checks.md).",
    "lambda.amazonaws.com": "A function is given a role of its own account alone, under iam:PassRole; no document says "
    "that Lambda sends a source; if it does not, a condition keeps every function from being made.",
}
"""Services whose trust cannot be bound to a source, and why."""

_SECRET_NAME: Final = re.compile(
    r"SECRET|TOKEN|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|PRIVATE_KEY|CREDENTIAL", re.IGNORECASE
)
_SECRET_VALUE: Final = re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY|\b(ghp|hf)_\w{20,}")

_FIS_SPOT_ACTION: Final = "aws:ec2:send-spot-instance-interruptions"
_FIS_ACTIONS: Final = frozenset({_FIS_SPOT_ACTION, "aws:fis:wait"})
"""What a game day of ours may do; another action comes with its shape, since nothing else checks it."""


def only_known_senders_may_send(resources: Resources) -> Found:
    """A queue or topic takes messages of a service for one source, and of nobody at large."""
    for type_ in ("AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy"):
        for id_, properties in _of(resources, type_):
            for statement in allowing(properties["PolicyDocument"]):
                senders = [*principals(statement, "Service"), *(p for p in principals(statement, "AWS") if p == "*")]
                if senders and not is_bound_to_a_source(statement):
                    yield id_, f"lets {senders} send without aws:SourceArn or aws:SourceAccount: any account's may"


def services_are_trusted_for_a_source(resources: Resources) -> Found:
    """A service assumes a role for one account or resource, so that nobody else can have it act here."""
    for id_, properties in _of(resources, "AWS::IAM::Role"):
        for statement in allowing(properties["AssumeRolePolicyDocument"]):
            trusted = {name for name in principals(statement, "Service") if name not in UNCONDITIONAL_TRUST}
            if trusted and not is_bound_to_a_source(statement):
                yield id_, f"trusts {sorted(map(str, trusted))} for anybody: add aws:SourceAccount, and aws:SourceArn"


def federation_names_one_subject(resources: Resources) -> Found:
    """A workflow's token is accepted for this audience and exactly this subject."""
    for id_, properties in _of(resources, "AWS::IAM::Role"):
        for statement in allowing(properties["AssumeRolePolicyDocument"]):
            if not principals(statement, "Federated"):
                continue
            condition = statement.get("Condition", {})
            exact = {key.rpartition(":")[2] for key in condition.get("StringEquals", {})}
            if missing := sorted({"aud", "sub"} - exact):
                yield id_, f"federates without StringEquals on {missing}: every repository's workflow may assume it"
            if "*" in json.dumps(condition.get("StringEquals", {})):
                yield id_, "has a wildcard under StringEquals, which matches a literal asterisk: name the subject"


def jobs_are_not_privileged(resources: Resources) -> Found:
    """A container is no administrator of its host, and sees none of the host's files."""
    for id_, container in _containers(resources):
        if container.get("Privileged"):
            yield id_, "is Privileged: a program would own its host, and with it the tasks of others"
        if any("Host" in volume for volume in container.get("Volumes", [])):
            yield id_, "mounts folders of the host: give it scratch space of its own"


def jobs_have_a_time_limit(resources: Resources) -> Found:
    """AWS Batch has no default: a job that hangs is billed for ever."""
    for id_, properties in _of(resources, "AWS::Batch::JobDefinition"):
        if not properties.get("Timeout", {}).get("AttemptDurationSeconds"):
            yield id_, "has no Timeout.AttemptDurationSeconds"


def retries_end_in_exit(resources: Resources) -> Found:
    """AWS Batch retries what no rule matches, so the last rules must match everything and end the job."""
    for id_, properties in _of(resources, "AWS::Batch::JobDefinition"):
        strategy = properties.get("RetryStrategy", {})
        rules = strategy.get("EvaluateOnExit", [])
        # A reason is not always given; a status reason or an exit code is.
        is_caught = any(rule["Action"].upper() == "EXIT" and _matches_all(rule) for rule in rules)
        if strategy.get("Attempts", 1) > 1 and not is_caught:
            yield id_, "retries whatever its rules do not name: end EvaluateOnExit with OnStatusReason '*' -> EXIT"


def environments_hold_no_secrets(resources: Resources) -> Found:
    """Whoever may describe a job or a function reads its environment."""
    for id_, container in _containers(resources):
        for variable in container.get("Environment", []):
            if _is_secret(variable["Name"], variable["Value"]):
                yield id_, f"has {variable['Name']} in its environment: use Secrets, which name a secret's ARN"
    for id_, properties in _of(resources, "AWS::Lambda::Function"):
        for name, value in properties.get("Environment", {}).get("Variables", {}).items():
            if _is_secret(name, value):
                yield id_, f"has {name} in its environment: read the secret when the function runs"


def hosts_have_a_launch_template(resources: Resources) -> Found:
    """Without one, AWS Batch's hosts answer IMDSv1, have an unencrypted volume and no agent settings for spot."""
    for id_, properties in _of(resources, "AWS::Batch::ComputeEnvironment"):
        compute = properties.get("ComputeResources", {})
        if compute.get("Type") in ("EC2", "SPOT") and "LaunchTemplate" not in compute:
            yield id_, "has no LaunchTemplate"


def hosts_answer_imdsv2_only(resources: Resources) -> Found:
    """A request that a program was tricked into carries no token; two hops reach a container, and no further."""
    for id_, properties in _of(resources, "AWS::EC2::LaunchTemplate"):
        options = properties["LaunchTemplateData"].get("MetadataOptions", {})
        if options.get("HttpTokens") != "required":
            yield id_, f"has MetadataOptions.HttpTokens {options.get('HttpTokens')!r}: use 'required'"
        if options.get("HttpPutResponseHopLimit", 1) > 2:
            yield id_, f"lets the metadata service's answers go {options['HttpPutResponseHopLimit']} hops: at most 2"


def game_days_are_bounded(resources: Resources) -> Found:
    """An experiment has targets by tag or ARN, an alarm that stops it, and the shape that FIS takes."""
    for id_, properties in _of(resources, "AWS::FIS::ExperimentTemplate"):
        stops = [stop for stop in properties.get("StopConditions", []) if stop.get("Source") == "aws:cloudwatch:alarm"]
        if not stops or not all(stop.get("Value") for stop in stops):
            yield id_, "has no StopConditions of source aws:cloudwatch:alarm with an alarm's ARN"
        for name, target in properties.get("Targets", {}).items():
            if not target.get("ResourceTags") and not 0 < len(target.get("ResourceArns", [])) <= 5:
                yield id_, f"does not bind target {name!r} to ResourceTags or to at most 5 ResourceArns"
            if not re.fullmatch(r"ALL|COUNT\([1-9]\d*\)|PERCENT\(([1-9]\d?|100)\)", target.get("SelectionMode", "")):
                yield id_, f"has SelectionMode {target.get('SelectionMode')!r}: use ALL, COUNT(n) or PERCENT(n)"
        for name, action in properties.get("Actions", {}).items():
            yield from ((id_, f"action {name!r} {wrong}") for wrong in _fis_action(action, properties["Targets"]))


def failed_messages_come_back_alone(resources: Resources) -> Found:
    """Without partial answers one bad message brings its whole batch back, and all of it to the dead letters."""
    for id_, properties in _of(resources, "AWS::Lambda::EventSourceMapping"):
        if "ReportBatchItemFailures" not in properties.get("FunctionResponseTypes", []):
            yield id_, "has no FunctionResponseTypes ReportBatchItemFailures"


def buckets_keep_versions(resources: Resources) -> Found:
    """What a program deletes or overwrites can be restored."""
    for id_, properties in _of(resources, "AWS::S3::Bucket"):
        if properties.get("VersioningConfiguration", {}).get("Status") != "Enabled":
            yield id_, "keeps no versions: VersioningConfiguration.Status is not Enabled"


def old_versions_expire(resources: Resources) -> Found:
    """Versions and the parts of uploads that were never completed are billed, and nothing lists them."""
    for id_, properties in _of(resources, "AWS::S3::Bucket"):
        rules = [r for r in properties.get("LifecycleConfiguration", {}).get("Rules", []) if r["Status"] == "Enabled"]
        for wanted in ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"):
            if not any(wanted in rule for rule in rules):
                yield id_, f"has no lifecycle rule with {wanted}"


def rules_have_dead_letters(resources: Resources) -> Found:
    """EventBridge drops an event after 24 hours of refusals unless its target has a dead-letter queue."""
    for id_, properties in _of(resources, "AWS::Events::Rule"):
        for target in properties.get("Targets", []):
            if "DeadLetterConfig" not in target:
                yield id_, f"has target {target.get('Id')!r} without DeadLetterConfig"


def rules_match_the_own_account(resources: Resources) -> Found:
    """An event bus can be opened to others later; their events must not be taken for ours."""
    for id_, properties in _of(resources, "AWS::Events::Rule"):
        pattern = properties.get("EventPattern")
        if pattern is not None and not pattern.get("account"):
            yield id_, "has an event pattern without account"


RULES: Final[tuple[Callable[[Resources], Found], ...]] = (
    only_known_senders_may_send,
    services_are_trusted_for_a_source,
    federation_names_one_subject,
    jobs_are_not_privileged,
    jobs_have_a_time_limit,
    retries_end_in_exit,
    environments_hold_no_secrets,
    hosts_have_a_launch_template,
    hosts_answer_imdsv2_only,
    game_days_are_bounded,
    failed_messages_come_back_alone,
    buckets_keep_versions,
    old_versions_expire,
    rules_have_dead_letters,
    rules_match_the_own_account,
)


def judge(template: Mapping[str, Any]) -> list[Finding]:
    """Return what the rules find in a template."""
    resources = template["Resources"]
    return [Finding(rule.__name__, id_, problem) for rule in RULES for id_, problem in rule(resources)]


def _of(resources: Resources, type_: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((id_, item.get("Properties", {})) for id_, item in resources.items() if item["Type"] == type_)


def _containers(resources: Resources) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every place where a job definition may describe a container."""
    for id_, properties in _of(resources, "AWS::Batch::JobDefinition"):
        nodes = properties.get("NodeProperties", {}).get("NodeRangeProperties", [])
        for part in (
            properties,
            *(node.get("Container", {}) and {"ContainerProperties": node["Container"]} for node in nodes),
        ):
            if container := part.get("ContainerProperties"):
                yield id_, container
            for task in part.get("EcsProperties", {}).get("TaskProperties", []):
                volumes = {"Volumes": task.get("Volumes", [])}
                yield from ((id_, {**volumes, **container}) for container in task["Containers"])


def _matches_all(rule: Mapping[str, str]) -> bool:
    conditions = {name: pattern for name, pattern in rule.items() if name != "Action"}
    return conditions in ({"OnStatusReason": "*"}, {"OnReason": "*"}, {"OnExitCode": "*"})


def _is_secret(name: str, value: Any) -> bool:
    # A name may also tell where a secret is kept: an ARN is none.
    is_literal = isinstance(value, str) and not value.startswith("arn:")
    return is_literal and bool(_SECRET_NAME.search(name) or _SECRET_VALUE.search(value))


def _fis_action(action: Mapping[str, Any], targets: Mapping[str, Any]) -> Iterator[str]:
    kind = action.get("ActionId")
    if kind not in _FIS_ACTIONS:
        yield f"is {kind!r}: this gate knows the shape of {sorted(_FIS_ACTIONS)} only"
    if kind != _FIS_SPOT_ACTION:
        return
    before = re.fullmatch(r"PT(\d+)M", action.get("Parameters", {}).get("durationBeforeInterruption", ""))
    if before is None or not 2 <= int(before[1]) <= 15:
        yield f"has Parameters {action.get('Parameters')}: durationBeforeInterruption is PT2M to PT15M"
    target = targets.get(as_list(action.get("Targets", {}).get("SpotInstances", ""))[0], {})
    if target.get("ResourceType") != "aws:ec2:spot-instance":
        yield "has no target SpotInstances of ResourceType aws:ec2:spot-instance"
