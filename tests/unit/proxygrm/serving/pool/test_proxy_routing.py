from __future__ import annotations

import pytest

from proxygrm.core.errors import UserError
from proxygrm.serving.chat.failures import kind_of_status
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.breaker import MAX_BACK_OFF_S, Breaker
from proxygrm.serving.pool.hedging import BURST, NEEDED_LATENCIES, Hedging
from proxygrm.serving.pool.routing import (
    Cause,
    Route,
    back_off_s,
    cause_of,
    choose,
    gives_up,
    pick,
    preference,
    prompt_key,
)
from proxygrm.serving.settings import ProxySettings
from support.refusals import refused

pytestmark = pytest.mark.slow

URLS = [f"http://10.0.0.{i}:9000" for i in range(4)]
A, B, C, D = URLS


def limits(full: int, **other: int) -> dict[str, int]:
    return {url: other.get("abcd"[i], full) for i, url in enumerate(URLS)}


def route(avoid=(), order=URLS):
    return Route(b"key", order, set(avoid))


def load(*numbers: int) -> dict[str, int]:
    return dict(zip(URLS, numbers, strict=True))


def test_rollouts_of_one_prompt_prefer_one_replica_and_prompts_spread_evenly():
    keys = [prompt_key(f"question {i}", "a", "b", [b"image"]) for i in range(2000)]
    first = [preference(key, URLS)[0] for key in keys]
    assert preference(keys[0], URLS) == preference(keys[0], URLS[::-1])
    assert all(400 < first.count(url) < 600 for url in URLS)


def test_a_replica_that_leaves_moves_only_its_own_prompts():
    keys = [prompt_key(f"question {i}", "a", "b", []) for i in range(500)]
    for key in keys:
        before = preference(key, URLS)
        after = preference(key, [url for url in URLS if url != before[-1]])
        assert after == before[:-1]


def test_the_key_tells_parts_apart_that_read_alike_when_joined():
    assert prompt_key("ab", "c", "d", []) != prompt_key("a", "bc", "d", [])
    assert prompt_key("a", "b", "c", [b"x"]) != prompt_key("a", "b", "c", [])


def test_a_full_replica_spills_to_the_least_loaded_and_full_replicas_make_the_call_wait():
    assert choose(route(), load(8, 5, 3, 8), limits(9)) == A
    assert choose(route(), load(8, 5, 3, 8), limits(8)) == C
    assert choose(route(), load(8, 5, 3, 8), limits(3)) is None
    assert choose(route(), load(8, 5, 3, 8), limits(8), spill=False) is None
    assert choose(route(), load(8, 5, 3, 8), limits(8), warm={B}, spill=False) == B


def test_a_prompt_that_spilled_stays_where_its_prefix_is():
    assert choose(route(), load(2, 5, 0, 0), limits(8), warm={B}) == B
    assert choose(route(), load(2, 8, 1, 0), limits(8), warm={B}) == A


def test_a_replica_that_failed_is_asked_again_only_when_there_is_no_other():
    assert choose(route(avoid=[A]), load(0, 0, 0, 0), limits(4)) == B
    assert choose(route(avoid=[A]), load(0, 4, 4, 4), limits(4)) is None
    assert choose(route(avoid=[A]), load(0, 0, 0, 0), limits(0, a=4)) == A


def test_a_replica_whose_breaker_is_open_gets_nothing_and_its_prompts_have_another_home():
    assert choose(route(), load(0, 3, 0, 0), limits(4, a=0)) == B
    assert choose(route(), load(0, 0, 0, 0), limits(0)) is None


