import copy
import json
from collections.abc import Callable

import pytest

from emulation.aws import Aws
from emulation.server import Server
from emulation.templates.adapt import (
    ADAPTATIONS,
    CREATED,
    SKIPPED,
    Adaptation,
    AdaptedTemplate,
    Scope,
    UnknownResourceTypeError,
    adapt,
)
from emulation.templates.assembly import Assembly
from emulation.templates.load import LoadError, load
from tests.emulation.sample_stack import APPLICATION, FOUNDATION, ref, resource

SCOPE = Scope(
    stack="sample-application",
    account="123456789012",
    region="us-east-1",
    outputs={"sample-foundation": {"PublishOutputRefCheckpoints": "the-bucket"}},
)


def adapted() -> AdaptedTemplate:
    return adapt(APPLICATION, SCOPE)


def test_a_type_that_nobody_has_decided_about_is_refused_by_name() -> None:
    template = {"Resources": {"Alarm": resource("AWS::Nobody::Knows"), "Queue": resource("AWS::SQS::Queue")}}

    with pytest.raises(
        UnknownResourceTypeError, match=r"sample-application .* Alarm \(AWS::Nobody::Knows\); add each type"
    ):
        adapt(template, SCOPE)


def test_no_type_is_both_created_and_skipped() -> None:
    assert not CREATED & set(SKIPPED)


def test_the_template_that_was_given_is_left_alone() -> None:
    before = copy.deepcopy(APPLICATION)

    adapted()

    assert before == APPLICATION


def test_every_resource_is_either_in_the_result_or_noted_as_skipped_with_a_reason() -> None:
    result = adapted()

    skipped = {note.logical_id for note in result.skipped}
    assert skipped == {"Shares", "EventsPolicy", "ConsumeEvents"}
    assert set(result.template["Resources"]) | skipped == set(APPLICATION["Resources"])
    assert all(len(note.reason) > 20 for note in (*result.skipped, *result.adapted))


def test_references_to_what_moto_cannot_resolve_are_replaced_everywhere() -> None:
    template = adapted().template

    queue = template["Resources"]["JobQueue"]
    assert queue["Properties"]["ComputeEnvironmentOrder"][0]["ComputeEnvironment"] == ref("Compute")
    assert queue["Properties"]["SchedulingPolicyArn"] == (
        "arn:aws:batch:us-east-1:123456789012:scheduling-policy/sample-application-Shares"
    )
    assert template["Outputs"]["JobQueueArn"]["Value"] == ref("JobQueue")
    variables = template["Resources"]["Consume"]["Properties"]["Environment"]["Variables"]
    assert variables["BUCKET"] == "the-bucket"


def test_dependencies_on_skipped_resources_go_and_others_stay() -> None:
    resources = adapted().template["Resources"]

    assert "DependsOn" not in resources["JobQueue"]
    assert resources["Consume"]["DependsOn"] == ["Role"]


def test_parameters_that_aws_would_look_up_become_plain_ones() -> None:
    foundation = adapt(FOUNDATION, SCOPE)

    assert adapted().template["Parameters"]["PowertoolsLayer"]["Type"] == "String"
    assert "PowertoolsLayer" in {note.logical_id for note in adapted().adapted}
    assert foundation.template["Parameters"] == {}
    assert "Rules" not in foundation.template


def test_a_reference_to_a_skipped_resource_without_a_stand_in_is_refused() -> None:
    template = {
        "Resources": {
            "Policy": resource("AWS::SQS::QueuePolicy"),
            "Queue": resource("AWS::SQS::Queue", QueueName=ref("Policy")),
        }
    }

    with pytest.raises(ValueError, match=r"refers to Policy \(AWS::SQS::QueuePolicy\), which the emulation leaves out"):
        adapt(template, SCOPE)


def test_an_output_of_a_stack_that_is_not_loaded_yet_is_refused() -> None:
    with pytest.raises(ValueError, match=r"reads the output PublishOutputRefCheckpoints of sample-foundation"):
        adapt(APPLICATION, Scope(stack="sample-application", account="1", region="us-east-1"))


def goes_wrong(assembly: Assembly, aws: Aws, adaptations: tuple[Adaptation, ...]) -> bool:
    """Deploy, send an event that one rule wants, and tell whether anything fails or another rule's queue has it."""
    try:
        deployment, _ = load(assembly, aws, environment="dev", adaptations=adaptations)
    except LoadError:
        return True
    detail = json.dumps({"jobQueue": next(iter(deployment.job_queues))})
    aws.events.put_events(Entries=[{"Source": "aws.batch", "DetailType": "Batch Job State Change", "Detail": detail}])
    (rule,) = (rule for rule in deployment.rules if rule.schedule)
    return bool(aws.sqs.receive_message(QueueUrl=rule.targets[0].queue_url).get("Messages"))


def test_with_all_adaptations_nothing_goes_wrong(sample: Callable[..., Assembly], aws: Aws, server: Server) -> None:
    assert not goes_wrong(sample(), aws, ADAPTATIONS)
    assert server.failures == ()


@pytest.mark.parametrize("adaptation", ADAPTATIONS, ids=lambda adaptation: adaptation.name)
def test_without_any_one_adaptation_something_does(
    sample: Callable[..., Assembly], aws: Aws, adaptation: Adaptation
) -> None:
    others = tuple(other for other in ADAPTATIONS if other is not adaptation)

    assert goes_wrong(sample(), aws, others)
