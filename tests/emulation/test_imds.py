import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from emulation.ec2.imds import InstanceMetadata
from emulation.ec2.market import Instance

NOW = datetime(2026, 11, 23, 10, 37, 56, tzinfo=UTC)
TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"


@pytest.fixture
def metadata() -> Iterator[InstanceMetadata]:
    instance = Instance(
        id="i-0123456789abcdef0", type="g5.xlarge", zone="us-east-1b", market="spot", usd_per_hour=0.4, launched_at=NOW
    )
    server = InstanceMetadata(instance, account="123456789012", region="us-east-1")
    yield server
    server.close()


def request(
    metadata: InstanceMetadata, path: str, method: str = "GET", **headers: str
) -> tuple[int, str, dict[str, str]]:
    prepared = urllib.request.Request(
        metadata.endpoint + path,
        method=method,
        headers={name.replace("_", "-"): text for name, text in headers.items()},
    )
    try:
        with urllib.request.urlopen(prepared, timeout=5) as response:
            return response.status, response.read().decode(), dict(response.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), dict(error.headers)


def token(metadata: InstanceMetadata, ttl: str = "60") -> str:
    status, body, headers = request(metadata, "/latest/api/token", "PUT", **{TTL: ttl})
    assert (status, headers[TTL], len(body)) == (200, ttl, 44)
    return body


def get(metadata: InstanceMetadata, path: str, *, with_token: str | None = None) -> tuple[int, str]:
    status, body, _ = request(metadata, f"/latest/{path}", **{TOKEN: with_token or token(metadata)})
    return status, body


@pytest.mark.parametrize("ttl", ["", "0", "-1", "21601", "x", "1.5"])
def test_a_token_needs_a_time_to_live_in_range(metadata: InstanceMetadata, ttl: str) -> None:
    headers = {TTL: ttl} if ttl else {}
    assert request(metadata, "/latest/api/token", "PUT", **headers)[0] == 400


def test_tokens_are_put_only_and_never_through_a_proxy(metadata: InstanceMetadata) -> None:
    assert request(metadata, "/latest/api/token")[0] == 404
    assert request(metadata, "/latest/api/token", "PUT", **{TTL: "60", "X-Forwarded-For": "10.0.0.1"})[0] == 403
    assert len(token(metadata, "21600")) == 44


def test_every_read_needs_a_valid_token(metadata: InstanceMetadata) -> None:
    path = "/latest/meta-data/instance-id"
    assert request(metadata, path)[0] == 401
    assert request(metadata, path, **{TOKEN: "made-up"})[0] == 401
    assert request(metadata, "/latest/meta-data/spot/instance-action")[0] == 401  # before it says whether it is there
    short = token(metadata, "1")
    assert get(metadata, "meta-data/instance-id", with_token=short) == (200, "i-0123456789abcdef0")
    give_up = time.monotonic() + 5
    while get(metadata, "meta-data/instance-id", with_token=short)[0] == 200:
        assert time.monotonic() < give_up
        threading.Event().wait(0.05)
    assert get(metadata, "meta-data/instance-id", with_token=short)[0] == 401


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("instance-type", "g5.xlarge"),
        ("instance-life-cycle", "spot"),
        ("placement/availability-zone", "us-east-1b"),
        ("placement/availability-zone/", "us-east-1b"),
        ("placement/region", "us-east-1"),
    ],
)
def test_the_instance_describes_itself(metadata: InstanceMetadata, path: str, text: str) -> None:
    assert get(metadata, f"meta-data/{path}") == (200, text)


def test_the_identity_document_names_instance_and_account(metadata: InstanceMetadata) -> None:
    document = json.loads(get(metadata, "dynamic/instance-identity/document")[1])
    assert (document["instanceId"], document["accountId"]) == ("i-0123456789abcdef0", "123456789012")


def test_spot_paths_are_absent_until_they_are_due_and_then_stay(metadata: InstanceMetadata) -> None:
    paths = ("meta-data/spot/instance-action", "meta-data/spot/termination-time",
             "meta-data/events/recommendations/rebalance")  # fmt: skip
    assert [get(metadata, path)[0] for path in paths] == [404, 404, 404]
    metadata.recommend_rebalance(NOW)
    assert get(metadata, paths[2]) == (200, '{"noticeTime":"2026-11-23T10:37:56Z"}')
    assert get(metadata, paths[0])[0] == 404
    metadata.give_notice(NOW)
    for _ in range(2):
        assert get(metadata, paths[0]) == (200, '{"action":"terminate","time":"2026-11-23T10:37:56Z"}')
        assert get(metadata, paths[1]) == (200, "2026-11-23T10:37:56Z")


def test_a_closed_service_refuses_connections(metadata: InstanceMetadata) -> None:
    metadata.close()
    with pytest.raises(urllib.error.URLError):
        request(metadata, "/latest/api/token", "PUT", **{TTL: "60"})
