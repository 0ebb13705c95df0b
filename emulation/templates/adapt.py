"""What moto's CloudFormation cannot take in a synthesized template, as data: JSON in, JSON out.

Every resource type is in exactly one of three tables: created by moto as it is (perhaps after an adaptation),
or left out for a reason. A type in none of them is refused: an emulation that silently leaves something out
proves nothing. What is left out here and what moto drops is read back from the template by `load`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Json = dict[str, Any]

PROPERTIES_OUTPUT: Final = "EmulationPropertiesOf"
"""Prefix of the outputs that return a resource's properties as JSON, references resolved by moto itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """Where a template is being deployed."""

    stack: str
    account: str
    region: str
    outputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """What the stacks that were loaded before returned: stack name -> output -> value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Adaptation:
    """One thing that moto cannot take, and what is done about it to every resource of a type."""

    name: str
    types: frozenset[str]
    reason: str
    """What happens without it (moto 5.2.5)."""
    apply: Callable[[Json, Mapping[str, Json]], bool]
    """Given a resource's properties and all resources, change the properties in place and tell whether they changed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """Something that differs from the template as synthesized."""

    logical_id: str
    type: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptedTemplate:
    """A template that moto can load."""

    template: Json
    adapted: tuple[Note, ...]
    skipped: tuple[Note, ...]


class UnknownResourceTypeError(ValueError):
    """A template has a resource type of which nobody has said how the emulation treats it."""


SERVICE_ROLE_NAME: Final = "AWSServiceRoleForBatch"
"""The service-linked role that AWS makes by itself; `load` creates it."""

CREATED: Final = frozenset(
    {
        "AWS::Batch::ComputeEnvironment",
        "AWS::Batch::JobDefinition",
        "AWS::Batch::JobQueue",
        "AWS::CloudWatch::Dashboard",
        "AWS::DynamoDB::Table",
        "AWS::EC2::FlowLog",
        "AWS::EC2::InternetGateway",
        "AWS::EC2::LaunchTemplate",
        "AWS::EC2::Route",
        "AWS::EC2::RouteTable",
        "AWS::EC2::SecurityGroup",
        "AWS::EC2::SecurityGroupIngress",
        "AWS::EC2::Subnet",
        "AWS::EC2::SubnetRouteTableAssociation",
        "AWS::EC2::VPC",
        "AWS::EC2::VPCEndpoint",
        "AWS::EC2::VPCGatewayAttachment",
        "AWS::ECR::Repository",
        "AWS::Events::Rule",
        "AWS::IAM::InstanceProfile",
        "AWS::IAM::ManagedPolicy",
        "AWS::IAM::Policy",
        "AWS::IAM::Role",
        "AWS::KMS::Key",
        "AWS::Lambda::Function",
        "AWS::Lambda::Permission",
        "AWS::Logs::LogGroup",
        "AWS::S3::Bucket",
        "AWS::SNS::Topic",
        "AWS::SQS::Queue",
        "AWS::SSM::Parameter",
    }
)
"""Types that moto creates, once adapted."""

SKIPPED: Final[Mapping[str, str]] = {
    "AWS::Batch::SchedulingPolicy": "moto's CloudFormation does not know it; it is created through the API",
    "AWS::Budgets::Budget": "nothing here has a bill, and moto's CloudFormation does not know it",
    "AWS::Budgets::BudgetsAction": "without a bill no budget is ever exceeded; nothing here enforces permissions",
    "AWS::CDK::Metadata": "it says which CDK wrote the template and creates nothing",
    "AWS::CodeBuild::Project": "no image is built here; jobs run as processes of this machine",
    "AWS::CloudWatch::Alarm": "moto's CloudFormation does not know it and moto evaluates none; emulation/alarms does",
    "AWS::CloudWatch::CompositeAlarm": "the same",
    "AWS::Lambda::EventSourceMapping": "moto would run the function in Docker inside SendMessage; our pollers read it",
    "AWS::S3::BucketPolicy": "moto would refuse plain HTTP, hence every request; our front enforces If-None-Match",
    "AWS::SNS::Subscription": "nothing here sends e-mail or calls a pager",
    "AWS::SNS::TopicPolicy": "moto's CloudFormation does not know it; nothing here enforces permissions",
    "AWS::SQS::QueuePolicy": "moto's CloudFormation does not know it; nothing here enforces permissions",
    "Custom::VpcRestrictDefaultSG": "its handler would run in Docker; nothing here uses the default security group",
}
"""Type -> why no such resource is created."""

