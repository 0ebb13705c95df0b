from collections import Counter
from collections.abc import Iterator

import pytest

from spotkeeper.control.aws.ledger import DynamoDBLedger
from spotkeeper.control.ports import Ledger
from spotkeeper.control.submission_rate import may_submit
from tests.control.fakes import MemoryLedger
from tests.control.ledger_table import TABLE, dynamodb


@pytest.fixture(params=["dynamodb", "memory"])
def ledger(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    if request.param == "memory":
        yield MemoryLedger()
    else:
        with dynamodb() as made:
            yield DynamoDBLedger(made, TABLE)


def at(second: int, millisecond: int = 0) -> str:
    return f"2026-11-23T18:00:{second:02}.{millisecond:03}+00:00"


def test_one_team_gets_half_of_a_second_and_the_others_the_rest(ledger: Ledger) -> None:
    granted = Counter(
        team
        for team in ["vision"] * 60 + ["speech"] * 15 + ["search"] * 15
        if may_submit(team, ledger=ledger, now=at(1, 999))
    )

    assert granted == {"vision": 16, "speech": 15, "search": 1}


def test_every_second_has_its_own_slots(ledger: Ledger) -> None:
    granted = [may_submit("vision", ledger=ledger, now=at(second, 500)) for second in (1, 2, 3) for _ in range(25)]

    assert granted == [*[True] * 16, *[False] * 9] * 3


def test_counters_expire_by_the_tables_time_to_live() -> None:
    with dynamodb() as client:
        may_submit("vision", ledger=DynamoDBLedger(client, TABLE), now="2026-11-23T18:00:00+00:00")

        (item,) = client.scan(TableName=TABLE)["Items"]
    assert item["pk"] == {"S": "SUBMISSIONS#1795456800"}
    assert item["expires_at"] == {"N": "1795460400"}
