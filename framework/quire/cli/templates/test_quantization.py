"""`NewPlugin` keeps the contract of every way to hold weights."""

import torch

from quire.cli.templates.quantization import NewPlugin, NewPluginConfig
from quire.interfaces import Quantization
from quire.testing import PlainOps, QuantizationSuite


class TestContract(QuantizationSuite):
    error = 0.01

    def make(self) -> Quantization:
        return NewPlugin(config=NewPluginConfig(), device="cpu")


def test_what_bfloat16_holds_is_multiplied_exactly():
    weight_OI = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    plugin = NewPlugin(config=NewPluginConfig(), device="cpu")
    product = plugin.linear(weight_OI, None, name="layers.0.mlp.down", ops=PlainOps())
    assert product(torch.tensor([[2.0, 1.0]])).tolist() == [[0.0, 4.0]]
