"""`NewPlugin` keeps the contract of every victim policy, and chooses whoever holds most."""

from quire.cli.templates.victim import NewPlugin, NewPluginConfig
from quire.interfaces import VictimPolicy
from quire.testing import VictimSuite, make_sequence


class TestContract(VictimSuite):
    def make(self) -> VictimPolicy:
        return NewPlugin(config=NewPluginConfig())


def test_whoever_holds_most_gives_way():
    sequences = [make_sequence((1, 2, 3), order=order) for order in range(4)]
    for sequence, computed in zip(sequences, (2, 9, 9, 5), strict=True):
        sequence.num_computed = computed
    chosen = NewPlugin(config=NewPluginConfig()).choose([sequence.view for sequence in sequences])
    assert chosen is sequences[2].view
