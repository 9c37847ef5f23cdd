"""The shapes that a configuration tells, against those of the network itself."""

import jax
import numpy as np
import pytest
from flax import nnx

from jaxtl.models.families import FAMILIES
from jaxtl.models.mobilenet_v2 import MobileNetV2Config
from jaxtl.models.network import Carry
from jaxtl.models.resnet import ResNetConfig

CONFIGS = {
    "mobilenet_v2": MobileNetV2Config(),
    "mobilenet_v2, as torch pads, with a head": MobileNetV2Config(width=0.35, padding="symmetric", classes=7),
    "resnet": ResNetConfig(),
}


@pytest.mark.parametrize("size", [32, 47, 48])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_knows_what_its_network_hands_on(name, size):
    config = CONFIGS[name]
    network = nnx.eval_shape(lambda: FAMILIES[config.family].network(config, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(network)

    def held(stop):
        """What the network holds after so many layers, without the first axis."""
        image = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
        run = lambda state, x: nnx.merge(graph, state).run(Carry(x), 0, stop, form="xla")  # noqa: E731
        carry = jax.eval_shape(run, state, image)
        return tuple(part and part.shape[1:] for part in carry)

    told = list(config.shapes(size))
    assert len(told) == len(config.layers)
    for stop in (1, *range(2, len(told), 7), len(told)):
        assert told[stop - 1] == held(stop), config.layers[stop - 1].name
