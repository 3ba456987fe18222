"""The box of parameters that an emulator knows, and what happens outside of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Bool, Float


@dataclass(frozen=True)
class Box:
    """Named parameters with bounds.

    Args:
        names: of the parameters, in the order in which an array holds them.
        lower: the least value of each.
        upper: the largest value of each.

    Raises:
        ValueError: names that are not distinct, other lengths, or a bound that is not below its upper one.

    >>> from armillary_cosmology.emulate import Box
    >>> box = Box(("tilt", "height"), (0.0, 1.0), (1.0, 3.0))
    >>> box.check({"tilt": 0.5, "height": 4.0})
    Traceback (most recent call last):
    ValueError: height=4.0 is outside of the box: 1.0 to 3.0 is what was trained
    """

    names: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        for bound in ("lower", "upper"):
            object.__setattr__(self, bound, tuple(map(float, getattr(self, bound))))
        if len(set(self.names)) != len(self.names) or not self.names:
            raise ValueError(f"names={self.names!r}: give each parameter a name of its own")
        if not len(self.names) == len(self.lower) == len(self.upper):
            raise ValueError(f"a box of {len(self.names)} names needs as many bounds lower and upper")
        for name, low, high in zip(self.names, self.lower, self.upper, strict=True):
            if not -np.inf < low < high < np.inf:
                raise ValueError(
                    f"{name} has the bounds {low!r} and {high!r}: two finite, increasing numbers are needed"
                )

    def priors(self) -> dict[str, dist.Uniform]:
        """A uniform prior of each parameter, over what was trained, to sample from in a NumPyro model.

        >>> from armillary_cosmology.emulate import Box
        >>> Box(("tilt",), (0.0,), (1.0,)).priors()["tilt"].high
        1.0
        """
        return {
            name: dist.Uniform(low, high) for name, low, high in zip(self.names, self.lower, self.upper, strict=True)
        }

    def array(self, parameters: Mapping[str, Any] | Any) -> Float[Array, "*batch p"]:
        """The parameters as one array, whose last axis has the order of `names`.

        Args:
            parameters: by name, or an array already, which is checked for its last axis.

        Raises:
            ValueError: a name that is missing or unknown, or another number of parameters.
        """
        if isinstance(parameters, Mapping):
            different = set(parameters) ^ set(self.names)
            if different:
                raise ValueError(f"parameters {', '.join(sorted(different))}: expected exactly {', '.join(self.names)}")
            values = jnp.broadcast_arrays(*(jnp.asarray(parameters[name]) for name in self.names))
            parameters = jnp.stack([value * 1.0 for value in values], axis=-1)
        x = jnp.asarray(parameters)
        if x.ndim < 1 or x.shape[-1] != len(self.names):
            raise ValueError(
                f"parameters has shape {x.shape}: the last axis holds {len(self.names)}, {', '.join(self.names)}"
            )
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"parameters has dtype {x.dtype}: real floating numbers are needed")
        return x

    def contains(self, parameters: Mapping[str, Any] | Any) -> Bool[Array, "*batch"]:
        """Whether parameters are inside, the bounds included; also of traced ones.

        Args:
            parameters: by name, or an array with the order of `names` on its last axis.
        """
        x = self.array(parameters)
        lower, upper = jnp.asarray(self.lower, x.dtype), jnp.asarray(self.upper, x.dtype)
        return jnp.all((x >= lower) & (x <= upper), axis=-1)

    def check(self, parameters: Mapping[str, Any] | Any) -> None:
        """Refuse parameters that are known and outside; of traced ones, which have no values yet, nothing is said.

        Args:
            parameters: by name, or an array with the order of `names` on its last axis.

        Raises:
            ValueError: naming the first parameter outside, its value and its range.
        """
        x = self.array(parameters)
        if isinstance(x, jax.core.Tracer):
            return
        flat = np.asarray(x).reshape(-1, len(self.names))
        for i, name in enumerate(self.names):
            low, high = (np.asarray(bound[i], flat.dtype) for bound in (self.lower, self.upper))
            outside = ~((flat[:, i] >= low) & (flat[:, i] <= high))
            if outside.any():
                raise ValueError(
                    f"{name}={float(flat[outside, i][0])!r} is outside of the box: {self.lower[i]!r} to "
                    f"{self.upper[i]!r} is what was trained"
                )
