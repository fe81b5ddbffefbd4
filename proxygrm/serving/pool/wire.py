"""One request to one replica, as OpenAI's chat API has it: what is sent, and what the answer says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from proxygrm.core.labels import Label
from proxygrm.critique.contract import parse_proxy_verdict
from proxygrm.critique.prompts import proxy_prompt, template
from proxygrm.serving.chat_answer import NotAChat, after_thought, read_chat
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.delivery import CHUNK_BYTES, MISS_PAUSES_S, Delivery, in_chunks
from proxygrm.serving.pool.picture import Encoder, Shown, part_by_name, part_in_full
from proxygrm.serving.pool.routing import Cause, cause_of
from proxygrm.serving.pool.tally import Tally
from proxygrm.serving.pool.verdict import TOP_LOGPROBS, read_verdict
from proxygrm.serving.settings import Mode

KEEP_ALIVE_S = 3.0
"""vLLM drops idle connections after 5 s; dropping them first saves a failed attempt."""
CONNECT_TIMEOUT_S = 10.0
MOST_ANSWER_BYTES = 16 * 1024**2
"""More than any max_tokens can be; an answer that goes on is garbage."""
MOST_NAMES = 2
"""How often a request gives its pictures another name; see `delivery`."""
_WITHOUT_PICTURE = frozenset({400, 404, 422, 500})
"""Statuses that may only say that the server has not got a picture we did not send."""


class Failed(Exception):
    """This attempt brought no answer."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.value)
        self.cause = cause


@dataclass(frozen=True)
class _Way:
    """named: pictures that go by their name alone. by_path: others go by path where they have one. fresh: on a new
    connection."""

    named: frozenset[str]
    by_path: bool
    fresh: bool = False


class _Cut(Exception):
    """A kept connection ended before there was an answer."""


@dataclass(frozen=True)
class Answer:
    """text: what the proxy wrote. verdict: None with a `cause`. soft: probability of verdict 1 against verdict 2, None
    where the proxy reasons first."""

    text: str
    verdict: Label | None
    cause: Cause | None = None
    soft: float | None = None


@dataclass(frozen=True)
class Chat:
    """A request without its destination. The body is put together of bytes, because pictures are large."""

    head: bytes
    pictures: tuple[Shown, ...]
    tail: bytes
    mode: Mode

    @classmethod
    def of(
        cls,
        endpoints: Endpoints,
        max_tokens: int,
        asked: tuple[str, str, str, str],
        pictures: Sequence[Shown],
        mode: Mode = "critique",
    ) -> Chat:
        """asked: question, response 1, response 2, rubric.

        Pictures, then text, rubric last: the layout of training, and the shared part first for the KV cache.
        max_tokens: of the answer; for a mere verdict it is one token, after a turn of the proxy that we have begun.
        """
        settings: dict[str, Any] = {"model": endpoints.model, "temperature": 0, "max_tokens": max_tokens}
        end = b"]}]}"
        if mode == "verdict":
            settings |= {"max_tokens": 1, "logprobs": True, "top_logprobs": TOP_LOGPROBS}
            settings |= {"continue_final_message": True, "add_generation_prompt": False}
            begun = json.dumps({"role": "assistant", "content": template("proxy_verdict")}).encode()
            end = b"]}," + begun + b"]}"
        text = json.dumps({"type": "text", "text": proxy_prompt(*asked, images=0)}).encode()
        head = json.dumps(settings).encode()[:-1] + b',"messages":[{"role":"user","content":['
        return cls(head, tuple(pictures), text + end, mode)

    def body(self, parts: Sequence[bytes]) -> bytes:
        return self.head + b",".join([*parts, self.tail])


