"""API keys from a file or the environment."""

import http.client

import httpx
import pytest
from live_server import LiveServer

from quire.errors import UserError
from quire.server.http.auth import read_api_keys


def test_keys_come_from_both_places(tmp_path, monkeypatch):
    path = tmp_path / "keys"
    path.write_text("# team\n one \n\ntwo\n")
    monkeypatch.setenv("QUIRE_API_KEYS", "three, four,")
    assert read_api_keys(str(path)) == {"one", "two", "three", "four"}
    assert read_api_keys(None) == {"three", "four"}
    monkeypatch.delenv("QUIRE_API_KEYS")
    assert read_api_keys(None) == frozenset()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"# none\n", "holds no key; one a line is expected"),
        (b"\xff", "is no text in UTF-8"),
    ],
)
def test_a_file_without_keys_is_a_mistake(tmp_path, monkeypatch, content, message):
    monkeypatch.delenv("QUIRE_API_KEYS", raising=False)
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^server\.api_keys_file='.*keys': {message}$"):
        read_api_keys(str(path))


def test_only_who_has_a_key_may_ask(tmp_path):
    with LiveServer(tmp_path, api_keys=["good", "güt"]) as server:
        for header in (None, "Bearer bad", "Bearer", "Basic good", "good", "Bearer goodgood"):
            headers = {} if header is None else {"authorization": header}
            for method, path in (("GET", "/v1/models"), ("POST", "/v1/completions"), ("GET", "/nothing")):
                answer = httpx.request(method, server.url + path, headers=headers)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.json()["error"]["code"] == "invalid_api_key"
            assert httpx.get(f"{server.url}/health", headers=headers).status_code == 200
            assert httpx.get(f"{server.url}/ready", headers=headers).status_code == 200
        for scheme in ("Bearer", "bearer"):
            answer = httpx.get(f"{server.url}/v1/models", headers={"authorization": f"{scheme} good"})
            assert answer.status_code == 200


def test_without_keys_an_empty_one_is_fine(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", "/v1/models", headers={"authorization": "Bearer "})
    answer = connection.getresponse()
    assert (answer.status, answer.read() != b"") == (200, True)
    connection.close()
