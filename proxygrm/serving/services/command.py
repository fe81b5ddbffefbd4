"""A service of the user's own: any command line that serves HTTP, one replica on each of its nodes."""

from __future__ import annotations

import http.client
import os
import re
import secrets
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from proxygrm.core.bounds import check_bounds
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import write_text
from proxygrm.core.runtime.telemetry import NO_TELEMETRY
from proxygrm.serving.access.held_port import free_port, is_taken_by_others
from proxygrm.serving.services.gpus import gpu_numbers
from proxygrm.serving.services.group import Replica, ReplicaGroup
from proxygrm.serving.services.server import HEALTH_TIMEOUT_S, SupervisedServer
from proxygrm.serving.services.service import Service, ServiceNode, Surroundings

BLANKS = ("address", "port", "python", "key_file")
"""Filled in by the job: the address and the port to listen on, the interpreter of the job, a file (0600) with the key
that callers send. And the labels of needs."""
FILLED_IN = ("SERVICE_ADDRESS", "SERVICE_PORT", "CUDA_VISIBLE_DEVICES", "PATH", "HOME", "LD_LIBRARY_PATH")
"""Environment variables that the job, or any program, needs for something else than a key."""
_VARIABLE, _PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*"), re.compile(r"/[!-~]*")
_BLANK = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
_SECRET = re.compile(r"-\S*(?:api[-_]?key|[-_]token|secret|password)(?:=\S*)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class CommandServer(Service):
    """The command finds where to listen in its words, as {address} and {port}, or in SERVICE_ADDRESS and SERVICE_PORT;
    further words that are filled in: {python}, {key_file}, and the path of each need by its label, such as {model}."""

    command: tuple[str, ...]
    """Its words; no shell."""
    gpus: int = 0
    """GPUs of each replica."""
    health: str = "/health"
    """Path that answers with a status of 200 to 299 once it can be used, without a key."""
    start_timeout_s: float = 600.0
    """All replicas must be healthy within this time."""
    max_restarts: int = 3
    """A replica that dies more often than this ends the job."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Further environment variables. Not for secrets: they are written into the run folder."""
    api_key_variable: str = "SERVICE_API_KEY"
    """The variable with the key that callers send; the server has to ask for it. A new one for each job."""

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"service {self.name}"
        check_bounds(where, self, positive=("start_timeout_s",), from_zero=("gpus", "max_restarts"))
        words = self.command
        if isinstance(words, str) or not words or not all(map(_is_word, words)) or not words[0]:
            raise UserError(
                f'{where}: its command is {words!r}; give its words, for example ("python", "server.py", "{{port}}")',
                code="service.bad-command",
                command=words,
            )
        if not _PATH.fullmatch(self.health):
            raise UserError(
                f"{where}: health is {self.health!r}; it is a path that begins with /, as in a URL: no spaces",
                code="service.bad-health-path",
                path=self.health,
            )
        self._check_environment(where)
        known = [*BLANKS, *self.needs]
        if taken := sorted({*self.needs} & {*BLANKS}):
            raise UserError(
                f"{where}: a need cannot be called {taken[0]!r}, which the job fills in itself",
                code="service.reserved-label",
                label=taken[0],
            )
        # A word with spaces may be a program or a sentence, and its braces its own.
        blanks = [name for word in words if not re.search(r"\s", word) for name in _BLANK.findall(word)]
        if unknown := [name for name in blanks if name not in known]:
            raise UserError(
                f"{where}: nothing fills in {{{unknown[0]}}} in its command; there are "
                f"{', '.join(f'{{{name}}}' for name in known)}",
                code="service.unknown-blank",
                name=unknown[0],
                known=known,
            )
        if public := [word.partition("=")[0] for word in words if _SECRET.fullmatch(word)]:
            raise UserError(
                f"{where}: no {public[0]} in its command: command lines are public; a key is made for each job, in "
                f"${self.api_key_variable}",
                code="service.secret-in-command",
                argument=public[0],
            )

    def _check_environment(self, where: str) -> None:
        for name in (*self.variables, self.api_key_variable):
            if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
                raise UserError(
                    f"{where}: {name!r} is not the name of an environment variable: letters, digits and _",
                    code="service.bad-variable",
                    name=name,
                )
        for name, value in self.variables.items():
            if not _is_word(value):
                raise UserError(
                    f"{where}: variable {name} is {value!r}; it has to be a text",
                    code="service.bad-variable",
                    name=name,
                )
        if self.api_key_variable in (*FILLED_IN, *self.variables):
            raise UserError(
                f"{where}: its key cannot be in {self.api_key_variable}, which holds something else",
                code="service.bad-variable",
                name=self.api_key_variable,
            )

    def shared_gpus(self, job_nodes: int) -> int:
        return self.gpus

    def validate(self, nodes: Sequence[ServiceNode], device: str) -> None:
        for node in nodes:
            if self.gpus > len(node.gpus):
                raise UserError(
                    f"service {self.name}: a replica needs {self.gpus} GPUs, its nodes have {len(node.gpus)}; lower "
                    "its gpus or ask for more (gpus_per_node)",
                    code="service.too-few-gpus",
                    needed=self.gpus,
                    gpus=len(node.gpus),
                )

    def check_program(self) -> None:
        program = self.command[0]
        if not _BLANK.search(program) and shutil.which(program) is None:  # not one that the job fills in
            raise UserError(
                f"service {self.name}: there is no program {program!r}; give its path, or {{python}} for the job's own "
                "interpreter",
                code="service.no-program",
                service=self.name,
                program=program,
            )

    def start(self, here: Surroundings) -> ReplicaGroup:
        key = secrets.token_urlsafe(32)
        here.folder.mkdir(parents=True, exist_ok=True)
        key_file = here.folder / "key"
        write_text(key_file, key, mode=0o600)
        replicas = []
        for number, node in enumerate(here.nodes):
            name, gpus = f"{self.name}-{number}", node.gpus[: self.gpus]
            address = "127.0.0.1" if here.one_node else node.address
            copy = CommandReplica(name, node.name, address, here.folder / f"{name}.log", here.device, gpus, key_file)
            arguments = (self, copy, {**here.inputs}, key)
            replicas.append(Replica(name, node.name, node.address, CommandProcess, arguments, len(gpus)))
        return ReplicaGroup(self.name, replicas, self.start_timeout_s, key_file)


def _is_word(value: object) -> bool:
    """Whether it can be a part of a command line or an environment."""
    return isinstance(value, str) and "\0" not in value


@dataclass(frozen=True)
class CommandReplica:
    """name: SERVICE-N. address: to listen on. gpus: by their position on the node."""

    name: str
    node: str
    address: str
    log: Path
    device: str = "cpu"
    gpus: tuple[int, ...] = ()
    key_file: Path = Path()


class CommandProcess(SupervisedServer):
    """One replica on the node of this process. Its port stays the same once it has been healthy."""

    def __init__(self, service: CommandServer, replica: CommandReplica, inputs: Mapping[str, Path], key: str) -> None:
        super().__init__(replica.name, replica.node, replica.log, service.max_restarts)
        self._service, self._replica, self._inputs, self._key = service, replica, inputs, key
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://{self._replica.address}:{self._port}"

    def _command(self) -> tuple[list[str], Mapping[str, str]]:
        self._service.check_program()
        # It need not be able to share a port with us, so none is held for it; another one, if this one was taken.
        if not self._ever_healthy:
            self._port = free_port(self._replica.address)
        values = {"address": self._replica.address, "port": str(self._port), "python": sys.executable}
        values["key_file"] = str(self._replica.key_file)
        values |= {label: str(path) for label, path in self._inputs.items()}
        words = [_BLANK.sub(lambda match: values.get(match[1], match[0]), word) for word in self._service.command]
        # Ray's own variables are not for others, and it blanks CUDA_VISIBLE_DEVICES of a worker without GPUs.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        gpus = gpu_numbers(self._replica.gpus) if self._replica.device != "cpu" else ()
        environment |= {
            **NO_TELEMETRY,
            "CUDA_VISIBLE_DEVICES": ",".join(gpus),
            "PYTHONUNBUFFERED": "1",
            **self._service.variables,
            "SERVICE_ADDRESS": values["address"],
            "SERVICE_PORT": values["port"],
            self._service.api_key_variable: self._key,
        }
        return words, environment

    def _is_healthy(self) -> bool:
        address, port = self._replica.address, self._port
        connection = http.client.HTTPConnection(address, port, timeout=HEALTH_TIMEOUT_S)
        try:
            connection.request("GET", self._service.health)
            answer = connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        if is_taken_by_others(port):
            self._detail = f"another user's process listens at {self.url}"
            return False
        if not 200 <= answer < 300:
            self._detail = f"{self.url}{self._service.health} answers with status {answer}"
            return False
        return True
