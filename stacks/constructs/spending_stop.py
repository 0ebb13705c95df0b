"""The second net: AWS's own bill, hours late, stops submissions should the reservations ever have been wrong."""

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_iam as iam
from constructs import Construct

from spotkeeper.contract import tags
from stacks.settings import Environment

WARNING_PERCENT: Final = 80
STOP_PERCENT: Final = 100


class SpendingStop(Construct):
    """A monthly budget of the environment's tagged hosts; when it is spent, the functions submit no jobs any more.

    AWS updates budgets some three times a day, so this is no cap: caps are reserved in the ledger. What runs goes on,
    and saves; what the functions would submit is refused by AWS, and its run stays SUBMITTING. They alone submit to
    on-demand. Without a total cap only on-demand counts, and spot of AWS Batch goes on; training jobs are refused on
    both markets, whatever is capped. People's roles are their own, so `spotkeeper submit` still reaches spot. To go on,
    detach the policy from the roles (docs/live-checks.md): the sweeper submits what was refused.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        environment: Environment,
        roles: list[iam.Role],
        on_demand_queue_arns: list[str],
    ) -> None:
        super().__init__(scope, id_)
        stop = iam.ManagedPolicy(
            self,
            "Policy",
            description="Spotkeeper: AWS Budgets found the month's cap spent, so no jobs are submitted",
            statements=[
                iam.PolicyStatement(
                    sid="NoMoreJobs",
                    effect=iam.Effect.DENY,
                    actions=["batch:SubmitJob"],
                    resources=["*"] if environment.total_cap_usd_per_month else on_demand_queue_arns,
                ),
                *([_no_training_jobs()] if environment.training is not None else []),
            ],
        )
        emails = environment.budget_alert_emails
        budget = budgets.CfnBudget(
            self,
            "Budget",
            budget=budgets.CfnBudget.BudgetDataProperty(
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=budgets.CfnBudget.SpendProperty(amount=float(_cap_usd(environment)), unit="USD"),
                cost_filters=_cost_filters(environment),
            ),
            notifications_with_subscribers=[
                budgets.CfnBudget.NotificationWithSubscribersProperty(
                    notification=budgets.CfnBudget.NotificationProperty(
                        comparison_operator="GREATER_THAN",
                        notification_type="ACTUAL",
                        threshold=WARNING_PERCENT,
                        threshold_type="PERCENTAGE",
                    ),
                    subscribers=[
                        budgets.CfnBudget.SubscriberProperty(address=email, subscription_type="EMAIL")
                        for email in emails
                    ],
                )
            ],
        )
        budgets.CfnBudgetsAction(
            self,
            "Action",
            budget_name=budget.ref,
            action_type="APPLY_IAM_POLICY",
            approval_model="AUTOMATIC",
            notification_type="ACTUAL",
            action_threshold=budgets.CfnBudgetsAction.ActionThresholdProperty(type="PERCENTAGE", value=STOP_PERCENT),
            definition=budgets.CfnBudgetsAction.DefinitionProperty(
                iam_action_definition=budgets.CfnBudgetsAction.IamActionDefinitionProperty(
                    policy_arn=stop.managed_policy_arn, roles=[role.role_name for role in roles]
                )
            ),
            execution_role_arn=self._execution_role(budget, stop, roles).role_arn,
            subscribers=[budgets.CfnBudgetsAction.SubscriberProperty(address=email, type="EMAIL") for email in emails],
        )

    def _execution_role(self, budget: budgets.CfnBudget, stop: iam.ManagedPolicy, roles: list[iam.Role]) -> iam.Role:
        """May attach this one policy to these roles, on behalf of this one budget."""
        source = f"arn:{cdk.Aws.PARTITION}:budgets::{cdk.Aws.ACCOUNT_ID}:budget/{budget.ref}"
        role = iam.Role(
            self,
            "ExecutionRole",
            assumed_by=iam.ServicePrincipal(
                "budgets.amazonaws.com",
                conditions={
                    "StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID},
                    # The budget itself, and its actions.
                    "ArnLike": {"aws:SourceArn": [source, f"{source}/*"]},
                },
            ),
        )
        role.add_to_policy(
            iam.PolicyStatement(
                sid="StopAndRelease",
                actions=["iam:AttachRolePolicy", "iam:DetachRolePolicy"],
                resources=[unit.role_arn for unit in roles],
                conditions={"ArnEquals": {"iam:PolicyARN": stop.managed_policy_arn}},
            )
        )
        return role


def _no_training_jobs() -> iam.PolicyStatement:
    """Stop spot with on-demand: no condition of IAM's tells them apart on SageMaker."""
    return iam.PolicyStatement(
        sid="NoMoreTrainingJobs", effect=iam.Effect.DENY, actions=["sagemaker:CreateTrainingJob"], resources=["*"]
    )


def _cap_usd(environment: Environment) -> str:
    return environment.total_cap_usd_per_month or environment.fallback_cap_usd_per_month


def _cost_filters(environment: Environment) -> dict[str, list[str]]:
    """Return which costs count: those that caps are kept for, so tagged hosts, and without a total cap on-demand only.

    Bucket, table, key and endpoints carry the tag too, and stand in no cap; volumes are billed as `EC2 - Other`.
    """
    training = ["Amazon SageMaker"] if environment.training is not None else []
    hosts = {
        "Service": ["Amazon Elastic Compute Cloud - Compute", *training],
        "TagKeyValue": [f"user:{tags.ENVIRONMENT}${environment.name}"],
    }
    return hosts if environment.total_cap_usd_per_month else {**hosts, "PurchaseType": ["On Demand Instances"]}
