"""On-demand prices that have a source: region -> instance type -> USD per hour, Linux, shared tenancy, without tax.

Source: github.com/skypilot-org/skypilot-catalog, catalogs/v8/aws/vms.csv, commit 00148f2, a mirror of AWS's public
price list; read on 2026-11-23. The file has no date of its own and is not older than 2026-01-22. Nothing here was
computed, interpolated or written from memory: a type that is not here has no known price. Check before you rely on it:
aws.amazon.com/ec2/pricing/on-demand. `Environment.on_demand_prices_usd` states prices of your own, which come first.
"""

from typing import Final

_US: Final = {
    "c6a.4xlarge": "0.612", "c6i.4xlarge": "0.68", "c7i.4xlarge": "0.714",
    "g4dn.xlarge": "0.526", "g4dn.12xlarge": "3.912",
    "g5.xlarge": "1.006", "g5.2xlarge": "1.212", "g5.12xlarge": "5.672", "g5.48xlarge": "16.288",
    "g6.xlarge": "0.8048", "g6.2xlarge": "0.9776", "g6.12xlarge": "4.6016",
    "g6e.xlarge": "1.861", "g6e.12xlarge": "10.49264",
    "m6i.4xlarge": "0.768", "m7i.4xlarge": "0.8064",
    "p5.48xlarge": "55.04", "r6i.4xlarge": "1.008", "trn1.32xlarge": "21.5",
}  # fmt: skip
"""The same in the three regions below."""

ON_DEMAND_PRICES_USD: Final[dict[str, dict[str, str]]] = {
    "us-east-1": {**_US, "p4d.24xlarge": "21.957642"},
    "us-east-2": {**_US, "p4d.24xlarge": "21.95764"},
    "us-west-2": {**_US, "p4d.24xlarge": "21.95764"},
    "eu-west-1": {
        "c6a.4xlarge": "0.65664", "c6i.4xlarge": "0.7296", "c7i.4xlarge": "0.76608",
        "g4dn.xlarge": "0.587",
        "g5.xlarge": "1.123", "g5.12xlarge": "6.33167", "g5.48xlarge": "18.18233",
        "m6i.4xlarge": "0.856", "m7i.4xlarge": "0.8988",
        "p4d.24xlarge": "23.71569", "r6i.4xlarge": "1.128",
    },
}  # fmt: skip
