"""The thirteen conformance cases of a client that must survive every answer, and the lack of any."""

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from spotkeeper.trainer.imds import Imds, ImdsUnavailableError
from spotkeeper.trainer.notice import (
    INTERRUPTION_PATH,
    POLL_SECONDS,
    REBALANCE_PATH,
    NoticeWatch,
    parse_interruption,
    parse_rebalance,
)
from tests.trainer.conftest import closed_port
from tests.trainer.fake_imds import HTML_404, TOKEN_PATH, FakeImds

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
IN_TWO_MINUTES = {"action": "terminate", "time": "2026-11-23T10:02:00Z"}


@contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """Serve these bytes to every request, whatever it is, and close."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(reply)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def wait_until(condition: object, deadline_seconds: float = 10) -> None:
    assert callable(condition)
    give_up_at = time.monotonic() + deadline_seconds
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen in time"
        time.sleep(0.02)


def test_1_nothing_there_is_no_notice_and_no_error(imds: FakeImds) -> None:
    client = Imds(imds.endpoint)

    assert client.read(INTERRUPTION_PATH) is None
    assert client.read(REBALANCE_PATH) is None
    assert [request for request in imds.requests if request[1] == TOKEN_PATH] == [("PUT", TOKEN_PATH)]


def test_1_a_watch_that_is_told_of_nothing_goes_on_asking(imds: FakeImds) -> None:
    with NoticeWatch(Imds(imds.endpoint)) as watch:
        wait_until(lambda: len([1 for _, path in imds.requests if path.endswith(REBALANCE_PATH)]) >= 2)

        assert (watch.interruption, watch.rebalance, watch.take_news()) == (None, None, [])
        assert watch.budget_seconds() is None


@pytest.mark.parametrize("indent", [None, "\t"])
def test_2_a_notice_is_understood_compact_and_indented(imds: FakeImds, indent: str | None) -> None:
    imds.documents[INTERRUPTION_PATH] = json.dumps(IN_TWO_MINUTES, indent=indent)

    text = Imds(imds.endpoint).read(INTERRUPTION_PATH)

    assert text is not None
    notice = parse_interruption(text, now=NOW)
    assert notice is not None
    assert (notice.action, notice.deadline) == ("terminate", NOW + timedelta(minutes=2))


def test_3_a_token_refused_in_mid_life_is_renewed_once(imds: FakeImds) -> None:
    client = Imds(imds.endpoint)
    client.read(INTERRUPTION_PATH)
    imds.forget_tokens()
    imds.requests.clear()

    assert client.read(INTERRUPTION_PATH) is None

    assert [method for method, _ in imds.requests] == ["GET", "PUT", "GET"]


def test_3_a_service_that_refuses_every_token_is_not_asked_for_ever(imds: FakeImds) -> None:
    imds.granted_ttl_seconds = 0
    client = Imds(imds.endpoint)

    with pytest.raises(ImdsUnavailableError, match="401"):
        client.read(INTERRUPTION_PATH)

    assert [method for method, _ in imds.requests] == ["PUT", "GET", "PUT", "GET"]


def test_4_a_token_that_expires_early_is_replaced(imds: FakeImds) -> None:
    imds.granted_ttl_seconds = 0.05
    client = Imds(imds.endpoint)
    client.read("instance-id")
    first = len(imds.requests)
    wait_until(lambda: not imds.has_live_token())

    assert client.read("instance-id") is None

    assert [method for method, _ in imds.requests[first:]] == ["GET", "PUT", "GET"]


def test_5_the_first_deadline_is_kept_when_it_drifts(imds: FakeImds) -> None:
    imds.documents[INTERRUPTION_PATH] = json.dumps(IN_TWO_MINUTES)
    with NoticeWatch(Imds(imds.endpoint)) as watch:
        wait_until(lambda: watch.interruption is not None)
        imds.documents[INTERRUPTION_PATH] = json.dumps({**IN_TWO_MINUTES, "time": "2026-11-23T10:09:00Z"})
        seen = len(imds.requests)
        wait_until(lambda: len(imds.requests) > seen, 3 * POLL_SECONDS)

    assert watch.interruption is not None
    assert watch.interruption.deadline == NOW + timedelta(minutes=2)


def test_6_hibernation_begins_now() -> None:
    notice = parse_interruption('{"action": "hibernate", "time": "2026-11-23T10:02:00Z"}', now=NOW)

    assert notice is not None
    assert notice.deadline == NOW


def test_6_hibernation_leaves_no_budget_that_can_be_told(imds: FakeImds) -> None:
    imds.documents[INTERRUPTION_PATH] = json.dumps({**IN_TWO_MINUTES, "action": "hibernate"})
    with NoticeWatch(Imds(imds.endpoint)) as watch:
        wait_until(lambda: watch.interruption is not None)

        assert watch.budget_seconds() is None


def test_7_a_rebalance_recommendation_is_no_interruption(imds: FakeImds) -> None:
    imds.documents[REBALANCE_PATH] = '{"noticeTime": "2026-11-23T10:00:00Z"}'
    with NoticeWatch(Imds(imds.endpoint)) as watch:
        wait_until(lambda: watch.rebalance is not None)

    assert watch.interruption is None
    assert [notice.kind for notice in watch.take_news()] == ["rebalance"]
    assert watch.take_news() == []


@pytest.mark.parametrize("status", [400, 403, 405, 500])
def test_8_a_service_without_tokens_counts_as_absent(imds: FakeImds, status: int) -> None:
    imds.token_status = status

    with pytest.raises(ImdsUnavailableError, match=str(status)):
        Imds(imds.endpoint).read(INTERRUPTION_PATH)


def test_8_a_token_that_never_comes_as_behind_a_hop_limit_counts_as_an_absent_service(imds: FakeImds) -> None:
    imds.answer_after_seconds = 1

    with pytest.raises(ImdsUnavailableError, match=r"PUT .*TimeoutError"):
        Imds(imds.endpoint, timeout_seconds=0.05).read(INTERRUPTION_PATH)


@pytest.mark.parametrize("token", ["", "two\nlines", "naïve"])
def test_8_a_token_that_is_none_is_not_sent_back(token: str) -> None:
    body = token.encode()
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with answering(reply) as endpoint, pytest.raises(ImdsUnavailableError, match="PUT token answered 200"):
        Imds(endpoint).read(INTERRUPTION_PATH)


@pytest.mark.parametrize(
    "text",
    [
        "",
        HTML_404,
        '{"action": "terminate", "ti',
        '["terminate"]',
        '{"action": "terminate"}',
        '{"action": "terminate", "time": "soon"}',
        '{"action": "terminate", "time": "2026-11-23T10:02:00"}',
        '{"action": "dance", "time": "2026-11-23T10:02:00Z"}',
    ],
)
def test_9_an_answer_that_is_no_notice_is_ignored(text: str) -> None:
    assert parse_interruption(text, now=NOW) is None
    assert parse_rebalance(text) is None


def test_9_after_a_broken_answer_the_next_one_counts(imds: FakeImds) -> None:
    imds.documents[INTERRUPTION_PATH] = '{"action": "term'
    with NoticeWatch(Imds(imds.endpoint)) as watch:
        wait_until(lambda: len(imds.requests) >= 3)
        assert watch.interruption is None
        imds.documents[INTERRUPTION_PATH] = json.dumps(IN_TWO_MINUTES)
        wait_until(lambda: watch.interruption is not None, 3 * POLL_SECONDS)


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 56\r\n\r\nAQAE",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe",
        b"HTTP/1.1 2",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"",
    ],
)
def test_9_what_is_cut_off_or_no_http_counts_as_no_answer(reply: bytes) -> None:
    with answering(reply) as endpoint, pytest.raises(ImdsUnavailableError):
        Imds(endpoint).read(INTERRUPTION_PATH)


def test_10_a_refused_connection_is_an_absent_service() -> None:
    with pytest.raises(ImdsUnavailableError, match="ConnectionRefused"):
        Imds(f"http://127.0.0.1:{closed_port()}").read(INTERRUPTION_PATH)


def test_10_a_service_that_hangs_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(ImdsUnavailableError, match="TimeoutError"):
            Imds(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=0.1).read(INTERRUPTION_PATH)

    assert time.monotonic() - began < 2


def test_11_a_time_in_the_past_is_still_a_notice() -> None:
    notice = parse_interruption(json.dumps(IN_TWO_MINUTES), now=NOW + timedelta(hours=1))

    assert notice is not None
    assert notice.deadline == NOW + timedelta(minutes=2)


def test_11_a_time_in_the_past_is_no_deadline_to_go_by(imds: FakeImds) -> None:
    imds.documents[INTERRUPTION_PATH] = json.dumps({"action": "terminate", "time": "2020-01-01T00:00:00Z"})
    with NoticeWatch(Imds(imds.endpoint)) as watch:
        wait_until(lambda: watch.interruption is not None)

        assert watch.budget_seconds() is None


def test_11_a_time_ahead_leaves_a_budget_less_a_margin(imds: FakeImds) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=120)
    imds.documents[INTERRUPTION_PATH] = json.dumps({"action": "stop", "time": f"{deadline:%Y-%m-%dT%H:%M:%SZ}"})
    with NoticeWatch(Imds(imds.endpoint)) as watch:
        wait_until(lambda: watch.interruption is not None)

        budget = watch.budget_seconds()
        assert budget is not None
        assert 100 < budget <= 112


def test_12_proxy_variables_are_not_used(imds: FakeImds, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    imds.documents["instance-id"] = "i-0123456789abcdef0"

    assert Imds(imds.endpoint).read("instance-id") == "i-0123456789abcdef0"


def test_13_polling_is_at_least_as_frequent_as_ec2_recommends(imds: FakeImds) -> None:
    with NoticeWatch(Imds(imds.endpoint)):
        began = time.monotonic()
        wait_until(lambda: len([1 for _, path in imds.requests if path.endswith(INTERRUPTION_PATH)]) >= 2)
        waited = time.monotonic() - began

    assert waited < 5


def test_a_service_that_comes_up_late_is_an_absent_one_until_then(imds: FakeImds) -> None:
    client = Imds(imds.endpoint)
    imds.token_status = 500
    with pytest.raises(ImdsUnavailableError):
        client.read("instance-id")
    imds.token_status = 200
    imds.documents["instance-id"] = "i-1"

    assert client.read("instance-id") == "i-1"


def test_one_hiccup_of_a_service_that_is_there_does_not_slow_polling(imds: FakeImds) -> None:
    with NoticeWatch(Imds(imds.endpoint)) as watch:
        wait_until(lambda: len(imds.requests) >= 3)
        imds.token_status = 503
        imds.forget_tokens()
        asked = len(imds.requests)
        wait_until(lambda: len(imds.requests) > asked + 1)
        imds.token_status = 200
        imds.documents[INTERRUPTION_PATH] = json.dumps(IN_TWO_MINUTES)
        wait_until(lambda: watch.interruption is not None)


def test_a_signal_that_nobody_hears_is_not_swallowed_for_ever(imds: FakeImds) -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: received.append(number))
    try:
        with NoticeWatch(Imds(imds.endpoint), signal_patience_seconds=0.05) as left:
            signal.raise_signal(signal.SIGTERM)
            assert (left.signal_name, received) == ("SIGTERM", [])
            signal_at = time.monotonic()
            wait_until(lambda: time.monotonic() > signal_at + 0.1)
            signal.raise_signal(signal.SIGTERM)
            assert received == [signal.SIGTERM]
        with NoticeWatch(Imds(imds.endpoint), signal_patience_seconds=0.05) as heard:
            signal.raise_signal(signal.SIGTERM)
            assert [notice.kind for notice in heard.take_news()] == ["SIGTERM"]
            signal_at = time.monotonic()
            wait_until(lambda: time.monotonic() > signal_at + 0.1)
            signal.raise_signal(signal.SIGTERM)
            assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_endpoint_may_have_a_path_of_its_own(imds: FakeImds) -> None:
    client = Imds(imds.endpoint + "/i-7/")

    with pytest.raises(ImdsUnavailableError):
        client.read("instance-id")
    assert imds.requests == [("PUT", "/i-7/latest/api/token")]


@pytest.mark.parametrize("endpoint", ["169.254.169.254", "https://169.254.169.254", "http://"])
def test_an_endpoint_that_is_no_http_address_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="AWS_EC2_METADATA_SERVICE_ENDPOINT must be"):
        Imds(endpoint)
