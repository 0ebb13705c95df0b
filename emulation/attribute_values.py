"""DynamoDB's attribute values in moto's answers, found where they are.

moto looks for each member of a structure under all the names that Python code might give it. Of the ten members of an
attribute value one is there, under its own name: looking for the others took most of the time of a Query (moto 5.2.5).
"""

from typing import Any

from moto.core.serialize import SERVICE_SPECIFIC_SERIALIZERS, JSONSerializer


class _Serializer(JSONSerializer):
    def _serialize_type_structure(self, serialized: Any, value: Any, shape: Any, key: str) -> None:
        if shape.name != "AttributeValue" or not isinstance(value, dict):
            super()._serialize_type_structure(serialized, value, shape, key)
            return
        found: dict[str, Any] = {}
        for name, content in value.items():
            self._serialize(found, content, shape.members[name], name)
        serialized[key] = found


def find_at_once() -> None:
    """Make moto answer so, in this process."""
    SERVICE_SPECIFIC_SERIALIZERS["dynamodb"] = {"json": _Serializer}
