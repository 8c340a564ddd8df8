"""What settling does to the collector of a process, seen from inside one."""

import subprocess
import sys

PROGRAM = """
import gc
from quire.jobs.heap import settle_heap

class Node:
    pass

def ring():
    node = Node()
    node.itself = node

kept = [Node() for _ in range(1000)]
ring()
settle_heap()
assert gc.get_freeze_count() > 1000
assert not any(isinstance(each, Node) for each in gc.get_objects()), "what stays is looked at no more"
for _ in range(20_000):
    ring()
assert sum(isinstance(each, Node) for each in gc.get_objects()) < 15_000, "what is new is collected still"
"""


def test_what_is_there_stays_and_what_comes_is_collected():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)
