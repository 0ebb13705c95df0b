"""On-demand prices of SageMaker training that have a source: region -> instance type -> USD per hour, without tax.

Source: github.com/aws-samples/foundation-model-benchmarking-tool, src/fmbench/configs/pricing.yml, commit ce69968,
"SageMaker Hourly Instance Pricing"; read on 2026-11-26. AWS itself could not be reached. The file names no region and
no kind of use: the EC2 prices beside them are those of us-east-1 (compare `stacks.on_demand_prices`), and where it has
the same types, a public list that says to be the price list's `Train:` entries (us-west-2, whole cents) agrees. Its p3,
p4d and p5 are left out: AWS has lowered EC2's since. Nothing here was computed or written from memory: a type that is
not here has no known price, and the control plane takes no on-demand of it. Check before you rely on it:
aws.amazon.com/sagemaker/ai/pricing. `TrainingSettings.on_demand_prices_usd` states prices of your own, which come
first.
"""

from typing import Final

TRAINING_PRICES_USD: Final[dict[str, dict[str, str]]] = {
    "us-east-1": {
        "ml.g4dn.12xlarge": "4.89",
        "ml.g5.xlarge": "1.4084", "ml.g5.2xlarge": "1.515", "ml.g5.12xlarge": "7.09", "ml.g5.24xlarge": "10.18",
        "ml.g5.48xlarge": "20.36",
        "ml.g6.2xlarge": "1.222", "ml.g6.12xlarge": "5.752", "ml.g6.16xlarge": "4.246", "ml.g6.24xlarge": "8.344",
        "ml.g6.48xlarge": "16.688",
        "ml.m5.xlarge": "0.23",
    },
}  # fmt: skip
