"""`NewPlugin` keeps the contract of every attention backend, however it cuts the context."""

import pytest

from quire.cli.templates.attention import NewPlugin, NewPluginConfig
from quire.errors import UserError
from quire.interfaces import AttentionBackend
from quire.testing import AttentionSuite


class TestContract(AttentionSuite):
    def make(self) -> AttentionBackend:
        return NewPlugin(config=NewPluginConfig(), device=self.device)


class TestContractOddChunks(AttentionSuite):
    def make(self) -> AttentionBackend:
        return NewPlugin(config=NewPluginConfig(chunk_tokens=37), device=self.device)


def test_a_chunk_of_nothing_is_refused():
    with pytest.raises(UserError, match=r"attention\.chunk_tokens=0: must be at least 1"):
        NewPluginConfig(chunk_tokens=0)
