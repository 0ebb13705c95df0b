"""Has AWS Budgets taken the functions' right to submit?"""

from collections.abc import Iterator

from spotkeeper.ops.doctor.examined import Examined
from spotkeeper.ops.doctor.finding import Finding


def functions_may_submit(examined: Examined) -> Iterator[Finding]:
    """The second net's denying policy hangs on none of the functions' roles: runs stay SUBMITTING otherwise."""
    stops = set(examined.resources("recovery", "AWS::IAM::ManagedPolicy").values())
    if not stops:  # Without `budget_alert_emails` there is no second net.
        return
    paginator = examined.client("iam").get_paginator("list_attached_role_policies")
    for role in examined.resources("recovery", "AWS::IAM::Role").values():
        attached = {
            policy["PolicyArn"] for page in paginator.paginate(RoleName=role) for policy in page["AttachedPolicies"]
        }
        for stop in sorted(stops & attached):
            yield Finding(
                subject=f"role {role}",
                value=f"denied to submit by {stop.rpartition('/')[2]}",
                expected="not denied: AWS Budgets found the month's cap spent",
                fix="runbooks/budget-exhausted.md, C, once the month's spending is accepted",
            )
