"""Do the functions read their queues? A deployment does not say: CloudFormation looks at its last template alone."""

from collections.abc import Iterator

from spotkeeper.ops.doctor.examined import Examined
from spotkeeper.ops.doctor.finding import Finding


def functions_read_their_queues(examined: Examined) -> Iterator[Finding]:
    """Each event source mapping is enabled, and its function may run as often at once as the mapping asks for."""
    client = examined.client("lambda")
    for uuid in examined.resources("recovery", "AWS::Lambda::EventSourceMapping").values():
        mapping = client.get_event_source_mapping(UUID=uuid)
        function = mapping["FunctionArn"].rpartition(":")[2]
        if mapping["State"] != "Enabled":
            yield Finding(
                subject=f"event source mapping of {function}",
                value=mapping["State"],
                expected="Enabled: what stands in its queue is handled by nobody otherwise",
                fix=examined.aws(f"lambda update-event-source-mapping --uuid {uuid} --enabled"),
            )
        most = mapping["ScalingConfig"]["MaximumConcurrency"]
        reserved = client.get_function_concurrency(FunctionName=function).get("ReservedConcurrentExecutions")
        if reserved is not None and reserved < most:
            yield Finding(
                subject=f"reserved concurrency of {function}",
                value=str(reserved),
                expected=f"none, or {most} at least: messages that find no place become dead letters",
                fix=examined.aws(f"lambda delete-function-concurrency --function-name {function}"),
            )
