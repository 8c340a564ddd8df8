from quire.interfaces import AttentionBackend
from quire.testing import AttentionSuite
from quire_plugins.attention.paged import PagedAttention, PagedConfig


class TestPaged(AttentionSuite):
    def make(self) -> AttentionBackend:
        return PagedAttention(config=PagedConfig(), device=self.device)
