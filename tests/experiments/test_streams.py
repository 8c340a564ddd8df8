"""The load client of the serving experiments, against a server that does as servers do: it keeps connections
for a while, then closes them."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "serving_common"))

from streams import Job, play

_ANSWER = b'data: {"choices": [{"text": "x"}]}\n\ndata: [DONE]\n\n'


def _serve(listener: socket.socket, asked: list[int]) -> None:
    """Answers one request a connection, and closes it; notes how many each connection brought."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            data = b""
            while b"{}" not in data:
                data += connection.recv(1 << 16)
            asked.append(data.count(b"POST "))
            head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            connection.sendall(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(_ANSWER), _ANSWER))


def test_a_connection_that_the_server_has_closed_is_not_used_again():
    asked: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_serve, args=(listener, asked), daemon=True).start()
        jobs = [Job(str(index), b"{}", at=index * 0.1) for index in range(3)]
        answers = play(listener.getsockname()[1], jobs)
    assert [answer.error for answer in answers] == [None, None, None]
    assert [answer.text() for answer in answers] == ["x", "x", "x"]
    assert asked == [1, 1, 1]
