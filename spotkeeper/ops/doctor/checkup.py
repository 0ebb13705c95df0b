"""All checks, and making them: a check that cannot be made says so, and the others go on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from spotkeeper.ops import failure
from spotkeeper.ops.doctor import (
    alarms,
    cost_tags,
    dead_letters,
    event_sources,
    host_network,
    job_queues,
    kill_switch,
    metadata_service,
    quotas,
    service_roles,
    spending_stop,
    stop_timeout,
    sweeper,
    trainer_images,
)
from spotkeeper.ops.doctor.examined import Examined, StackMissing
from spotkeeper.ops.doctor.finding import Finding, NotChecked, NotCheckedHere


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One question."""

    name: str
    find: Callable[[Examined], Iterator[Finding]]
    absent_locally: str | None = None
    """What the emulation has not got for it; None: it is made there too."""


CHECKS: Final = (
    Check(name="queues", find=job_queues.queues_take_jobs),
    Check(name="quotas", find=quotas.quotas_suffice, absent_locally="the emulation has no quotas"),
    Check(
        name="service-linked roles",
        find=service_roles.service_roles_exist,
        absent_locally="nothing there acts by such a role",
    ),
    Check(name="trainer images", find=trainer_images.images_exist, absent_locally="jobs are processes of this machine"),
    Check(name="host network", find=host_network.hosts_reach_aws),
    Check(name="metadata service", find=metadata_service.metadata_is_safe_and_reachable),
    Check(name="stop time-out", find=stop_timeout.saves_fit_the_stop_timeout),
    Check(name="cost-allocation tags", find=cost_tags.cost_tags_are_active, absent_locally="there is no bill"),
    Check(name="alarms", find=alarms.alarms_exist, absent_locally="alarms are evaluated there without CloudWatch"),
    Check(
        name="alarm subscribers", find=alarms.somebody_is_told, absent_locally="it sends no e-mail and calls no pager"
    ),
    Check(name="dead letters", find=dead_letters.dead_letters_are_empty),
    Check(name="kill switch", find=kill_switch.on_demand_is_switched_on),
    Check(
        name="spending stop",
        find=spending_stop.functions_may_submit,
        absent_locally="no bill is spent there",
    ),
    Check(name="rules", find=sweeper.sweeper_is_called),
    Check(
        name="event sources",
        find=event_sources.functions_read_their_queues,
        absent_locally="its own pollers call the functions",
    ),
    Check(
        name="sweeper heartbeat",
        find=sweeper.sweeper_has_finished,
        absent_locally="its functions' metrics do not reach CloudWatch",
    ),
)


class Verdict(StrEnum):
    """What a check came to."""

    WELL = "well"
    FINDING = "finding"
    NOT_CHECKED = "not checked"
    NOT_CHECKED_HERE = "not checked here"
    """Not to be seen from here, whoever asks: the emulation lacks it, or another account has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A check that was made, or why it was not."""

    check: str
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    reason: str | None = None
    """Why it was not made, or not to its end."""

    @property
    def is_pass(self) -> bool:
        """Whether there is nothing to do: what could not be looked at is no pass."""
        return self.verdict in (Verdict.WELL, Verdict.NOT_CHECKED_HERE)


def examine(examined: Examined, checks: tuple[Check, ...] = CHECKS) -> Iterator[Result]:
    """Make the checks one after another."""
    for check in checks:
        if examined.connection.is_local and check.absent_locally is not None:
            yield Result(check=check.name, verdict=Verdict.NOT_CHECKED_HERE, reason=check.absent_locally)
        else:
            yield _made(check, examined)


def _made(check: Check, examined: Examined) -> Result:
    findings: list[Finding] = []
    reason = None
    try:
        findings.extend(check.find(examined))
    except StackMissing as missing:
        findings.append(
            Finding(subject=f"stack {missing}", value="not deployed", expected="deployed", fix=examined.deploy)
        )
    except NotChecked as not_checked:
        reason = str(not_checked)
    except NotCheckedHere as elsewhere:
        return Result(check=check.name, verdict=Verdict.NOT_CHECKED_HERE, reason=str(elsewhere))
    except (ClientError, BotoCoreError) as error:
        reason = failure.sentence(error)
    verdict = Verdict.FINDING if findings else Verdict.NOT_CHECKED if reason else Verdict.WELL
    return Result(check=check.name, verdict=verdict, findings=tuple(findings), reason=reason)
