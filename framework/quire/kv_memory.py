"""KV memory as a configuration asks for it: what numbers are kept as, and in how many blocks of what size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.engine.config import Preemption, parse_bytes
from quire.errors import MissingCapability, UserError
from quire.runtime.kv_size import plan_layout

if TYPE_CHECKING:
    from quire.config.run_config import RunConfig
    from quire.interfaces.allocator import KVLayout
    from quire.interfaces.attention import AttentionBackend
    from quire.interfaces.executor import Executor
    from quire.registry import Registry


def check_kv_dtype(
    config: RunConfig, registry: Registry, attention: AttentionBackend | type[AttentionBackend]
) -> None:
    """Raise MissingCapability unless the backend can keep keys and values as `engine.kv_dtype` says."""
    wanted = config.engine.kv_dtype.value
    if wanted in attention.kv_dtypes:
        return
    name = registry.name_of("attention", config.attention)
    offering = [
        f"attention={other}"
        for other, backend in registry.available("attention").items()
        if wanted in backend.kv_dtypes
    ]
    raise MissingCapability(
        f"engine.kv_dtype={wanted}: attention={name} keeps {', '.join(sorted(attention.kv_dtypes))}; "
        f"offered by {', '.join(offering) or 'no backend that is installed'}"
    )


def kv_layout(
    config: RunConfig,
    registry: Registry,
    *,
    executor: Executor,
    attention: AttentionBackend | type[AttentionBackend],
    block_size: int,
) -> KVLayout:
    """The blocks of an executor that has loaded its model; `block_size` is the one to take where the user
    names none. Raises UserError or MissingCapability for what they cannot be.
    """
    engine = config.engine
    allocator_type = registry.get("allocator", registry.name_of("allocator", config.allocator))
    host_bytes = allocator_type.host_bytes(config.allocator)
    if engine.preemption is Preemption.swap and not host_bytes:
        raise MissingCapability(
            "engine.preemption=swap: needs host memory to swap to; allocator=paged and allocator=radix "
            "have some with allocator.host_bytes=4GiB"
        )
    block_size = engine.block_size or block_size
    if block_size not in attention.block_sizes:
        name = registry.name_of("attention", config.attention)
        raise UserError(
            f"engine.block_size={block_size}: attention={name} reads blocks of "
            f"{', '.join(map(str, attention.block_sizes))} tokens"
        )
    kv_bytes = (
        executor.free_bytes()
        if engine.kv_bytes == "auto"
        else parse_bytes(engine.kv_bytes, field="engine.kv_bytes")
    )
    return plan_layout(
        executor.kv_groups,
        block_size=block_size,
        block_bytes=executor.kv_block_bytes(block_size),
        kv_bytes=kv_bytes,
        max_tokens=executor.info.max_tokens,
        max_sequences=engine.max_sequences,
        max_step_tokens=engine.max_step_tokens,
        releases_windows=allocator_type.releases_windows,
        host_bytes=host_bytes,
        takes_all=engine.kv_bytes != "auto",
    )
