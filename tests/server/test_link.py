"""The engine's end of the pipe: a client that does not read holds up nobody."""

import socket
import threading

import msgspec
import pytest

from quire.server.frames import FrameReader, frame
from quire.server.link import LinkClosed, SocketLink
from quire.server.messages import Abort, Failed, Reply, Stop

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Reply).decode


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield SocketLink(ours), theirs


def big(number: int) -> Failed:
    return Failed(reason=f"{number}" * 100_000, by_user=False)


def test_commands_come_in_order_and_none_is_waited_for(ends):
    link, client = ends
    assert link.receive(wait=False) == []
    first, second = frame(encode(Abort(request_id="a"))), frame(encode(Abort(request_id="b")))
    client.sendall(first + second[:5])
    assert link.receive(wait=True) == [Abort(request_id="a")]
    assert link.receive(wait=False) == []
    client.sendall(second[5:])
    assert link.receive(wait=False) == [Abort(request_id="b")]


def test_what_nobody_reads_is_kept_and_comes_in_order(ends):
    link, client = ends
    for number in range(50):  # 5 MB, far more than a socket holds
        link.send(big(number % 10))
    frames, got = FrameReader(), []

    def read():
        while len(got) < 50:
            got.extend(map(decode, frames.feed(client.recv(1 << 16))))
        client.sendall(frame(encode(Stop())))

    reader = threading.Thread(target=read)
    reader.start()
    assert link.receive(wait=True) == [Stop()]  # while it sleeps, the rest goes out
    reader.join()
    assert got == [big(number % 10) for number in range(50)]


def test_a_client_that_is_gone_is_noticed(ends):
    link, client = ends
    client.close()
    with pytest.raises(LinkClosed):
        link.receive(wait=True)
    with pytest.raises(LinkClosed):
        link.send(big(1))


def test_a_goodbye_waits_only_so_long(ends):
    link, client = ends
    for number in range(20):
        link.send(big(number % 10))
    link.flush(0.01)
    assert client.recv(10)