# What Ref and every Fn::GetAtt of a skipped resource return.
_STAND_INS: Final[Mapping[str, Callable[[Scope, str], str]]] = {
    # Names: of both, Ref alone is used.
    **dict.fromkeys(
        ("AWS::Budgets::Budget", "AWS::CodeBuild::Project"), lambda scope, logical_id: f"{scope.stack}-{logical_id}"
    ),
    # Fn::GetAtt of the ARN alone is used.
    **dict.fromkeys(
        ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"),
        lambda scope, logical_id: f"arn:aws:cloudwatch:{scope.region}:{scope.account}:alarm:{scope.stack}-{logical_id}",
    ),
    "AWS::Batch::SchedulingPolicy": lambda scope, logical_id: (
        f"arn:aws:batch:{scope.region}:{scope.account}:scheduling-policy/{scope.stack}-{logical_id}"
    ),
}

# Attributes that AWS offers and moto does not, and whose value moto returns for Ref.
_ATTRIBUTES_LIKE_REF: Final = frozenset({"ComputeEnvironmentArn", "JobQueueArn", "JobDefinitionArn"})

_PUBLIC_PARAMETER: Final = "AWS::SSM::Parameter::Value<"


def _upper_case_type(properties: Json, _: Mapping[str, Json]) -> bool:
    given = properties["Type"]
    properties["Type"] = given.upper()
    return bool(properties["Type"] != given)


def _default_service_role(properties: Json, _: Mapping[str, Json]) -> bool:
    if "ServiceRole" in properties:
        return False
    properties["ServiceRole"] = {"Fn::Sub": f"arn:aws:iam::${{AWS::AccountId}}:role/{SERVICE_ROLE_NAME}"}
    return True


def _default_retry_strategy(properties: Json, _: Mapping[str, Json]) -> bool:
    if "RetryStrategy" in properties:
        return False
    properties["RetryStrategy"] = {"Attempts": 1}
    return True


def _lower_case_timeout(properties: Json, _: Mapping[str, Json]) -> bool:
    if "Timeout" not in properties:
        return False
    properties["timeout"] = properties["Timeout"]
    return True


