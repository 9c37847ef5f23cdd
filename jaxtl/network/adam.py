"""Adam as Keras has it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax


def keras_adam(
    learning_rate: float, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7
) -> optax.GradientTransformation:
    """Adam as Keras computes it (Kingma & Ba 2015, end of section 2: "epsilon hat").

    Keras adds epsilon to the root of the uncorrected second moment and corrects both moments in the step
    size; `optax.adam` adds it to the corrected one, which differs while the bias correction is large.
    """

    def init(params: Any) -> optax.ScaleByAdamState:
        # Zeros of the host's, since JAX would compile a program for every shape; two, to be donated each.
        mu, nu = (jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), params) for _ in range(2))
        return optax.ScaleByAdamState(np.zeros([], np.int32), mu, nu)

    def update(gradients: Any, state: optax.ScaleByAdamState, params: Any = None):
        del params
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: m + (g - m) * (1 - beta_1), state.mu, gradients)
        nu = jax.tree.map(lambda v, g: v + (g * g - v) * (1 - beta_2), state.nu, gradients)
        rate = learning_rate * jnp.sqrt(1 - jnp.float32(beta_2) ** count) / (1 - jnp.float32(beta_1) ** count)
        steps = jax.tree.map(lambda m, v: -rate * m / (jnp.sqrt(v) + epsilon), mu, nu)
        return steps, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)
