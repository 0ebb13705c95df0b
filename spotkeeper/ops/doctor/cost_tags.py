"""Does AWS's bill tell environments apart?"""

from collections.abc import Iterator
from typing import Final

from botocore.exceptions import ClientError

from spotkeeper.contract import tags
from spotkeeper.ops.doctor.examined import Examined
from spotkeeper.ops.doctor.finding import Finding, NotCheckedHere

COST_TAGS: Final = (tags.ENVIRONMENT, tags.MARKET, tags.PROFILE, tags.PROJECT)
"""What hosts and volumes carry. AWS Budgets filters by the environment."""
_MEMBER_ACCOUNT: Final = "Linked account"


def cost_tags_are_active(examined: Examined) -> Iterator[Finding]:
    """Each tag of hosts is activated as a cost-allocation tag."""
    status = {tag["TagKey"]: tag["Status"] for tag in _known(examined)}
    for key in COST_TAGS:
        if status.get(key) != "Active":
            activate = f"ce update-cost-allocation-tags-status --cost-allocation-tags-status TagKey={key},Status=Active"
            yield Finding(
                subject=f"cost-allocation tag {key}",
                value=status.get(key, "not known to the bill yet"),
                expected="Active: else no cost can be told apart by it, and AWS Budgets counts nothing",
                fix=f"`aws {activate}`, up to 24 hours after the first host carried the tag",
            )


def _known(examined: Examined) -> list[dict[str, str]]:
    keys = list(COST_TAGS)
    try:
        told: list[dict[str, str]] = examined.client("ce").list_cost_allocation_tags(TagKeys=keys)["CostAllocationTags"]
    except ClientError as error:
        # Of a missing permission AWS says who may not call what; this is what it says to every role of such an account.
        if _MEMBER_ACCOUNT not in error.response["Error"]["Message"]:
            raise
        raise NotCheckedHere(
            "only the management account of your organization knows: "
            f"ask there for `aws ce list-cost-allocation-tags --tag-keys {' '.join(keys)}`"
        ) from error
    return told
