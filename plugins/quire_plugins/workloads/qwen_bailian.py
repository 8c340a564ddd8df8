"""Traces of Qwen on Alibaba's Bailian (Wang et al., "KVCache Cache in the Wild", USENIX ATC 2025): times in
seconds, blocks of 16 tokens, and which request each continues."""

from __future__ import annotations

from dataclasses import dataclass

from quire_plugins.workloads.block_trace import BlockTrace
from quire_plugins.workloads.replay import ReplayConfig
from quire_plugins.workloads.trace_file import TraceLine


@dataclass
class QwenBailianConfig(ReplayConfig):
    """Options of `workload=qwen_bailian`."""


class QwenBailian(BlockTrace):
    """Replays a trace of Bailian's, with the prefixes that its requests share; sessions are conversations."""

    Config = QwenBailianConfig
    name = "qwen_bailian"
    block_tokens = 16
    time_unit = 1.0

    def __init__(self, *, config: QwenBailianConfig) -> None:
        super().__init__(config=config)
        self._roots: dict[int, int] = {}

    def session(self, line: TraceLine) -> str | None:
        """The first request of the conversation, by its chat_id; -1 as parent begins one."""
        if not line.has("chat_id"):
            return None
        chat = line.count("chat_id", least=0)
        parent = line.count("parent_chat_id", least=-1) if line.has("parent_chat_id") else -1
        root = self._roots[chat] = chat if parent == -1 else self._roots.get(parent, parent)
        return str(root)
