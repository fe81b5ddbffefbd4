"""Sends one request to one replica; resends it when the replica lacks an image that was not sent in full."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from proxygrm.serving.chat.answer import response_detail
from proxygrm.serving.chat.connections import ChatConnections
from proxygrm.serving.chat.failures import ChatFailed, kind_of_status
from proxygrm.serving.chat.request import image_part, image_part_by_uuid
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.answer import AttemptFailed
from proxygrm.serving.pool.delivery import MISS_PAUSES_S, Delivery
from proxygrm.serving.pool.image import Encoder, ImageRef
from proxygrm.serving.pool.request import PoolRequest
from proxygrm.serving.pool.routing import Cause, cause_of
from proxygrm.serving.pool.tally import Tally

Answer = TypeVar("Answer")
CONNECT_TIMEOUT_S = 10.0
MAX_NEW_UUIDS = 2
"""How often a request gives its images another uuid; see `delivery`."""
_IMAGE_STATUSES = frozenset({400, 404, 422, 500})
"""Statuses that may mean only that the server lacks an image which we did not send."""


@dataclass(frozen=True)
class _Form:
    """by_uuid: names of the images that go by their uuid alone. by_path: the others go by path where they have one.
    fresh: on a new connection."""

    by_uuid: frozenset[str]
    by_path: bool
    fresh: bool = False


class Sender:
    """The connections of one event loop, and which images each replica has."""

    def __init__(self, endpoints: Endpoints, tally: Tally) -> None:
        self._encoder = Encoder()
        self._tally = tally
        self._deliveries = {replica: Delivery(endpoints.images_by_name) for replica in endpoints.replicas}
        self._connections = ChatConnections(
            endpoints.replicas, endpoints.api_key, connect_timeout_s=CONNECT_TIMEOUT_S, proven=endpoints.proven
        )

    async def close(self) -> None:
        await self._connections.close()

    async def is_healthy(self, replica: str, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                status, _ = await self._connections.get(f"{replica}/health")
        except (ChatFailed, TimeoutError):
            return False
        return status == 200

    async def send(self, replica: str, request: PoolRequest[Answer]) -> Answer:
        """Raises AttemptFailed. Cancelled, it closes the connection, and the server drops the request."""
        delivery = self._deliveries[replica]
        form = _Form(await delivery.known(request.images), delivery.reads_paths)
        pauses = iter(MISS_PAUSES_S)
        renames_left = MAX_NEW_UUIDS
        while True:
            uuids = [delivery.uuid_of(image) for image in request.images]
            status, response = await self._post(replica, request, form)
            if status == 200:
                delivery.answered(request.images)
                delivery.reads_paths &= form.by_path or not any(image.path_url for image in request.images)
                return request.read(response)
            if status not in _IMAGE_STATUSES:
                raise AttemptFailed(cause_of(kind_of_status(status)), response_detail(response))
            form = replace(form, fresh=True)  # vLLM's server cuts the connection a moment after such a response
            if status == 500 and any(uuids) and renames_left:
                renames_left -= 1
                delivery.change_uuids(request.images, uuids)
                form = replace(form, by_uuid=await delivery.known(request.images))
            elif form.by_uuid:
                pause = next(pauses, None) if b"Cache miss" in response else None
                if pause is not None:
                    await asyncio.sleep(pause)
                    continue
                delivery.forget(request.images)
                form = replace(form, by_uuid=frozenset())
            elif form.by_path and any(image.path_url for image in request.images):
                # It cannot read our paths: it is on another machine, or was started without the folder. (If the fault
                # lies elsewhere, the next response says so.)
                form = replace(form, by_path=False)
            else:
                raise AttemptFailed(cause_of(kind_of_status(status)), response_detail(response))

    async def _post(self, replica: str, request: PoolRequest[Any], form: _Form) -> tuple[int, bytes]:
        """Status and body. Raises AttemptFailed."""
        delivery = self._deliveries[replica]
        absent = [image for image in request.images if image.name not in form.by_uuid]
        uploads = [image.name for image in absent if not (image.path_url and form.by_path)]
        self._tally.count("uploads", len(uploads))
        # Announced before the images are read, so that no other request reads and uploads them too.
        with delivery.uploading(uploads) as sent:
            parts = [await self._part(delivery, image, form.by_uuid, uploads) for image in request.images]
            try:
                return await self._connections.post(
                    f"{replica}{request.path}", request.chat.body(parts), fresh=form.fresh, on_sent=sent
                )
            except ChatFailed as error:
                raise AttemptFailed(cause_of(error.kind), error.detail) from error

    async def _part(
        self, delivery: Delivery, image: ImageRef, by_uuid: frozenset[str], uploads: Sequence[str]
    ) -> bytes:
        uuid = delivery.uuid_of(image)
        if image.name in by_uuid:
            return image_part_by_uuid(uuid)
        if image.path_url and image.name not in uploads:
            return image_part(image.path_url, uuid)
        try:
            return image_part(await self._encoder.data_url(image), uuid)
        except (OSError, ValueError) as error:
            raise AttemptFailed(Cause.IMAGE_MISSING, str(error)) from error