def test_a_free_place_goes_to_the_oldest_call_that_belongs_there_and_else_to_a_prompt_not_started():
    elsewhere, here = route(), route(order=[B, A, C, D])
    assert pick([(1, elsewhere, ()), (2, here, ()), (3, here, ())], B, limits(4)) == 2
    assert pick([(1, elsewhere, ()), (2, elsewhere, {B}), (3, here, ())], B, limits(4)) == 2
    assert pick([(1, here, {C}), (2, elsewhere, {A}), (3, elsewhere, ())], B, limits(4)) == 3
    assert pick([(1, elsewhere, {A}), (2, elsewhere, {A})], B, limits(4)) == 1
    assert pick([(1, route(avoid=[B]), {B})], B, limits(4)) is None
    assert pick([(1, route(avoid=[B]), ())], B, limits(0, b=1)) == 1
    assert pick([], B, limits(4)) is None
    assert pick([(1, elsewhere, ())], B, limits(4), spill=False) is None
    assert pick([(1, elsewhere, ()), (2, here, ())], B, limits(4), spill=False) == 2


def test_a_breaker_opens_after_failures_in_a_row_lets_one_probe_pass_and_waits_longer_each_time():
    breaker = Breaker()
    assert [breaker.failed(0), breaker.failed(0)] == [None, None]
    breaker.succeeded(0)
    assert [breaker.failed(0), breaker.failed(0), breaker.failed(0)] == [None, None, 1.0]
    assert breaker.limit(0.5, 64) == 0
    assert breaker.failed(0.6) is None  # was in flight when it opened
    assert breaker.limit(1.0, 64) == 1
    assert breaker.failed(1.0) == 2.0
    assert breaker.failed(3.0) == 4.0
    now = 3.0
    for _ in range(9):
        now = breaker.open_until
        assert breaker.failed(now) <= MAX_BACK_OFF_S
    assert breaker.failed(breaker.open_until) == MAX_BACK_OFF_S
    breaker.succeeded(now + 100)
    assert breaker.limit(now + 100, 64) == 64
    assert breaker.failed(now + 101) is None


def test_hedges_wait_until_latencies_are_known_and_are_few():
    hedging = Hedging()
    for _ in range(NEEDED_LATENCIES - 1):
        hedging.answered(1.0)
    assert hedging.delay_s() is None
    hedging.answered(9.0)
    assert hedging.delay_s() == 1.0
    for _ in range(BURST):
        assert hedging.may(suspected=False)
        hedging.hedged(suspected=False)
    assert not hedging.may(suspected=False)
    assert hedging.may(suspected=True)
    for _ in range(100):
        hedging.started()
    assert hedging.may(suspected=False)


def test_refused_connections_are_retried_to_the_deadline_and_bad_requests_never():
    assert not gives_up(Cause.CONNECTION, 0)
    assert gives_up(cause_of(kind_of_status(400)), 1)
    assert not gives_up(cause_of(kind_of_status(503)), 1)
    assert gives_up(cause_of(kind_of_status(503)), 4)
    assert [back_off_s(n) for n in (1, 2, 20)] == [0.2, 0.4, 5.0]


def test_the_endpoints_file_is_private_and_comes_back_as_written(tmp_path):
    endpoints = Endpoints(("http://127.0.0.12:9000",), api_key="secret", max_tokens=64)
    path = endpoints.write(tmp_path / "proxy" / "endpoints.json")
    assert path.stat().st_mode & 0o777 == 0o600
    assert Endpoints.read(path) == endpoints
    assert "secret" not in repr(endpoints)
    assert [file.name for file in path.parent.iterdir()] == ["endpoints.json"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "proxy.not-endpoints"),
        ("[]", "proxy.not-endpoints"),
        ('{"replicas": []}', "proxy.not-endpoints"),
        ('{"replicas": [], "api_key": "k"}', "proxy.no-replica"),
    ],
)
def test_a_file_that_is_not_an_endpoints_file_is_named(tmp_path, text, code):
    (tmp_path / "e.json").write_text(text)
    with refused(code, path=tmp_path / "e.json"):
        Endpoints.read(tmp_path / "e.json")


def test_settings_that_cannot_work_are_refused_before_anything_starts():
    with refused("proxy.no-room-for-prompt", max_tokens=512, max_model_len=512):
        ProxySettings(max_model_len=512, max_tokens=512)
    with pytest.raises(UserError, match="replicas"):
        ProxySettings(replicas=0)
    with refused("proxy.reserved-argument", argument="--api-key"):
        ProxySettings(extra_args=("--api-key=abc",))
