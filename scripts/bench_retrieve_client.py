"""Retrieving with DCMTK's movescu and getscu, timed by their own logs.

From the request to its final response: the start of the tool and the association that it asks with
do not count, and several requests follow one another in it. The associations to a destination of a
C-MOVE do count, as they do for whoever waits for a study.

Source: PS3.4 C.4.2, C.4.3.
"""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench_dcmtk_log import read_lines, write_log_config
from bench_figures import MeasureError
from bench_peers import KnownAE, Server
from bench_retrieve_receiver import Receiver

# Both Orthanc and dcmqrscp want to know it.
REQUESTOR = KnownAE("BENCH")

_TIMEOUT_SECONDS = 120
_NOT_WRITTEN = ("C-STORE", "(Pending)")  # a line for each instance costs the requestor time
_COMPLETED = re.compile(r"Completed Suboperations\s*: (\d+)")
_STATUS = re.compile(r"\((.*)\)")
_SUCCESS = "Success"


class RetrieveError(MeasureError):
    """A retrieval did not bring all instances, so it has no rate."""


@dataclass(frozen=True, slots=True)
class Service:
    """A way to retrieve.

    Attributes:
        name: for the tables.
        program: with what it is always told.
        requested: begins what it logs right before it sends the request.
        answered: begins what it logs when the final response has come.
    """

    name: str
    program: tuple[str, ...]
    requested: str
    answered: str

    def command(self, receiver: Receiver) -> list[str]:
        """Return the beginning of a command line: to send to, or to take, PDUs as that does."""
        if self is C_MOVE:
            return [*self.program, "--move", receiver.ae_title]
        return [*self.program, "--max-pdu", str(receiver.maximum_length_bytes)]


C_MOVE = Service("C-MOVE", ("movescu",), "Sending Move Request", "Received Final Move Response")
C_GET = Service("C-GET", ("getscu", "--ignore"), "Sending C-GET Request", "Received C-GET Response")
SERVICES = (C_MOVE, C_GET)


@dataclass(frozen=True, slots=True)
class Study:
    """A study that a server has.

    Attributes:
        server: which.
        study_instance_uid: of the study.
        instances: how many it has.
    """

    server: Server
    study_instance_uid: str
    instances: int


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What one run of a tool has retrieved.

    Attributes:
        instances: of all requests together; every one has arrived.
        seconds: from each request to its final response, of all requests together.
    """

    instances: int
    seconds: float

    @property
    def rate(self) -> float:
        """Instances a second."""
        return self.instances / self.seconds


@dataclass(frozen=True, slots=True)
class Client:
    """Retrieves studies.

    Attributes:
        folder: for the logs of the tools; their content is replaced.
        variables: the environment of the tools.
    """

    folder: Path
    variables: Mapping[str, str]

    def verify(self, study: Study, service: Service, receiver: Receiver) -> None:
        """Retrieve once, and compare the number of completed sub-operations with the study.

        The study is warm then: in the memory of the operating system.

        Raises:
            RetrieveError: not all of the study has arrived.
        """
        self._run(study, service, receiver, 1, "DEBUG")
        numbers = [
            int(match[1])
            for _, _, message in read_lines(self.log)
            if (match := _COMPLETED.search(message))
        ]
        if numbers[-1:] != [study.instances]:
            raise RetrieveError(
                f"{service.name} from {study.server.peer.name} has brought {numbers[-1:]} of "
                f"{study.instances} instances"
            )

    def retrieve(
        self, study: Study, service: Service, receiver: Receiver, repeats: int = 1
    ) -> Retrieval:
        """Retrieve a study so many times, one after the other.

        Raises:
            RetrieveError: a request was not answered with Success.
        """
        self._run(study, service, receiver, repeats, "INFO")
        seconds = self._seconds(service)
        if len(seconds) != repeats:
            raise RetrieveError(f"{len(seconds)} of {repeats} requests were answered")
        return Retrieval(repeats * study.instances, sum(seconds))

    @property
    def log(self) -> Path:
        """What the tool has written."""
        return self.folder / "retrieve.log"

    def command(self, study: Study, service: Service, receiver: Receiver) -> list[str]:
        """Return the command line of a tool that logs as that of `retrieve` does."""
        return self._command(study, service, receiver, 1, "INFO")

    def requested_at(self, service: Service) -> float:
        """Return when the last request was about to be sent, in seconds since the epoch.

        Raises:
            RetrieveError: there was none.
        """
        for time_seconds, _, message in reversed(read_lines(self.log)):
            if message.startswith(service.requested):
                return time_seconds
        raise RetrieveError(f"no {service.name} was requested")

    def _run(
        self, study: Study, service: Service, receiver: Receiver, repeats: int, level: str
    ) -> None:
        try:
            done = subprocess.run(
                self._command(study, service, receiver, repeats, level),
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
                timeout=_TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise RetrieveError(f"{service.name} has taken {_TIMEOUT_SECONDS} s") from None
        self._check(study, service, done.returncode)

    def _command(
        self, study: Study, service: Service, receiver: Receiver, repeats: int, level: str
    ) -> list[str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log.unlink(missing_ok=True)
        is_timed = level == "INFO"
        config = write_log_config(self.log, level, _NOT_WRITTEN if is_timed else ())
        host, port = study.server.address
        return [
            *service.command(receiver),
            *("--study", "--log-config", str(config), "--repeat", str(repeats)),
            *("--aetitle", REQUESTOR.ae_title, "--call", study.server.peer.ae_title),
            *("--key", "QueryRetrieveLevel=STUDY"),
            *("--key", f"StudyInstanceUID={study.study_instance_uid}"),
            *(host, str(port)),
        ]

    def _check(self, study: Study, service: Service, exit_code: int) -> None:
        lines = read_lines(self.log)
        statuses = {
            match[1]
            for _, _, message in lines
            if message.startswith(service.answered) and (match := _STATUS.search(message))
        }
        if exit_code == 0 and statuses <= {_SUCCESS, "Pending"}:
            return
        said = [message for _, level, message in lines if level in {"WARN", "ERROR", "FATAL"}]
        causes = "; ".join([*(statuses - {"Pending"}), *said[:3]])
        raise RetrieveError(
            f"{service.name} from {study.server.peer.name} has failed, exit code {exit_code}: "
            f"{causes}"
        )

    def _seconds(self, service: Service) -> list[float]:
        """Return the time from each request to its final response."""
        seconds, began_at = [], 0.0
        for time_seconds, _, message in read_lines(self.log):
            if message.startswith(service.requested):
                began_at = time_seconds
            elif message.startswith(service.answered):
                seconds.append(time_seconds - began_at)
        return seconds
