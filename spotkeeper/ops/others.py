"""Show the jobs on our queues that are no runs of Spotkeeper."""

import json
from dataclasses import asdict

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spotkeeper.contract.training import is_queue, job_of_arn
from spotkeeper.control.others import OthersJob
from spotkeeper.policy.money import format_usd


def show(jobs: tuple[OthersJob, ...], console: Console, *, as_json: bool) -> None:
    """Print the jobs, with the most that each can have cost and why it is no run."""
    if as_json:
        typer.echo(json.dumps([asdict(job) for job in jobs], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("JOB", "NAME", "QUEUE", "STATUS", "TEAM", "ATTEMPTS", "RAN", "AT MOST", "PRICED BY", "WHY NO RUN"):
        table.add_column(column, overflow="fold")
    for job in jobs:
        cost = "unpriced" if job.most_microusd is None else format_usd(job.most_microusd)
        # What stands for a queue of SageMaker names the profile before the market; a queue's ARN ends in its name.
        queue = job.queue if is_queue(job.queue) else job.queue.rpartition("/")[2]
        called = (job_of_arn(job.job_id) or job.job_id, job.name, queue, job.status, job.team)
        cells = (*called, job.num_attempts, f"{job.ran_seconds}s", cost, job.pricing, job.why_no_run)
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in cells))
    console.print(table)
