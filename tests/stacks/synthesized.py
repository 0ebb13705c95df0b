"""Reads synthesized templates, and resolves references the way a deployment would."""

import copy
import json
from functools import cached_property
from pathlib import Path
from typing import Any

ACCOUNT = "123456789012"
REGION = "us-east-1"

Resource = dict[str, Any]
Template = dict[str, Any]

_PSEUDO = {"AWS::AccountId": ACCOUNT, "AWS::Region": REGION, "AWS::Partition": "aws", "AWS::URLSuffix": "amazonaws.com"}
# CloudFormation adds 16 characters to the logical id of AWS Batch's resources, and Ref is an ARN.
_ARN_KINDS = {
    "AWS::Batch::JobQueue": ("job-queue", ""),
    "AWS::Batch::JobDefinition": ("job-definition", ":12"),
    "AWS::Batch::ComputeEnvironment": ("compute-environment", ""),
}


class Assembly:
    """The cloud assembly of one environment."""

    def __init__(self, folder: Path, environment: str) -> None:
        self.folder = folder
        self.environment = environment

    @cached_property
    def templates(self) -> dict[str, Template]:
        """Templates by the role of their stack: storage, network, batch, recovery."""
        prefix = f"spotkeeper-{self.environment}-"
        return {
            path.name.removesuffix(".template.json").removeprefix(prefix): json.loads(path.read_text())
            for path in sorted(self.folder.glob("*.template.json"))
        }

    def resources(self, stack: str, type_: str) -> dict[str, Resource]:
        """Resources of a type, by logical id."""
        found = self.templates[stack]["Resources"]
        return {id_: resource for id_, resource in found.items() if resource["Type"] == type_}

    def one(self, stack: str, type_: str, id_prefix: str = "") -> Resource:
        """A copy of the properties of the only resource of a type whose logical id begins with a prefix."""
        found = [r for id_, r in self.resources(stack, type_).items() if id_.startswith(id_prefix)]
        assert len(found) == 1, f"{len(found)} resources of {type_} in {stack} begin with {id_prefix!r}"
        properties: Resource = copy.deepcopy(found[0]["Properties"])
        return properties

    def resolved(self, stack: str, value: Any) -> Any:
        """`value` with every reference replaced by a name of the length that AWS gives."""
        if isinstance(value, list):
            return [self.resolved(stack, item) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) != 1:
            return {key: self.resolved(stack, item) for key, item in value.items()}
        ((function, argument),) = value.items()
        return self._called(stack, function, argument)

    def _called(self, stack: str, function: str, argument: Any) -> Any:
        match function:
            case "Ref":
                return _PSEUDO.get(argument) or self._ref(stack, argument)
            case "Fn::GetAtt":
                return self.attribute(stack, argument[0], argument[1])
            case "Fn::Join":
                return argument[0].join(self.resolved(stack, argument[1]))
            case "Fn::Sub":
                for name, text in _PSEUDO.items():
                    argument = argument.replace(f"${{{name}}}", text)
                return argument
            case "Fn::ImportValue":
                return self._exported(argument)
            case "Fn::GetStackOutput":
                producer = argument["StackName"].removeprefix(f"spotkeeper-{self.environment}-")
                return self.resolved(producer, self.templates[producer]["Outputs"][argument["OutputName"]]["Value"])
            case _:
                return {function: self.resolved(stack, argument)}

    def attribute(self, stack: str, logical_id: str, name: str) -> str:
        """What Fn::GetAtt gives."""
        type_ = self.templates[stack]["Resources"][logical_id]["Type"]
        # The ARN of a log group ends with its streams.
        streams = ":*" if (type_, name) == ("AWS::Logs::LogGroup", "Arn") else ""
        return f"arn:aws:service:{REGION}:{ACCOUNT}:{logical_id}.{name}{streams}"

    def _ref(self, stack: str, logical_id: str) -> str:
        type_ = self.templates[stack]["Resources"][logical_id]["Type"]
        if type_ in _ARN_KINDS:
            kind, revision = _ARN_KINDS[type_]
            return f"arn:aws:batch:{REGION}:{ACCOUNT}:{kind}/{logical_id}-0123456789abcdef{revision}"
        return f"spotkeeper-{self.environment}-{stack}-{logical_id}-0123456789ab"

    def _exported(self, name: str) -> Any:
        for stack, template in self.templates.items():
            for output in template.get("Outputs", {}).values():
                if output.get("Export", {}).get("Name") == name:
                    return self.resolved(stack, output["Value"])
        raise AssertionError(f"no stack exports {name}")
