import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from emulation.clock import Clock, Timer
from emulation.ec2.market import (
    Ending,
    Instance,
    Pool,
    SpotMarket,
)
from emulation.ec2.prices import expand, instance_type
from emulation.ec2.traces import Sample, Trace
from emulation.templates.deployment import Market

TYPES = ("m6i.xlarge", "m7i.xlarge", "g5.xlarge")
ZONES = ("us-east-1a", "us-east-1b")


class ManualClock(Clock):
    """A clock that a test moves by hand."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self.shortest_grace_seconds = 5.0
        self._at = datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=UTC)
        self._callbacks: list[tuple[datetime, int, Timer]] = []

    def now(self) -> datetime:
        return self._at

    def after(self, real_seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        self._callbacks.append((self._at + timedelta(seconds=real_seconds), len(self._callbacks), timer))
        return timer

    def advance(self, seconds: float) -> None:
        until = self._at + timedelta(seconds=seconds)
        while due := sorted(entry for entry in self._callbacks if entry[0] <= until):
            self._callbacks.remove(due[0])
            self._at = max(self._at, due[0][0])
            due[0][2].run()
        self._at = until


@dataclass
class Listener:
    """Notes what the market says."""

    said: list[tuple[str, str]] = field(default_factory=list)

    def capacity_changed(self) -> None:
        self.said.append(("capacity", ""))

    def rebalance_recommended(self, instance: Instance) -> None:
        self.said.append(("rebalance", instance.id))

    def interruption_noticed(self, instance: Instance) -> None:
        self.said.append(("notice", instance.id))

    def host_lost(self, instance: Instance) -> None:
        self.said.append(("lost", instance.id))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def market(clock: ManualClock, listener: Listener) -> SpotMarket:
    return SpotMarket(clock=clock, seed=3, listener=listener)


def launch(market: SpotMarket, kind: Market = "spot") -> Instance:
    instance = market.launch(TYPES, ZONES, kind)
    assert instance is not None
    return instance


def test_spot_prices_are_a_plausible_fraction_that_the_seed_decides(clock: ManualClock) -> None:
    pools = [Pool(name, zone) for name in TYPES for zone in ZONES]

    def prices(seed: int) -> list[float]:
        return [SpotMarket(clock=clock, seed=seed).usd_per_hour(pool, "spot") for pool in pools]

    assert prices(1) == prices(1)
    assert prices(1) != prices(2)
    for pool, price in zip(pools, prices(1), strict=True):
        assert 0.3 <= price / instance_type(pool.instance_type).on_demand_usd_per_hour <= 0.6


def test_launch_takes_the_cheapest_of_the_pools_that_lost_least(market: SpotMarket) -> None:
    by_price = sorted(
        (market.usd_per_hour(Pool(name, zone), "spot"), Pool(name, zone)) for name in TYPES for zone in ZONES
    )
    first = launch(market)
    assert (first.usd_per_hour, first.pool) == by_price[0]
    market.reclaim(first.id, notice=False)
    assert launch(market).pool == by_price[1][1]
    on_demand = launch(market, "on-demand")
    assert (on_demand.type, on_demand.usd_per_hour) == ("m6i.xlarge", 0.192)


def test_instance_ids_look_like_ec2s_and_follow_from_the_seed(clock: ManualClock) -> None:
    first, again = (launch(SpotMarket(clock=clock, seed=9)).id for _ in range(2))
    assert first == again
    assert len(first) == 19
    assert int(first.removeprefix("i-"), 16) >= 0


def test_dry_pools_are_passed_over_until_they_are_restored(market: SpotMarket, listener: Listener) -> None:
    everything = [Pool(name, zone) for name in TYPES for zone in ZONES]
    market.dry(*everything[1:])
    assert launch(market).pool == everything[0]
    market.dry(everything[0])
    assert market.launch(TYPES, ZONES, "spot") is None
    assert launch(market, "on-demand").market == "on-demand"
    assert listener.said == []
    market.restore(everything[2])
    assert launch(market).pool == everything[2]
    market.dry()
    assert market.launch(TYPES, ZONES, "spot") is None
    market.dry(market="on-demand")
    assert market.launch(TYPES, ZONES, "on-demand") is None
    market.restore()
    market.restore(market="on-demand")
    assert launch(market).market == "spot"
    assert listener.said == [("capacity", "")] * 3


def test_a_pool_holds_as_many_instances_as_it_has_capacity(market: SpotMarket) -> None:
    pool = Pool("m6i.xlarge", "us-east-1a")
    market.set_capacity(pool, 2)
    first, second = (market.launch([pool.instance_type], [pool.zone], "spot") for _ in range(2))
    assert first is not None
    assert second is not None
    assert market.launch([pool.instance_type], [pool.zone], "spot") is None
    market.terminate(first.id)
    assert market.launch([pool.instance_type], [pool.zone], "spot") is not None


def test_a_notice_states_a_whole_second_at_least_two_minutes_away_and_keeps_it(
    market: SpotMarket, clock: ManualClock, listener: Listener
) -> None:
    instance = launch(market)
    market.reclaim(instance.id, notice=True)
    assert instance.deadline == datetime(2026, 11, 23, 12, 2, 1, tzinfo=UTC)
    market.reclaim(instance.id, notice=True)
    clock.advance(120.7)
    assert instance.ended_at is None
    clock.advance(0.1)
    assert str(instance.ended_at) == "2026-11-23 12:02:01+00:00"
    assert instance.ending is Ending.RECLAIMED
    assert listener.said == [("notice", instance.id), ("lost", instance.id)]
    with pytest.raises(ValueError, match="ended at 12:02:01; reclaim a running one"):
        market.reclaim(instance.id, notice=False)


def test_a_reclaim_without_notice_is_immediate(market: SpotMarket, listener: Listener) -> None:
    instance = launch(market)
    market.reclaim(instance.id, notice=False)
    assert instance.ending is Ending.RECLAIMED
    assert listener.said == [("lost", instance.id)]


def test_a_rebalance_recommendation_leads_the_notice(
    market: SpotMarket, clock: ManualClock, listener: Listener
) -> None:
    instance = launch(market)
    market.reclaim(instance.id, notice=True, rebalance_lead_seconds=60)
    clock.advance(59)
    assert listener.said == [("rebalance", instance.id)]
    clock.advance(2)
    assert listener.said[1:] == [("notice", instance.id)]


def test_an_instance_given_back_before_its_deadline_is_not_lost(
    market: SpotMarket, clock: ManualClock, listener: Listener
) -> None:
    instance = launch(market)
    market.reclaim(instance.id, notice=True)
    market.terminate(instance.id)
    clock.advance(300)
    assert instance.ending is Ending.TERMINATED
    assert ("lost", instance.id) not in listener.said


def test_on_demand_gets_no_notice_but_may_die(market: SpotMarket) -> None:
    instance = launch(market, "on-demand")
    with pytest.raises(ValueError, match="is on-demand and gets no notice"):
        market.reclaim(instance.id, notice=True)
    market.reclaim(instance.id, notice=False)
    assert instance.ended_at is not None


def test_an_unknown_instance_is_named(market: SpotMarket) -> None:
    with pytest.raises(ValueError, match="there is no instance 'i-1'; there are none yet"):
        market.reclaim("i-1", notice=True)


def test_a_trace_takes_a_zones_instances_away_moves_its_prices_and_starts_over(clock: ManualClock) -> None:
    clock.speed = 60
    listener = Listener()
    market = SpotMarket(clock=clock, seed=3, listener=listener)
    zone, other = ZONES
    trace = Trace((Sample(0, True, 1.0), Sample(600, False, 1.0), Sample(1200, True, 1.5)), seconds=1800)
    pool = Pool("m6i.xlarge", zone)
    usual = market.usd_per_hour(pool, "spot")
    market.play({zone: trace}, notice=False)
    here, there = (market.launch(["m6i.xlarge"], [name], "spot") for name in ZONES)
    assert here is not None
    assert there is not None
    clock.advance(9.9)
    assert here.ended_at is None
    clock.advance(0.2)
    assert here.ending is Ending.RECLAIMED
    assert there.ended_at is None
    assert market.launch(["m6i.xlarge"], [zone], "spot") is None
    assert market.launch(["m6i.xlarge"], [zone], "on-demand") is not None
    clock.advance(10)
    assert listener.said[-1] == ("capacity", "")
    assert market.usd_per_hour(pool, "spot") == pytest.approx(min(0.192, usual * 1.5), abs=1e-4)
    again = market.launch(["m6i.xlarge"], [zone], "spot")
    assert again is not None
    clock.advance(10)
    assert again.ended_at is None
    assert market.usd_per_hour(pool, "spot") == usual
    clock.advance(10)
    assert again.ending is Ending.RECLAIMED
    assert other == there.zone


@pytest.mark.parametrize(
    ("name", "vcpus", "memory_mib", "gpus", "usd_per_hour"),
    [
        ("c6a.4xlarge", 16, 32768, 0, 0.612),
        ("r6i.4xlarge", 16, 131072, 0, 1.008),
        ("m7i.large", 2, 8192, 0, 0.1008),
        ("g5.12xlarge", 48, 196608, 4, 5.672),
    ],
)
def test_types_have_their_published_size_and_price(
    name: str, vcpus: int, memory_mib: int, gpus: int, usd_per_hour: float
) -> None:
    kind = instance_type(name)
    assert (kind.vcpus, kind.memory_mib, kind.gpus) == (vcpus, memory_mib, gpus)
    assert kind.on_demand_usd_per_hour == pytest.approx(usd_per_hour)


def test_families_and_bundles_stand_for_their_types() -> None:
    assert {kind.name for kind in expand(["g6e", "c6i.xlarge"])} >= {"g6e.xlarge", "g6e.48xlarge", "c6i.xlarge"}
    assert {kind.name.partition(".")[0] for kind in expand(["default_x86_64"])} == {"m6i", "c6i", "r6i", "c7i"}


@pytest.mark.parametrize("name", ["x9.xlarge", "m6i.tiny", "g5.metal", "zz"])
def test_an_unknown_type_is_refused_and_says_where_to_add_it(name: str) -> None:
    with pytest.raises(ValueError, match=r"knows no price of instance type .*add it to emulation/ec2/prices\.py"):
        expand([name])


@pytest.fixture
def real_clock() -> Iterator[Clock]:
    with Clock(speed=60) as clock:
        yield clock


def test_the_clock_shortens_awss_delays_but_leaves_programs_time_to_save(real_clock: Clock) -> None:
    assert real_clock.real_seconds(90) == 1.5
    assert real_clock.notice_seconds == 5
    with Clock(speed=10) as slower, Clock() as real:
        assert (slower.notice_seconds, real.notice_seconds) == (12, 120)


@pytest.mark.parametrize("speed", [0, 0.5, -1, 1e6, float("nan")])
def test_the_clock_refuses_a_speed_out_of_range(speed: float) -> None:
    with pytest.raises(ValueError, match=r"speed must be from 1 .* got"):
        Clock(speed)


def test_the_clock_runs_callbacks_in_order_of_time_and_survives_a_bad_one(real_clock: Clock) -> None:
    ran: list[str] = []
    done = threading.Event()
    real_clock.after(0.10, done.set)
    real_clock.after(0.05, lambda: ran.append("later"))
    real_clock.after(0.01, lambda: ran.append("soon"))
    real_clock.after(0.02, lambda: [][0])
    real_clock.after(0.03, lambda: ran.append("cancelled")).cancel()
    assert done.wait(5)
    assert ran == ["soon", "later"]
    assert [type(error) for error in real_clock.failures] == [IndexError]


def test_a_stopped_clock_runs_nothing_more() -> None:
    ran: list[int] = []
    with Clock() as clock:
        clock.after(0.05, lambda: ran.append(1))
    assert not threading.Event().wait(0.1)
    assert ran == []
