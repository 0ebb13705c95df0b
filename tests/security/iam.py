"""Every policy of the stacks, references resolved, judged by what policy_sentry and parliament know of IAM."""

import json
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from policy_sentry.querying.actions import get_action_data

from tests.security.finding import Finding
from tests.security.statements import Statement, allowing, as_list
from tests.stacks.synthesized import ACCOUNT, REGION, Assembly

WRITES_WITHOUT_RESOURCE: Final = {
    "cloudwatch:PutMetricData": "Takes no resource; the training role's is bound to SageMaker's namespace.",
    "ecs:DiscoverPollEndpoint": "Tells a host where to poll; IAM lists it as a write, and it takes no resource.",
}
"""Actions above reading that IAM can bind to no resource, and that some role of ours needs, with the reason."""

NOT_REQUIRED: Final = {
    # IAM's reference marks the job itself as required; AWS Batch asks for "both job queue and job definition":
    # docs.aws.amazon.com/batch/latest/userguide/iam-example-restrict-job-submission.html
    ("batch:SubmitJob", "arn:*:batch:*:*:job/*"),
}
"""Actions and resources that parliament misses, wrongly."""

READING: Final = frozenset({"List", "Read"})
SEVERE: Final = frozenset({"MEDIUM", "HIGH", "CRITICAL"})

_ARNS: Final = {
    "AWS::S3::Bucket": "arn:aws:s3:::{name}",
    "AWS::DynamoDB::Table": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{{name}}",
    "AWS::ECR::Repository": f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{{name}}",
    "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/{{name}}",
    "AWS::KMS::Key": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{{name}}",
    "AWS::Lambda::Function": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{{name}}",
    "AWS::Logs::LogGroup": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{{name}}:*",
    "AWS::SNS::Topic": f"arn:aws:sns:{REGION}:{ACCOUNT}:{{name}}",
    "AWS::SQS::Queue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{{name}}",
    "AWS::CodeBuild::Project": f"arn:aws:codebuild:{REGION}:{ACCOUNT}:project/{{name}}",
}


class DeployedNames(Assembly):
    """An assembly whose references resolve to ARNs of the form that AWS gives, which policies are held against."""

    def attribute(self, stack: str, logical_id: str, name: str) -> str:
        """What Fn::GetAtt gives; other attributes than ARNs stay unlike any."""
        type_ = self.templates[stack]["Resources"][logical_id]["Type"]
        if name == "Arn" and type_ in _ARNS:
            return _ARNS[type_].format(name=f"{stack}-{logical_id.lower()}")
        return f"{logical_id}.{name}"


def policies(assembly: Assembly) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return what is granted to identities: stack and logical id, and the resolved document."""
    for stack, template in assembly.templates.items():
        for id_, resource in template["Resources"].items():
            properties = resource.get("Properties", {})
            match resource["Type"]:
                case "AWS::IAM::Policy" | "AWS::IAM::ManagedPolicy":
                    documents = [properties["PolicyDocument"]]
                case "AWS::IAM::Role":
                    documents = [inline["PolicyDocument"] for inline in properties.get("Policies", [])]
                case _:
                    documents = []
            yield from ((f"{stack}/{id_}", assembly.resolved(stack, document)) for document in documents)


def writes_name_their_resource(where: str, document: dict[str, Any]) -> Iterator[Finding]:
    """Only reading is allowed on everything, and no action is a pattern."""
    for statement in allowing(document):
        for action in as_list(statement.get("Action", [])):
            if "*" in action:
                yield Finding("writes_name_their_resource", where, f"allows {action}: name the actions")
            elif _is_on_everything(statement) and _is_write(action) and action not in WRITES_WITHOUT_RESOURCE:
                yield Finding("writes_name_their_resource", where, f"allows {action} on *: name its resources")
        if "NotAction" in statement or "NotResource" in statement:
            yield Finding("writes_name_their_resource", where, "allows all but something: name what is allowed")


def parliament_agrees(where: str, document: dict[str, Any]) -> Iterator[Finding]:
    """Actions exist, match their resources and condition keys, and nothing contradicts itself."""
    parliament = _parliament()
    for found in parliament.analyze_policy_string(json.dumps(document)).findings:
        enhanced = parliament.enhance_finding(found)
        if enhanced.severity in SEVERE and not _is_accepted(enhanced):
            yield Finding(f"parliament {enhanced.issue}", where, f"{enhanced.title}: {enhanced.detail}")


def judge(assembly: Assembly) -> list[Finding]:
    """Return what is wrong with the policies of an environment."""
    return [
        finding
        for where, document in policies(assembly)
        for rule in (writes_name_their_resource, parliament_agrees)
        for finding in rule(where, document)
    ]


def _is_accepted(found: Any) -> bool:
    return found.issue == "RESOURCE_MISMATCH" and all(
        (missing["action"], missing["required_format"]) in NOT_REQUIRED for missing in found.detail
    )


def _is_on_everything(statement: Statement) -> bool:
    # Whatever stands for the account and the region, an ARN that ends in `:*` or `:::*` binds nothing.
    return any(str(resource).split(":", 5)[-1] == "*" for resource in as_list(statement.get("Resource", [])))


def _is_write(action: str) -> bool:
    service, _, name = action.partition(":")
    known = get_action_data(service, name)
    # An action that the database does not know may do anything.
    return not known or any(entry["access_level"] not in READING for entry in known[service])


def _parliament() -> Any:
    """Import parliament, which asks pkg_resources, gone from setuptools, where two of its files are."""
    if "parliament" not in sys.modules:
        stand_in = ModuleType("pkg_resources")
        stand_in.resource_filename = _beside  # type: ignore[attr-defined]
        sys.modules["pkg_resources"] = stand_in
        try:
            with warnings.catch_warnings():
                # It leaves closing those files to the garbage collector.
                warnings.simplefilter("ignore", ResourceWarning)
                import parliament  # noqa: F401
        finally:
            del sys.modules["pkg_resources"]
    return sys.modules["parliament"]


def _beside(package: str, file: str) -> str:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).with_name(file))
