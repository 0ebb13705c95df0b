from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import app
from stacks.environments import DEV, PROD
from stacks.settings import Environment
from tests.stacks.policies import queues_of
from tests.stacks.synthesized import Assembly

HOSTS = ["Amazon Elastic Compute Cloud - Compute", "Amazon SageMaker"]
EMAILS = ("finance@example.org", "ml@example.org")


def synthesized(settings: Environment, folder: Path) -> Assembly:
    app.assemble(settings, str(folder)).synth()
    return Assembly(folder, settings.name)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    return synthesized(replace(PROD, budget_alert_emails=EMAILS), tmp_path_factory.mktemp("watched"))


def property_of(assembly: Assembly, type_: str, id_prefix: str = "SpendingStop") -> dict[str, Any]:
    resolved: dict[str, Any] = assembly.resolved("recovery", assembly.one("recovery", type_, id_prefix))
    return resolved


def test_without_somebody_to_tell_there_is_no_budget(any_environment: Assembly) -> None:
    for stack in any_environment.templates:
        assert not any_environment.resources(stack, "AWS::Budgets::Budget")
        assert not any_environment.resources(stack, "AWS::Budgets::BudgetsAction")


def test_the_budget_is_the_environments_total_cap_a_month_over_its_hosts_and_nothing_that_no_cap_counts(
    watched: Assembly,
) -> None:
    budget = property_of(watched, "AWS::Budgets::Budget")

    assert budget["Budget"] == {
        "BudgetType": "COST",
        "TimeUnit": "MONTHLY",
        "BudgetLimit": {"Amount": 20000, "Unit": "USD"},
        "CostFilters": {"Service": HOSTS, "TagKeyValue": ["user:spotkeeper:environment$prod"]},
    }
    (warning,) = budget["NotificationsWithSubscribers"]
    assert (warning["Notification"]["Threshold"], warning["Notification"]["NotificationType"]) == (80, "ACTUAL")
    assert [subscriber["Address"] for subscriber in warning["Subscribers"]] == list(EMAILS)


def test_where_spot_is_unlimited_only_on_demand_counts_and_only_its_queues_are_denied(tmp_path: Path) -> None:
    watched = synthesized(replace(DEV, budget_alert_emails=EMAILS[:1]), tmp_path)

    budget = property_of(watched, "AWS::Budgets::Budget")["Budget"]

    assert budget["BudgetLimit"]["Amount"] == 50
    assert budget["CostFilters"] == {
        "Service": HOSTS,
        "TagKeyValue": ["user:spotkeeper:environment$dev"],
        "PurchaseType": ["On Demand Instances"],
    }
    denied, training = property_of(watched, "AWS::IAM::ManagedPolicy")["PolicyDocument"]["Statement"]
    assert set(denied["Resource"]) == set(queues_of(watched, "on_demand"))
    # All of SageMaker, where IAM cannot tell spot from on-demand.
    assert (training["Action"], training["Resource"]) == ("sagemaker:CreateTrainingJob", "*")


def test_a_spent_budget_denies_the_two_functions_that_submit_to_submit_by_itself(watched: Assembly) -> None:
    action = property_of(watched, "AWS::Budgets::BudgetsAction")
    policy = property_of(watched, "AWS::IAM::ManagedPolicy")

    assert (action["ActionType"], action["ApprovalModel"]) == ("APPLY_IAM_POLICY", "AUTOMATIC")
    assert (action["ActionThreshold"], action["NotificationType"]) == ({"Type": "PERCENTAGE", "Value": 100}, "ACTUAL")
    applied = action["Definition"]["IamActionDefinition"]
    assert [role.partition("recovery-")[2].partition("Role")[0] for role in applied["Roles"]] == [
        "ObserveJob",
        "SweepRuns",
    ]
    assert "SpendingStopPolicy" in applied["PolicyArn"]
    assert [(said["Effect"], said["Action"], said["Resource"]) for said in policy["PolicyDocument"]["Statement"]] == [
        ("Deny", "batch:SubmitJob", "*"),
        ("Deny", "sagemaker:CreateTrainingJob", "*"),
    ]
    assert [subscriber["Address"] for subscriber in action["Subscribers"]] == list(EMAILS)


def test_only_this_budget_may_use_its_role_and_only_to_attach_this_policy_to_these_roles(watched: Assembly) -> None:
    role = property_of(watched, "AWS::IAM::Role", "SpendingStopExecutionRole")
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    (may,) = property_of(watched, "AWS::IAM::Policy", "SpendingStopExecutionRole")["PolicyDocument"]["Statement"]

    assert trust["Principal"] == {"Service": "budgets.amazonaws.com"}
    assert trust["Condition"]["StringEquals"] == {"aws:SourceAccount": "123456789012"}
    budget, actions = trust["Condition"]["ArnLike"]["aws:SourceArn"]
    assert budget.startswith("arn:aws:budgets::123456789012:budget/spotkeeper-prod-recovery-SpendingStopBudget")
    assert actions == f"{budget}/*"
    assert may["Action"] == ["iam:AttachRolePolicy", "iam:DetachRolePolicy"]
    assert len(may["Resource"]) == 2
    assert all("Role" in arn and "*" not in arn for arn in may["Resource"])
    assert "SpendingStopPolicy" in may["Condition"]["ArnEquals"]["iam:PolicyARN"]
