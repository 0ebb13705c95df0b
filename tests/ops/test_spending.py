from typing import Any

import pytest

from spotkeeper.ops.plan import Plan, Request, plan
from spotkeeper.ops.spending import Spending, summary
from spotkeeper.policy.placement import Mode
from tests.control.fakes import NOW
from tests.ops.deployed_environment import descriptor


def made(*, profile: str = "cpu", attempt_seconds: int | None = None, **options: Any) -> Plan:
    request = Request(
        command=("python", "-c", "1"),
        profile=profile,
        attempt_seconds=attempt_seconds,
        spending=Spending.of(**options),
    )
    return plan(request, descriptor=descriptor(), base_definition=None, source=None, suffix="0a1b2c", created_at=NOW)


def test_without_options_a_run_spends_nothing_on_on_demand() -> None:
    run = made().run

    assert (run.fallback_cap_microusd, run.total_cap_microusd, run.mode, run.sweep) == (0, None, "budget-first", None)
    assert made().warnings == ()


def test_every_option_reaches_the_run() -> None:
    run = made(
        fallback_cap="$20",
        total_cap="100.50",
        mode="deadline-first",
        sweep="lr",
        sweep_fallback_cap="200",
        sweep_total_cap="1000",
    ).run

    assert (run.fallback_cap_microusd, run.total_cap_microusd) == (20_000_000, 100_500_000)
    assert (run.mode, run.sweep) == (Mode.DEADLINE_FIRST.value, "lr")
    assert (run.sweep_fallback_cap_microusd, run.sweep_total_cap_microusd) == (200_000_000, 1_000_000_000)


@pytest.mark.parametrize("option", ["fallback_cap", "total_cap", "sweep_fallback_cap", "sweep_total_cap"])
@pytest.mark.parametrize("text", ["10,00", "-1", "1e308", "NaN", "inf", "", "ten"])
def test_what_is_no_amount_is_refused_with_its_option_and_its_value(option: str, text: str) -> None:
    name = "--" + option.replace("_", "-")

    with pytest.raises(ValueError, match=f"^{name} must be US dollars .* got {text!r}$"):
        Spending.of(**{"fallback_cap": "1", "sweep": "lr", option: text})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mode": "fast"}, "--mode must be one of budget-first, deadline-first, got 'fast'"),
        ({"mode": "deadline-first"}, r"--mode deadline-first needs a --fallback-cap above \$0, got \$0.00"),
        ({"sweep_total_cap": "5"}, "without its name: add --sweep NAME"),
        ({"sweep": "Grid!"}, "--sweep must be 1 to 40 of a-z"),
        (
            {"sweep": "lr", "sweep_fallback_cap": "5"},
            r"own --fallback-cap is \$0, .* give --fallback-cap too",
        ),
    ],
)
def test_options_that_would_not_do_what_they_say_are_refused_with_the_fix(options: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Spending.of(**options)


@pytest.mark.parametrize("options", [{"total_cap": "5"}, {"sweep": "lr", "sweep_total_cap": "5"}])
def test_a_total_cap_without_prices_is_refused_since_no_hour_of_spot_could_be_leased(options: Any) -> None:
    with pytest.raises(ValueError, match=r"cannot be kept for profile 'gpu-24gb', .* of m6i.xlarge, m7i.xlarge is not"):
        made(profile="gpu-24gb", **options)
    assert made(**options).warnings == ()


def test_a_fallback_without_a_price_is_warned_of_with_what_to_do() -> None:
    (warning,) = made(profile="gpu-24gb", fallback_cap="20").warnings

    assert "'gpu-24gb' the price of m6i.xlarge is not known; add the prices" in warning
    assert "on_demand_prices_usd" in warning


def test_a_cap_too_small_for_the_shortest_attempt_is_warned_of_with_both_amounts() -> None:
    # $3.60 an hour for 900 s, 150 s to stop, 1,500 s around, 2,100 s of a start that hangs, and a twin of 2,100 s.
    assert made(fallback_cap="6.75").warnings == ()
    (warning,) = made(fallback_cap="6.74").warnings
    assert "reserves $6.75, and its caps allow $6.74; raise" in warning
    (warning,) = made(fallback_cap="20", total_cap="1").warnings
    assert "allow $1.00" in warning
    assert made(fallback_cap="5.91", attempt_seconds=60).warnings == ()
    assert made(fallback_cap="1", mode="deadline-first").warnings == ()


def test_the_summary_names_every_cap() -> None:
    assert summary(made().run) == "caps: on-demand $0.00, total unlimited, budget-first"
    assert summary(made(fallback_cap="20", total_cap="9.5", sweep="lr", sweep_total_cap="70").run) == (
        "caps: on-demand $20.00, total $9.50, budget-first; sweep lr: on-demand unlimited, total $70.00"
    )
