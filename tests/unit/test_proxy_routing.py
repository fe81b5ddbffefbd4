from __future__ import annotations

import pytest

from proxygrm.errors import UserError
from proxygrm.proxy.endpoints import Endpoints
from proxygrm.proxy.routing import Cause, back_off_s, choose, gives_up, preference, prompt_key
from proxygrm.proxy.settings import ProxySettings

URLS = [f"http://10.0.0.{i}:9000" for i in range(4)]


def test_rollouts_of_one_prompt_prefer_one_replica_and_prompts_spread_evenly():
    keys = [prompt_key(f"question {i}", "a", "b", [b"picture"]) for i in range(2000)]
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
    load = {URLS[0]: 8, URLS[1]: 5, URLS[2]: 3, URLS[3]: 8}
    assert choose(URLS, load, limit=9) == URLS[0]
    assert choose(URLS, load, limit=8) == URLS[2]
    assert choose(URLS, load, limit=3) is None


def test_a_replica_that_failed_is_asked_again_only_when_there_is_no_other():
    assert choose(URLS, {}, 4, avoid={URLS[0]}) == URLS[1]
    assert choose(URLS[:1], {}, 4, avoid={URLS[0]}) == URLS[0]


def test_refused_connections_are_retried_to_the_deadline_and_bad_requests_never():
    assert not gives_up(Cause.CONNECTION, None, 0)
    assert gives_up(Cause.HTTP_ERROR, 400, 1)
    assert not gives_up(Cause.HTTP_ERROR, 503, 1)
    assert gives_up(Cause.HTTP_ERROR, 503, 4)
    assert [back_off_s(n) for n in (1, 2, 20)] == [0.2, 0.4, 5.0]


def test_the_endpoints_file_is_private_and_comes_back_as_written(tmp_path):
    endpoints = Endpoints(("http://127.0.0.12:9000",), api_key="secret", max_tokens=64)
    path = endpoints.write(tmp_path / "proxy" / "endpoints.json")
    assert path.stat().st_mode & 0o777 == 0o600
    assert Endpoints.read(path) == endpoints
    assert "secret" not in repr(endpoints)
    assert [file.name for file in path.parent.iterdir()] == ["endpoints.json"]


@pytest.mark.parametrize("text", ["", "[]", '{"replicas": []}', '{"replicas": [], "api_key": "k"}'])
def test_a_file_that_is_no_endpoints_file_is_named(tmp_path, text):
    (tmp_path / "e.json").write_text(text)
    with pytest.raises(UserError, match=r"e\.json"):
        Endpoints.read(tmp_path / "e.json")


def test_settings_that_cannot_work_are_refused_before_anything_starts():
    with pytest.raises(UserError, match="no room for a prompt"):
        ProxySettings(max_model_len=512, max_tokens=512)
    with pytest.raises(UserError, match="replicas"):
        ProxySettings(replicas=0)
    with pytest.raises(UserError, match="api-key"):
        ProxySettings(extra_args=("--api-key=abc",))
