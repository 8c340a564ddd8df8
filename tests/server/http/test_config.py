"""Options of the server are checked when they are given."""

import pytest

from quire.config.compose import compose
from quire.errors import UserError


@pytest.mark.parametrize(
    "override",
    [
        "server.host=''",
        "server.port=70000",
        "server.port=-1",
        "server.max_choices=0",
        "server.max_prompts=0",
        "server.max_prompt_tokens=0",
        "server.max_concurrent=0",
        "server.max_logprobs=-1",
        "server.body_seconds=0",
        "server.send_seconds=nan",
        "server.keep_alive_seconds=-1",
        "server.drain_seconds=-1",
        "server.max_body=much",
        "server.metrics_prefix=a-b",
        "server.served_names=['']",
        "server.limits.max_waiting=0",
    ],
)
def test_a_value_out_of_range_is_refused_by_name(override):
    name = override.partition("=")[0].rpartition(".")[2]
    with pytest.raises(UserError, match=name):
        compose([override])


def test_sizes_are_read():
    assert compose(["server.max_body=2MiB"]).server.max_body_bytes == 2 * 2**20
