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

TIMEOUT_SECONDS: Final = 30
VISIBILITY_TIMEOUT_SECONDS: Final = 6 * TIMEOUT_SECONDS
"""Six times the function's, as AWS asks, so that a message in work is not delivered again."""
MAX_RECEIVE_COUNT: Final = 5
MAX_CONCURRENCY: Final = 5
"""A flood of events waits in the queue instead of taking the account's Lambda and AWS Batch API rates."""


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
        source: str,
        detail_types: list[str],
        detail: dict[str, Any] | None = None,
        code: lambda_.Code,
        powertools: lambda_.ILayerVersion,
        ledger: dynamodb.ITable,
        ledger_actions: list[str],
        log_retention: logs.RetentionDays,
    ) -> None:
        """Build it.

        Args:
            scope: parent construct.
            id_: construct id.
            handler: folder under `lambdas/`, verb_noun.
            description: what the function does, for people in the console.
            source: source of the events, such as `aws.batch`.
            detail_types: detail types of the events.
            detail: patterns of the events' details; None takes all.
            code: the zip of all handlers.
            powertools: layer with Powertools for AWS Lambda.
            ledger: the ledger table.
            ledger_actions: DynamoDB actions on the table (not its index) that the handler calls.
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
        queue = sqs.Queue(
            self,
            "Events",
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            visibility_timeout=cdk.Duration.seconds(VISIBILITY_TIMEOUT_SECONDS),
            retention_period=cdk.Duration.days(4),
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead_letters, max_receive_count=MAX_RECEIVE_COUNT),
        )
        cdk.Validations.of(self.dead_letters).acknowledge(
            cdk.Acknowledgment(
                id="Serverless-SQSRedrivePolicy",
                reason="This is the dead-letter queue itself; what lies here waits for a person to redrive it.",
            )
        )
        self.rule = events.Rule(
            self,
            "Rule",
            description=description,
            # The own account only: an event bus can be opened to others later.
            event_pattern=events.EventPattern(
                account=[cdk.Aws.ACCOUNT_ID], source=[source], detail_type=detail_types, detail=detail
            ),
            targets=[targets.SqsQueue(queue, dead_letter_queue=self.dead_letters)],
        )
        self.role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        self.function = self._add_function(handler, description, code, powertools, ledger, log_retention)
        self.role.add_to_policy(iam.PolicyStatement(sid="Ledger", actions=ledger_actions, resources=[ledger.table_arn]))
        self.function.add_event_source(
            event_sources.SqsEventSource(
                queue, batch_size=10, report_batch_item_failures=True, max_concurrency=MAX_CONCURRENCY
            )
        )

    def _add_function(
        self,
        handler: str,
        description: str,
        code: lambda_.Code,
        powertools: lambda_.ILayerVersion,
        ledger: dynamodb.ITable,
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
            memory_size=256,
            timeout=cdk.Duration.seconds(TIMEOUT_SECONDS),
            environment={
                environment_variables.LEDGER_TABLE: ledger.table_name,
                "POWERTOOLS_SERVICE_NAME": handler,
                "POWERTOOLS_METRICS_NAMESPACE": metrics.NAMESPACE,
            },
        )
        cdk.Validations.of(function).acknowledge(*_ACKNOWLEDGMENTS)
        # CDK makes a function depend on its role and on the role's policy alike; the first is redundant.
        accept_lint(function, "W3005")
        return function


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
