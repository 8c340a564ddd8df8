"""`task=serve` as a process: ready, answers, drains, and says clearly what is wrong."""

import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from live_process import command, served

from quire.errors import UserError
from quire.server.config import ServerConfig
from quire.server.http.serving import listen, url_of


def test_it_drains_on_sigterm_and_ends_with_0(tmp_path):
    with served(tmp_path) as (process, url):
        assert httpx.get(f"{url}/ready").status_code == 200
        body = {"prompt": "Once upon a time", "max_tokens": 900, "ignore_eos": True, "stream": True}
        with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            while (ready := httpx.get(f"{url}/ready")).status_code == 200:
                time.sleep(0.01)
            assert ready.json() == {"status": "draining"}
            refused = httpx.post(f"{url}/v1/completions", json={"prompt": "a"})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            rest = list(lines)
        assert rest[-2:] == ["data: [DONE]", ""]
        assert process.wait(20) == 0
    assert len((tmp_path / "access.jsonl").read_text().splitlines()) >= 4


def test_what_takes_too_long_to_drain_is_told_so(tmp_path):
    with served(tmp_path, "server.drain_seconds=0.1") as (process, url):
        body = {"prompt": ["Once upon a time"] * 40, "max_tokens": 900, "ignore_eos": True, "stream": True}
        with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            *_, last, _ = lines
        assert '"code":"aborted"' in last
        assert process.wait(20) == 0


def refused(directory: Path, *overrides: str) -> str:
    done = subprocess.run(command(directory, *overrides), capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("quire: warning")]
    return line


def test_a_port_in_use_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert refused(tmp_path, f"server.port={port}") == (
            f"quire: error: server.host=127.0.0.1 server.port={port}: the port is in use; "
            "server.port=0 takes a free one"
        )


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path):
    assert "engine.kv_bytes" in refused(tmp_path, "server.port=0", "engine.kv_bytes=1KiB")


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("no.such.host.invalid", 0, "there is no such address"),
        ("203.0.113.7", 0, "cannot listen there"),
        ("", 0, "must be an address"),
    ],
)
def test_an_address_that_cannot_be_had(host, port, message):
    with pytest.raises(UserError, match=message):
        listen(ServerConfig(host=host, port=port))


def test_urls_can_be_opened():
    for host, shown in (("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")):
        with listen(ServerConfig(host=host, port=0)) as listener:
            assert url_of(listener) == f"http://{shown}:{listener.getsockname()[1]}"


def test_no_piece_waits_until_the_one_before_is_acknowledged():
    with (
        listen(ServerConfig(port=0)) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
