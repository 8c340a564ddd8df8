"""A real server, and everything that goes wrong around it: whatever happens, the next request is served."""

import json
import os
import signal
import socket
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest

sys.path.append(str(Path(__file__).parent / "http"))

from live_process import served

KEY = "a-key-for-tests"
HEADERS = {"authorization": f"Bearer {KEY}"}
SEND_SECONDS = 1.0
LONG = {"prompt": "Once upon a time", "max_tokens": 900, "ignore_eos": True, "stream": True}


class Faulty:
    """The server, asked by a client that has the key."""

    def __init__(self, process, url: str, directory: Path) -> None:
        self.process, self.url, self.directory = process, url, directory
        self.port = int(url.rsplit(":", 1)[1])
        self.http = httpx.Client(base_url=url, headers=HEADERS, timeout=60)

    def close(self) -> None:
        self.http.close()

    @property
    def engine_pid(self) -> int:
        """Of its children the one that is the engine; multiprocessing has another, a small one."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return max(map(int, children), key=resident_bytes)

    def answers(self) -> bool:
        body = {"prompt": "a", "max_tokens": 3, "ignore_eos": True}
        answer = self.http.post("/v1/completions", json=body)
        return answer.status_code == 200 and answer.json()["usage"]["completion_tokens"] == 3

    def busy(self, state: str = "") -> int:
        """Requests with the engine; with a `state` of "running" or "waiting" those alone."""
        text = self.http.get("/metrics").text
        lines = [line for line in text.splitlines() if line.startswith(f"quire:num_requests_{state}")]
        return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines))

    def open(self, data: bytes, *, receive_buffer: int | None = None) -> socket.socket:
        """A connection that has sent `data`."""
        connection = socket.socket()
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", self.port))
        connection.sendall(data)
        return connection


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def eventually(holds, seconds=10.0) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def head(*lines: str) -> bytes:
    common = (f"authorization: Bearer {KEY}", "host: localhost", "content-type: application/json")
    return "\r\n".join(("POST /v1/completions HTTP/1.1", *common, *lines, "", "")).encode()


def post(body: dict) -> bytes:
    data = json.dumps(body).encode()
    return head(f"content-length: {len(data)}") + data


def read_all(connection: socket.socket) -> bytes:
    """What comes until the other side closes or resets the connection."""
    data = b""
    with suppress(ConnectionError):
        while more := connection.recv(1 << 16):
            data += more
    return data


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("faults")
    keys = directory / "keys"
    keys.write_text(KEY)
    options = {
        "api_keys_file": keys,
        "body_seconds": 1.0,
        "send_seconds": SEND_SECONDS,
        "limits.max_waiting": 8,
        "limits.restart_seconds": 0.1,
        "limits.check_memory": "true",
        "access_log": "/dev/full",
    }
    overrides = [f"server.{name}={value}" for name, value in options.items()]
    with (
        served(directory, "engine.max_sequences=2", *overrides) as (process, url),
        closing(Faulty(process, url, directory)) as faulty,
    ):
        yield faulty


def test_a_full_disk_for_the_log_stops_nobody(server):
    assert server.answers()


def test_a_wrong_key(server):
    for wrong in ({}, {"authorization": "Bearer wrong"}, {"authorization": KEY}):
        answer = httpx.post(f"{server.url}/v1/completions", json=LONG, headers=wrong)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert server.answers()


@pytest.mark.parametrize("body", [b"", b"{", b'{"prompt": "a"', b"[]", b"\xff\xfe", b"[" * 100_000])
def test_malformed_json(server, body):
    answer = server.http.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_full_queue_says_when_to_come_again(server):
    connections = [server.open(post(LONG)) for _ in range(2)]
    for connection in connections:
        assert connection.recv(64).startswith(b"HTTP/1.1 200")
    connections += [server.open(post(LONG)) for _ in range(8)]
    assert eventually(lambda: server.busy() == 10)
    answer = server.http.post("/v1/completions", json=LONG)
    assert answer.status_code in (429, 503)
    assert int(answer.headers["retry-after"]) >= 1
    for connection in connections:
        connection.close()
    assert eventually(lambda: server.busy() == 0)
    assert server.answers()


@pytest.mark.parametrize("declared", [True, False])
def test_a_hundred_megabytes_are_refused_while_they_come(server, declared):
    before = resident_bytes(server.process.pid)
    size, sent = 100 << 20, 0
    how = f"content-length: {size}" if declared else "transfer-encoding: chunked"
    part = b"x" * (1 << 20)
    framed = part if declared else b"100000\r\n" + part + b"\r\n"
    with closing(server.open(head(how))) as connection:
        try:
            while sent < size:
                connection.sendall(framed)
                sent += len(part)
            if not declared:
                connection.sendall(b"0\r\n\r\n")
        except ConnectionError:
            pass  # the server has hung up: after its answer
        assert connection.recv(64).startswith(b"HTTP/1.1 413")
    assert resident_bytes(server.process.pid) - before < 64 << 20
    assert server.answers()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b""),
        (head("content-length: 100")[:-30], b""),
        (head("content-length: 100") + b'{"prompt": ', b"HTTP/1.1 408"),
    ],
    ids=["nothing", "half the headers", "half the body"],
)
def test_who_sends_too_slowly_is_hung_up_on(server, sent, status):
    with closing(server.open(sent)) as connection:
        assert read_all(connection)[:12] == status
    assert server.answers()


def test_who_trickles_headers_is_hung_up_on(server):
    with closing(server.open(b"POST /v1/completions HTTP/1.1\r\n")) as connection:
        connection.settimeout(0.2)
        began, hung_up = time.monotonic(), False
        while not hung_up and time.monotonic() - began < 10:
            try:
                connection.sendall(b"x-more: 1\r\n")
                hung_up = connection.recv(64) == b""
            except TimeoutError:
                pass
            except ConnectionError:
                hung_up = True
        assert hung_up
    assert server.answers()


def test_who_never_reads_is_dropped(server):
    wide = LONG | {"n": 8, "logprobs": 20, "max_tokens": 1000}  # 7 MB, more than sockets hold
    with closing(server.open(post(wide), receive_buffer=4096)) as connection:
        assert eventually(lambda: server.busy("running") == 2)  # until then all eight wait, a full queue
        assert server.answers()  # nobody else waits for it
        assert eventually(lambda: server.busy() == 0, 60)
        time.sleep(2.5 * SEND_SECONDS)  # what the engine had made by then is kept for so long
        assert b"[DONE]" not in read_all(connection)
    assert server.answers()


def test_a_slow_reader_gets_everything(server):
    body = LONG | {"max_tokens": 50}
    data = b""
    with closing(server.open(post(body), receive_buffer=2048)) as connection:
        while not data.endswith(b"0\r\n\r\n"):
            data += connection.recv(512)
            time.sleep(0.002)
    assert b"data: [DONE]" in data


def test_a_killed_engine_fails_its_streams_and_comes_back(server):
    with server.http.stream("POST", "/v1/completions", json=LONG) as answer:
        lines = answer.iter_lines()
        next(lines)
        os.kill(server.engine_pid, signal.SIGKILL)
        *_, last = [line for line in lines if line]
    assert "SIGKILL" in json.loads(last.removeprefix("data: "))["error"]["message"]
    assert server.http.get("/health").status_code == 503
    refused = server.http.post("/v1/completions", json=LONG)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert eventually(lambda: server.http.get("/ready").status_code == 200, 60)
    assert server.answers()
    text = server.http.get("/metrics").text
    assert 'quire:engine_restarts_total{model_name="demo"} 1.0' in text


def test_dropped_connections_leave_nothing_behind(server):
    whole = post(LONG)
    for index in range(100):
        connection = server.open(whole[: len(whole) * (index % 5) // 4])
        if index % 5 == 4 and index % 2:
            connection.recv(64)
        connection.close()
    assert eventually(lambda: server.busy() == 0)
    assert server.answers()


def test_a_second_sigterm_ends_the_wait(server):
    """Last, as the server is gone afterwards."""
    with closing(server.open(post(LONG | {"n": 32}))) as connection:
        assert connection.recv(64).startswith(b"HTTP/1.1 200")
        reader = threading.Thread(target=read_all, args=(connection,))
        reader.start()
        server.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: server.http.get("/ready").status_code == 503)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert time.monotonic() - began < 15
        reader.join()
