"""All services of a job, from the start of the first to the end of the last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from proxygrm.core.errors import UserError
from proxygrm.serving.services.service import Running, Service, Surroundings


def refuse_duplicates(services: Iterable[Service]) -> None:
    names = [service.name for service in services]
    if double := next((name for name in names if names.count(name) > 1), ""):
        raise UserError(
            f"two services are called {double!r}; each has its own folder and URLs",
            code="service.duplicate-name",
            name=double,
        )


@contextmanager
def running(
    services: Iterable[Service],
    here: Callable[[Service], Surroundings],
    watch: Callable[[Callable[[], str | None]], None],
    on_message: Callable[[str], None],
) -> Iterator[Mapping[str, Running]]:
    """Start all, wait until all are healthy, have them watched, yield them by name; stop them, whatever happens.

    watch: takes a function whose reason ends the job (`slurm.ray.handle.RayHandle.watch`).
    """
    started: dict[str, Running] = {}
    with ExitStack() as stack:
        for service in services:
            on_message(f"starting {service.name}")
            started[service.name] = service.start(here(service))
            stack.callback(started[service.name].stop)
        for each in started.values():
            each.healthy(on_message)
        for each in started.values():
            watch(each.watch)
        yield started