class Wire:
    """The connections of one event loop, and what each replica has of pictures."""

    def __init__(self, endpoints: Endpoints, tally: Tally) -> None:
        import aiohttp

        from proxygrm.serving.pool.proven_connector import ProvenConnector

        self._encoder = Encoder()
        self._tally = tally
        self._deliveries = {replica: Delivery(endpoints.pictures_by_name) for replica in endpoints.replicas}
        connect = partial(ProvenConnector, endpoints.api_key) if endpoints.proven else aiohttp.TCPConnector
        kept = aiohttp.TraceConfig()
        kept.on_connection_reuseconn.append(_on_a_kept_connection)
        self._session, self._fresh = (
            aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
                headers={"Authorization": f"Bearer {endpoints.api_key}", "Content-Type": "application/json"},
                trust_env=False,  # a site's HTTP proxy has no business between two nodes of one job
                trace_configs=[kept],
            )
            for connector in (
                connect(limit=0, keepalive_timeout=KEEP_ALIVE_S),
                connect(limit=0, force_close=True),
            )
        )

    async def close(self) -> None:
        await self._session.close()
        await self._fresh.close()

    async def alive(self, replica: str, timeout_s: float) -> bool:
        import aiohttp

        try:
            async with asyncio.timeout(timeout_s), self._session.get(f"{replica}/health") as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def send(self, replica: str, chat: Chat) -> Answer:
        """Raises Failed. Cancelled, it closes the connection, and the server drops the request."""
        delivery = self._deliveries[replica]
        way = _Way(await delivery.named(chat.pictures), delivery.reads_paths)
        pauses = iter(MISS_PAUSES_S)
        names_left = MOST_NAMES
        while True:
            names = [delivery.name_of(picture) for picture in chat.pictures]
            status, answer = await self._post(replica, chat, way)
            if status == 200:
                delivery.answered(chat.pictures)
                delivery.reads_paths &= way.by_path or not any(picture.path_url for picture in chat.pictures)
                return read_answer(answer, chat.mode)
            if status not in _WITHOUT_PICTURE:
                raise Failed(cause_of(status))
            way = replace(way, fresh=True)  # vLLM's server cuts the connection a moment after such an answer
            if status == 500 and any(names) and names_left:
                names_left -= 1
                delivery.rename(chat.pictures, names)
                way = replace(way, named=await delivery.named(chat.pictures))
            elif way.named:
                pause = next(pauses, None) if b"Cache miss" in answer else None
                if pause is not None:
                    await asyncio.sleep(pause)
                    continue
                delivery.forget(chat.pictures)
                way = replace(way, named=frozenset())
            elif way.by_path and any(picture.path_url for picture in chat.pictures):
                # It cannot read our paths: another machine, or a folder it was not told of. (If the fault lies
                # elsewhere, the second answer says so.)
                way = replace(way, by_path=False)
            else:
                raise Failed(cause_of(status))

    async def _part(self, delivery: Delivery, picture: Shown, named: frozenset[str], uploads: Sequence[str]) -> bytes:
        name = delivery.name_of(picture)
        if picture.name in named:
            return part_by_name(name)
        if picture.path_url and picture.name not in uploads:
            return part_in_full(picture.path_url, name)
        try:
            return part_in_full(await self._encoder.data_url(picture), name)
        except (OSError, ValueError) as error:
            raise Failed(Cause.PICTURE_MISSING) from error

    async def _post(self, replica: str, chat: Chat, way: _Way) -> tuple[int, bytes]:
        """Status and body.

        A server may cut a kept connection in the very moment it is used again; that is no failure of the replica, and
        such a request is sent once more.
        """
        try:
            return await self._post_once(replica, chat, way)
        except _Cut:
            return await self._post_once(replica, chat, replace(way, fresh=True))

    async def _post_once(self, replica: str, chat: Chat, way: _Way) -> tuple[int, bytes]:
        """Raises Failed, or _Cut when it was a kept connection."""
        import aiohttp

        from proxygrm.serving.pool.proven_connector import Unproven

        delivery = self._deliveries[replica]
        session = self._fresh if way.fresh else self._session
        absent = [picture for picture in chat.pictures if picture.name not in way.named]
        uploads = [picture.name for picture in absent if not (picture.path_url and way.by_path)]
        self._tally.count("uploads", len(uploads))
        with delivery.sending(uploads) as sent:  # from before the pictures are read, so that nobody else reads them
            body = chat.body([await self._part(delivery, picture, way.named, uploads) for picture in chat.pictures])
            data: Any = body
            kept: list[str] = []
            if len(body) > CHUNK_BYTES:
                data = in_chunks(body, sent)
            try:
                async with session.post(
                    f"{replica}/v1/chat/completions",
                    data=data,
                    headers={"Content-Length": str(len(body))},
                    trace_request_ctx=kept,
                ) as response:
                    sent()
                    answer = bytearray()
                    async for chunk in response.content.iter_any():
                        answer += chunk
                        if len(answer) > MOST_ANSWER_BYTES:
                            raise Failed(Cause.GARBAGE)
                    return response.status, bytes(answer)
            except Unproven as error:
                raise Failed(Cause.UNPROVEN) from error
            except aiohttp.ServerTimeoutError as error:  # also a TimeoutError: nobody accepted the connection
                raise Failed(Cause.CONNECTION) from error
            except (aiohttp.http_exceptions.HttpProcessingError, aiohttp.ClientResponseError) as error:
                raise Failed(Cause.GARBAGE) from error  # not even HTTP
            except (aiohttp.ClientError, OSError) as error:
                if kept and not isinstance(error, aiohttp.ClientPayloadError):  # cut before the answer had begun
                    raise _Cut from error
                raise Failed(Cause.CONNECTION) from error


async def _on_a_kept_connection(session: Any, context: Any, params: Any) -> None:
    if context.trace_request_ctx is not None:
        context.trace_request_ctx.append("kept")


def read_answer(answer: bytes, mode: Mode = "critique") -> Answer:
    """Raises Failed(GARBAGE) for what is no chat completion that has ended, and for one without probabilities where
    they belong. One without text (the thought used up max_tokens, say) is an answer without a verdict."""
    try:
        said = read_chat(answer)
        if not (said.text or said.cause or said.finish):
            raise NotAChat("a message without text that does not say how it ended")
        if mode == "verdict":
            verdict, soft = (said.choice and said.text and read_verdict(said.choice)) or (None, None)
            return Answer(said.text, verdict, None if verdict else Cause.UNPARSED, soft)
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise Failed(Cause.GARBAGE) from error
    verdict = parse_proxy_verdict(after_thought(said.text, said.truncated))
    return Answer(said.text, verdict, None if verdict else Cause.CUT_OFF if said.truncated else Cause.UNPARSED)
