"""A run on the scripted executor and a virtual clock: real configuration, engine and files, no model."""

from __future__ import annotations

import io
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from quire.clock import VirtualClock
from quire.config.run_config import RunConfig
from quire.engine.engine import Engine
from quire.engine.profile import Profile
from quire.interfaces.allocator import KVGroup, KVLayout
from quire.models.model import ModelInfo
from quire.registry import load_registry
from quire.run import Run
from quire.testing.script import Script
from quire.testing.scripted_executor import ScriptedExecutor

REGISTRY = load_registry()
SCRIPT = Script(vocab_size=128)
EOS = 7
MAX_TOKENS = 256


class ByteStream:
    stopped = may_stop = False

    def append(self, token_ids) -> str:
        return bytes(token_ids).decode()

    def flush(self) -> str:
        return ""


class ByteTokenizer:
    """Every token is one ASCII character. A chat begins with the token 1, which text would have doubled."""

    def encode(self, text: str, *, add_special_tokens=True) -> list[int]:
        return [1] * add_special_tokens + list(text.encode())

    def decode(self, token_ids, *, skip_special_tokens=True) -> str:
        return bytes(token_ids).decode()

    def apply_chat_template(self, messages) -> str:
        return "\1" + "".join(f"<{each['role']}>{each['content']}" for each in messages) + "<assistant>"

    def stream(self, *, stop=(), min_tokens=0) -> ByteStream:
        assert not stop
        return ByteStream()


class InterruptedExecutor(ScriptedExecutor):
    """Somebody presses Ctrl-C while the step of that number is waited for."""

    def __init__(self, *, interrupt_at: int | None, **options) -> None:
        super().__init__(**options)
        self._left = interrupt_at

    def collect(self):
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise KeyboardInterrupt
        return super().collect()


class ScriptedRun(Run):
    """Default plugins of all kinds but those given as configs; `blocks` of 16 tokens of KV memory.

    Collecting the step number `interrupt_at` raises KeyboardInterrupt.
    """

    tokenizer = ByteTokenizer()

    def __init__(
        self, directory: Path, *, blocks=64, terminal=False, interrupt_at: int | None = None, **configs: Any
    ) -> None:
        defaults = {
            kind.name: REGISTRY.get(kind.name, kind.default).Config()
            for kind in REGISTRY.kinds.values()
            if kind.default is not None
        }
        super().__init__(config=RunConfig(**(defaults | configs)), registry=REGISTRY, directory=directory)
        self.screen = io.StringIO()
        self._blocks = blocks
        self._terminal = terminal
        self._interrupt_at = interrupt_at

    @cached_property
    def console(self) -> Console:
        return Console(file=self.screen, width=120, highlight=False, force_terminal=self._terminal)

    def engine(self, *, clock=None, with_text=True) -> Engine:
        clock = VirtualClock() if clock is None else clock
        group = KVGroup(layers=(0,), kv_heads=1, head_dim=8, window=None)
        executor = InterruptedExecutor(
            script=SCRIPT,
            info=ModelInfo(name="script", vocab_size=128, max_tokens=MAX_TOKENS, eos_token_ids=(EOS,)),
            kv_groups=(group,),
            clock=clock,
            interrupt_at=self._interrupt_at,
        )
        layout = KVLayout(groups=(group,), block_size=16, num_blocks=(self._blocks,), max_tokens=MAX_TOKENS)
        executor.start(layout, max_sequences=self.config.engine.max_sequences)
        return Engine(
            config=self.config.engine,
            scheduler=self.registry.create("scheduler", self.config.scheduler),
            allocator=self.registry.create(
                "allocator",
                self.config.allocator,
                layout=layout,
                eviction=self.registry.create("eviction", self.config.eviction),
            ),
            layout=layout,
            executor=executor,
            clock=clock,
            info=executor.info,
            tokenizer=self.tokenizer if with_text else None,
            seed=self.config.seed,
            profile=Profile(clock.now) if self.config.engine.profile else None,
        )

    def do(self) -> str:
        """Run the task; what the console showed."""
        self.registry.create("task", self.config.task).run(self)
        return self.screen.getvalue()
