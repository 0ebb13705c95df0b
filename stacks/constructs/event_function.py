"""How an AWS event reaches a function: rule, queue, function, and a queue for what could not be handled."""

from typing import Any, Final

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as event_sources
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from spotkeeper.contract import environment_variables, metrics
from stacks.constructs.cfn_lint import accept_lint
from stacks.constructs.service_trust import any_account

TIMEOUT_SECONDS: Final = 60
"""More than twice what a call takes that AWS does not answer, so that one such call leaves time for other messages."""
VISIBILITY_TIMEOUTS: Final = 6
"""The queue's visibility time-out in the function's, as AWS asks, so that a message in work is not delivered again."""
MAX_RECEIVE_COUNT: Final = 5
BATCH_SIZE: Final = 10
MAX_CONCURRENCY: Final = 5
"""A flood of events waits in the queue instead of taking the account's Lambda and AWS Batch API rates."""
KEPT_SECONDS: Final = 4 * 86400
LONGEST_EVENT_AGE_SECONDS: Final = 86400
"""EventBridge tries for so long at most to put an event into a queue."""
MEMORY_MB: Final = 256


class EventFunction(Construct):
    """One handler, the events that it gets, and the ledger actions that it may take.

    A queue stands between rule and function, so that EventBridge's retries and the function's failures end in
    one place: the dead-letter queue, from which they can be redriven.
    """

    function: lambda_.Function
    role: iam.Role
    rule: events.Rule
    dead_letters: sqs.Queue

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        handler: str,
        description: str,
        when: events.EventPattern | events.Schedule,
        timeout_seconds: int = TIMEOUT_SECONDS,
        batch_size: int = BATCH_SIZE,
        max_concurrency: int = MAX_CONCURRENCY,
        kept_seconds: int = KEPT_SECONDS,
        memory_mb: int = MEMORY_MB,
        code: lambda_.Code,
        powertools: lambda_.ILayerVersion,
        ledger: dynamodb.ITable,
        ledger_actions: list[str],
        variables: dict[str, str],
        log_retention: logs.RetentionDays,
    ) -> None:
        """Build it.

        Args:
            scope: parent construct.
            id_: construct id.
            handler: folder under `lambdas/`, verb_noun.
            description: what the function does, for people in the console.
            when: which events it gets (see `own_events`), or how often it is called.
            timeout_seconds: of the function.
            batch_size: most messages that it gets at once.
            max_concurrency: most that run at once.
            kept_seconds: how long a message waits for it, redeliveries included, before it is dropped.
            memory_mb: of the function; its share of a processor grows with it.
            code: the zip of all handlers.
            powertools: layer with Powertools for AWS Lambda.
            ledger: the ledger table.
            ledger_actions: DynamoDB actions on the table (not its index) that the handler calls.
            variables: environment of the function.
            log_retention: of the function's log group.
        """
        super().__init__(scope, id_)
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=cdk.Duration.days(14),
        )
        self._kept_seconds = kept_seconds
        self._queue = queue = sqs.Queue(
            self,
            "Events",
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            visibility_timeout=cdk.Duration.seconds(VISIBILITY_TIMEOUTS * timeout_seconds),
            retention_period=cdk.Duration.seconds(kept_seconds),
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead_letters, max_receive_count=MAX_RECEIVE_COUNT),
        )
        cdk.Validations.of(self.dead_letters).acknowledge(
            cdk.Acknowledgment(
                id="Serverless-SQSRedrivePolicy",
                reason="This is the dead-letter queue itself; what lies here waits for a person to redrive it.",
            )
        )
        self.rule = self._add_rule("Rule", description, when)
        self.role = iam.Role(self, "Role", assumed_by=any_account("lambda.amazonaws.com"))
        self.function = self._add_function(
            handler=handler,
            description=description,
            timeout_seconds=timeout_seconds,
            memory_mb=memory_mb,
            code=code,
            powertools=powertools,
            variables={
                **variables,
                environment_variables.LEDGER_TABLE: ledger.table_name,
                "POWERTOOLS_SERVICE_NAME": handler,
                "POWERTOOLS_METRICS_NAMESPACE": metrics.NAMESPACE,
            },
            log_retention=log_retention,
        )
        self.role.add_to_policy(iam.PolicyStatement(sid="Ledger", actions=ledger_actions, resources=[ledger.table_arn]))
        self.function.add_event_source(
            event_sources.SqsEventSource(
                queue, batch_size=batch_size, report_batch_item_failures=True, max_concurrency=max_concurrency
            )
        )

    def also_on(self, id_: str, description: str, when: events.EventPattern) -> events.Rule:
        """Deliver further events by the same queue; EventBridge's rules match one pattern each."""
        return self._add_rule(id_, description, when)

    def _add_rule(self, id_: str, description: str, when: events.EventPattern | events.Schedule) -> events.Rule:
        return events.Rule(
            self,
            id_,
            description=description,
            event_pattern=when if isinstance(when, events.EventPattern) else None,
            schedule=when if isinstance(when, events.Schedule) else None,
            targets=[
                targets.SqsQueue(
                    self._queue,
                    dead_letter_queue=self.dead_letters,
                    max_event_age=cdk.Duration.seconds(min(self._kept_seconds, LONGEST_EVENT_AGE_SECONDS)),
                )
            ],
        )

    def _add_function(
        self,
        *,
        handler: str,
        description: str,
        timeout_seconds: int,
        memory_mb: int,
        code: lambda_.Code,
        powertools: lambda_.ILayerVersion,
        variables: dict[str, str],
        log_retention: logs.RetentionDays,
    ) -> lambda_.Function:
        log_group = logs.LogGroup(self, "Logs", retention=log_retention, removal_policy=cdk.RemovalPolicy.DESTROY)
        log_group.grant_write(self.role)
        function = lambda_.Function(
            self,
            "Function",
            description=description,
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.ARM_64,
            handler=f"lambdas.{handler}.handler.handle",
            code=code,
            layers=[powertools],
            role=self.role,
            log_group=log_group,
            memory_size=memory_mb,
            timeout=cdk.Duration.seconds(timeout_seconds),
            environment=variables,
        )
        cdk.Validations.of(function).acknowledge(*_ACKNOWLEDGMENTS)
        # CDK makes a function depend on its role and on the role's policy alike; the first is redundant.
        accept_lint(function, "W3005")
        return function


def own_events(source: str, detail_types: list[str], detail: dict[str, Any] | None = None) -> events.EventPattern:
    """Return the pattern of these events of the own account: an event bus can be opened to others later."""
    return events.EventPattern(account=[cdk.Aws.ACCOUNT_ID], source=[source], detail_type=detail_types, detail=detail)


_ACKNOWLEDGMENTS: Final = (
    *(
        cdk.Acknowledgment(
            id=id_,
            reason="The runtime is raised together with the Powertools layer and the Python that the handlers are "
            "tested with; AWS supports Python 3.13 until 2029.",
        )
        for id_ in ("AwsSolutions-L1", "Serverless-LambdaLatestVersion")
    ),
    *(
        cdk.Acknowledgment(
            id=id_,
            reason="Events come from a queue: a message that fails stays there, and its redrive policy moves it to "
            "the dead-letter queue. A target of the function or mapping would never be used.",
        )
        for id_ in ("Serverless-LambdaDLQ", "Serverless-LambdaEventSourceMappingDestination")
    ),
    cdk.Acknowledgment(
        id="Serverless-LambdaTracing",
        reason="One function behind one queue calls one or two APIs; its log lines carry event and run, and tracing "
        "would add a permission on every resource.",
    ),
)
