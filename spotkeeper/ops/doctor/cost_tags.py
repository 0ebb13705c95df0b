"""Does AWS's bill tell environments apart?"""

from collections.abc import Iterator
from typing import Final

from spotkeeper.contract import tags
from spotkeeper.ops.doctor.examined import Examined
from spotkeeper.ops.doctor.finding import Finding

COST_TAGS: Final = (tags.ENVIRONMENT, tags.MARKET, tags.PROFILE, tags.PROJECT)
"""What hosts and volumes carry. AWS Budgets filters by the environment."""


def cost_tags_are_active(examined: Examined) -> Iterator[Finding]:
    """Each tag of hosts is activated as a cost-allocation tag. In an organization only its management account knows."""
    told = examined.client("ce").list_cost_allocation_tags(TagKeys=list(COST_TAGS))["CostAllocationTags"]
    status = {tag["TagKey"]: tag["Status"] for tag in told}
    for key in COST_TAGS:
        if status.get(key) != "Active":
            activate = f"ce update-cost-allocation-tags-status --cost-allocation-tags-status TagKey={key},Status=Active"
            yield Finding(
                subject=f"cost-allocation tag {key}",
                value=status.get(key, "not known to the bill yet"),
                expected="Active: else no cost can be told apart by it, and AWS Budgets counts nothing",
                fix=f"`aws {activate}`, up to 24 hours after the first host carried the tag",
            )
