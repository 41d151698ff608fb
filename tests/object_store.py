"""An S3 server in a process of its own, reached over real HTTP on the loopback interface."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen

import pytest

BUCKET = "results"

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "not-to-be-seen",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
}
"""Environment variables of a client; the server accepts any credentials."""


_SERVER = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://{}:{}".format(*server.get_host_and_port()), flush=True)
sys.stdin.read()
"""
"""Program of the server. It is a process of its own, because its threads leave sockets open."""


@contextmanager
def serving() -> Iterator[str]:
    """Run a server with one empty bucket; yield its endpoint, `http://127.0.0.1:port`."""
    command = [sys.executable, "-W", "ignore", "-c", _SERVER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            endpoint = server.stdout.readline().strip()
            ask(f"{endpoint}/{BUCKET}", "PUT")
            yield endpoint
        finally:
            server.kill()


def ask(url: str, method: str, body: bytes | None = None) -> None:
    """Send a request to the server."""
    with urlopen(Request(url, data=body, method=method, headers={"Content-Type": "text/plain"})):
        pass


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Endpoint of a server that the tests of a module share."""
    pytest.importorskip("moto.server")
    with serving() as found:
        yield found
