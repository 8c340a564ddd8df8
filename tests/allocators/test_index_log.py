from quire.interfaces import CachedBlock
from quire_plugins.allocators.index_log import IndexLog


def test_removals_are_remembered_up_to_a_length() -> None:
    log = IndexLog(length=3)
    blocks = [CachedBlock(group=0, block=i, key=bytes([i]), depth=i) for i in range(5)]
    assert log.removed_since(0) == ()
    for block in blocks[:3]:
        log.remove(block)
    assert set(map(id, log.removed_since(0) or ())) == set(map(id, blocks[:3]))
    assert log.removed_since(2) == (blocks[2],)
    for block in blocks[3:]:
        log.remove(block)
    assert log.removals == 5
    assert log.removed_since(0) is None, "the first two are forgotten"
    assert log.removed_since(1) is None
    assert set(map(id, log.removed_since(2) or ())) == set(map(id, blocks[2:]))
    assert log.removed_since(5) == ()