def _list_tags(properties: Json, _: Mapping[str, Json]) -> bool:
    tags = properties.get("Tags")
    if not isinstance(tags, dict):
        return False
    properties["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
    return True


def _key_tags(properties: Json, _: Mapping[str, Json]) -> bool:
    tags = properties.get("Tags")
    if not tags:
        return False
    properties["Tags"] = [{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in tags]
    return True


def _keep_queue_targets(properties: Json, resources: Mapping[str, Json]) -> bool:
    def is_queue(target: Json) -> bool:
        referred = target["Arn"].get("Fn::GetAtt", [""])[0] if isinstance(target["Arn"], dict) else ""
        return bool(resources.get(referred, {}).get("Type") == "AWS::SQS::Queue")

    given = properties.get("Targets", [])
    # A rule with a schedule alone has no pattern, which moto takes as a match of every event.
    kept = [target for target in given if "EventPattern" in properties and is_queue(target)]
    properties["Targets"] = kept
    return len(kept) != len(given)


def _name_in_lower_case(properties: Json, resources: Mapping[str, Json]) -> bool:
    if "RepositoryName" in properties:
        return False
    (logical_id,) = (id_ for id_, resource in resources.items() if resource.get("Properties") is properties)
    properties["RepositoryName"] = logical_id.lower()
    return True


ADAPTATIONS: Final[tuple[Adaptation, ...]] = (
    Adaptation(
        name="compute environment type in capitals",
        types=frozenset({"AWS::Batch::ComputeEnvironment"}),
        reason="CDK writes `managed`, which AWS accepts and moto refuses",
        apply=_upper_case_type,
    ),
    Adaptation(
        name="service-linked role as service role",
        types=frozenset({"AWS::Batch::ComputeEnvironment"}),
        reason="AWS uses its service-linked role when none is named; moto fails with KeyError",
        apply=_default_service_role,
    ),
    Adaptation(
        name="retry strategy by default",
        types=frozenset({"AWS::Batch::JobDefinition"}),
        reason="AWS's default is one attempt; moto fails with KeyError",
        apply=_default_retry_strategy,
    ),
    Adaptation(
        name="time-out in lower case",
        types=frozenset({"AWS::Batch::JobDefinition"}),
        reason="moto reads `timeout` from CloudFormation's properties and loses `Timeout`",
        apply=_lower_case_timeout,
    ),
    Adaptation(
        name="parameter tags as a list",
        types=frozenset({"AWS::SSM::Parameter"}),
        reason="CloudFormation has a map here; moto wants the list that other types have and fails with TypeError",
        apply=_list_tags,
    ),
    Adaptation(
        name="key tags in the API's form",
        types=frozenset({"AWS::KMS::Key"}),
        reason="CloudFormation has Key and Value here; moto wants the API's TagKey and fails with KeyError",
        apply=_key_tags,
    ),
    Adaptation(
        name="image repository by name",
        types=frozenset({"AWS::ECR::Repository"}),
        reason="moto makes the name of one that has none from the logical id, and then refuses its capitals",
        apply=_name_in_lower_case,
    ),
    Adaptation(
        name="only queues as rule targets",
        types=frozenset({"AWS::Events::Rule"}),
        reason="moto fails every PutEvents that matches a rule with another target; our router delivers events",
        apply=_keep_queue_targets,
    ),
)


def adapt(
    template: Mapping[str, Any], scope: Scope, adaptations: tuple[Adaptation, ...] = ADAPTATIONS
) -> AdaptedTemplate:
    """Return what moto can load of a synthesized template, with a note of each difference.

    Every resource's properties are returned by an output of their own, `PROPERTIES_OUTPUT` and the logical id.

    Raises:
        UnknownResourceTypeError: if the template has a type in none of the tables; all such types are named.
        ValueError: if a created resource refers to a skipped one for which there is no stand-in.
    """
    given: Mapping[str, Json] = template["Resources"]
    _refuse_unknown_types(given, scope)
    gone = {logical_id: resource for logical_id, resource in given.items() if resource["Type"] in SKIPPED}
    referable: Json = _replace_references(json.loads(json.dumps(dict(template))), gone, scope)
    outputs = {
        _output_name(logical_id): {"Value": {"Fn::ToJsonString": resource.get("Properties", {})}}
        for logical_id, resource in json.loads(json.dumps(referable["Resources"])).items()
    }
    created = {
        logical_id: resource for logical_id, resource in referable["Resources"].items() if logical_id not in gone
    }
    adapted = _apply(adaptations, created)
    for resource in created.values():
        _drop_dependencies(resource, gone)
    parameters, resolved = _plain_parameters(referable.get("Parameters", {}))
    # CDK's rule about the bootstrap version reads a parameter that is gone (moto fails with KeyError on it).
    kept = {name: section for name, section in referable.items() if name != "Rules"}
    return AdaptedTemplate(
        template={
            **kept,
            "Parameters": parameters,
            "Resources": created,
            "Outputs": {**referable.get("Outputs", {}), **outputs},
        },
        adapted=(*adapted, *resolved),
        skipped=tuple(
            Note(logical_id=logical_id, type=resource["Type"], reason=SKIPPED[resource["Type"]])
            for logical_id, resource in gone.items()
        ),
    )


def resolved_properties(outputs: Mapping[str, str], logical_id: str) -> Json:
    """Return a resource's properties with references resolved, from the outputs of its loaded stack."""
    properties: Json = json.loads(outputs[_output_name(logical_id)])
    return properties


def stand_in(resource_type: str, scope: Scope, logical_id: str) -> str:
    """Return the identifier that references to a skipped resource were given; empty if nothing may refer to it."""
    make = _STAND_INS.get(resource_type)
    return make(scope, logical_id) if make else ""


def _output_name(logical_id: str) -> str:
    return PROPERTIES_OUTPUT + logical_id


def _refuse_unknown_types(resources: Mapping[str, Json], scope: Scope) -> None:
    unknown = {
        logical_id: resource["Type"]
        for logical_id, resource in resources.items()
        if resource["Type"] not in CREATED and resource["Type"] not in SKIPPED
    }
    if unknown:
        raise UnknownResourceTypeError(
            f"stack {scope.stack} has resources that the emulation does not know: "
            + ", ".join(f"{logical_id} ({type_})" for logical_id, type_ in sorted(unknown.items()))
            + "; add each type to CREATED or SKIPPED in emulation/templates/adapt.py"
        )


def _apply(adaptations: tuple[Adaptation, ...], resources: Mapping[str, Json]) -> tuple[Note, ...]:
    return tuple(
        Note(logical_id=logical_id, type=resource["Type"], reason=f"{adaptation.name}: {adaptation.reason}")
        for logical_id, resource in resources.items()
        for adaptation in adaptations
        if resource["Type"] in adaptation.types and adaptation.apply(resource.setdefault("Properties", {}), resources)
    )


def _replace_references(node: Any, gone: Mapping[str, Json], scope: Scope) -> Any:
    """Point references at what exists here. Dependencies and skipped resources' own bodies are replaced as well."""
    if isinstance(node, list):
        return [_replace_references(item, gone, scope) for item in node]
    if not isinstance(node, dict):
        return node
    match node:
        case {"Ref": str(target)} if len(node) == 1:
            return _stand_in_for(target, gone, scope) if target in gone else node
        case {"Fn::GetAtt": [str(target), str(attribute)]} if len(node) == 1:
            if target in gone:
                return _stand_in_for(target, gone, scope)
            return {"Ref": target} if attribute in _ATTRIBUTES_LIKE_REF else node
        case {"Fn::GetStackOutput": {"StackName": str(stack), "OutputName": str(output), **_others}} if len(node) == 1:
            return _stack_output(stack, output, scope)
        case _:
            return {key: _replace_references(value, gone, scope) for key, value in node.items()}


def _stand_in_for(logical_id: str, gone: Mapping[str, Json], scope: Scope) -> str:
    resource_type = gone[logical_id]["Type"]
    replacement = stand_in(resource_type, scope, logical_id)
    if not replacement:
        raise ValueError(
            f"stack {scope.stack} refers to {logical_id} ({resource_type}), which the emulation leaves out "
            f"({SKIPPED[resource_type]}): give the type a stand-in in emulation/templates/adapt.py"
        )
    return replacement


def _stack_output(stack: str, output: str, scope: Scope) -> str:
    """CDK's weak references read another stack's output where they stand; moto does not know that function."""
    try:
        return scope.outputs[stack][output]
    except KeyError as error:
        raise ValueError(
            f"stack {scope.stack} reads the output {output} of {stack}, which has none of that name or is not loaded "
            f"before; loaded are {sorted(scope.outputs)}"
        ) from error


def _drop_dependencies(resource: Json, gone: Mapping[str, Json]) -> None:
    given = resource.pop("DependsOn", [])
    kept = [logical_id for logical_id in ([given] if isinstance(given, str) else given) if logical_id not in gone]
    if kept:
        resource["DependsOn"] = kept


def _plain_parameters(parameters: Mapping[str, Json]) -> tuple[Json, tuple[Note, ...]]:
    """Give parameters that AWS looks up among its public SSM parameters, which are not here, their path as value."""
    plain: Json = {}
    notes = []
    for name, parameter in parameters.items():
        if name == "BootstrapVersion":
            continue
        if parameter["Type"].startswith(_PUBLIC_PARAMETER):
            plain[name] = {**parameter, "Type": "String"}
            notes.append(
                Note(
                    logical_id=name,
                    type=parameter["Type"],
                    reason=f"public parameter {parameter.get('Default')} does not exist here: its path is its value",
                )
            )
        else:
            plain[name] = parameter
    return plain, tuple(notes)
