from quire.interfaces import AttentionBackend
from quire.testing import AttentionSuite
from quire_plugins.attention.sdpa import SdpaAttention, SdpaConfig


class TestSdpa(AttentionSuite):
    def make(self) -> AttentionBackend:
        return SdpaAttention(config=SdpaConfig(), device=self.device)
