"""Running the chains of a NumPyro kernel in chunks, so that they show progress and can be stopped and resumed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree
from numpyro.infer.mcmc import MCMCKernel

from ._checkpoint import Checkpoint

#: What is collected of a kernel's state where it has it, and its name in ArviZ's schema.
STATISTICS = {
    "potential_energy": "lp",
    "diverging": "diverging",
    "accept_prob": "acceptance_rate",
    "num_steps": "n_steps",
    "energy": "energy",
    "step_size": "step_size",
    "adapt_state.step_size": "step_size",
    "algorithm.log_z": "log_z",
    "algorithm.log_z_err": "log_z_err",
    "algorithm.effective_size": "effective_size",
}


class Draws(NamedTuple):
    """Unconstrained positions and statistics, with leading axes (chain, draw)."""

    positions: PyTree
    statistics: dict[str, Array]


class Progress(NamedTuple):
    """How far the chains are: steps of ``total``, of which the first ``num_warmup`` are warm-up."""

    done: int
    total: int
    num_warmup: int
    num_divergent: int


def num_devices(num_chains: int) -> int:
    """How many devices parallel chains are shared out over, as many to each: all where there are several processes."""
    if jax.process_count() > 1:
        return jax.device_count()
    return next(n for n in range(jax.device_count(), 0, -1) if num_chains % n == 0)


class Chains:
    """The chains of one kernel.

    Args:
        kernel: a NumPyro kernel.
        args: positional arguments of the model.
        kwargs: its keyword arguments.
        num_chains: how many.
        num_warmup: warm-up steps of each.
        num_samples: draws of each.
        chain_method: ``"vectorized"``, ``"sequential"`` or ``"parallel"`` (over the devices of all processes).
        chunk_size: steps between two reports, and two checkpoints.
    """

    def __init__(
        self,
        kernel: MCMCKernel,
        args: tuple,
        kwargs: dict[str, Any],
        *,
        num_chains: int,
        num_warmup: int,
        num_samples: int,
        chain_method: str,
        chunk_size: int,
    ) -> None:
        self._kernel, self._args, self._kwargs = kernel, args, kwargs
        self._num_chains, self._num_warmup, self._num_samples = num_chains, num_warmup, num_samples
        self._chain_method, self._chunk_size = chain_method, chunk_size
        if chain_method == "parallel":
            mesh = Mesh(np.array(jax.devices()[: num_devices(num_chains)]), ("chain",))
            self._over_chains = NamedSharding(mesh, PartitionSpec("chain"))
            self._gather = jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, PartitionSpec()))

    def run(self, key: Array, checkpoint: Checkpoint | None, report: Callable[[Progress], None]) -> Draws:
        """All draws, from the start or from where the checkpoint is."""
        state = self._init(key)
        advance = self._compile()
        total = self._num_warmup + self._num_samples
        collected: list[Draws] = []
        done = number = 0
        if checkpoint and (number := checkpoint.last()):
            like = jax.eval_shape(self._collect, state)
            done, loaded_state = checkpoint.load_state(number - 1, state)
            state = self._place(jax.tree.map(lambda leaf: leaf[self._own()], loaded_state))
            loaded = (checkpoint.load_draws(chunk, like) for chunk in range(number))
            collected = [draws for draws in loaded if draws is not None]
        num_divergent = sum(_count(draws) for draws in collected)
        report(Progress(done, total, self._num_warmup, num_divergent))
        while done < total:
            warmup = done < self._num_warmup
            size = min(self._chunk_size, (self._num_warmup if warmup else total) - done)
            state, buffer = advance(state, size)
            draws = None
            if not warmup:
                draws = jax.tree.map(lambda leaf, n=size: np.asarray(leaf)[:, :n], self._everywhere(buffer))
            jax.block_until_ready(state)
            done += size
            if checkpoint:
                whole = self._everywhere(state)
                if self._chain_method != "parallel" or jax.process_index() == 0:
                    checkpoint.save(number, done, draws, whole)
                number += 1
            if draws is not None:
                collected.append(draws)
                num_divergent += _count(draws)
            report(Progress(done, total, self._num_warmup, num_divergent))
        return jax.tree.map(lambda *parts: np.concatenate(parts, axis=1)[:, : self._num_samples], *collected)

    def _init(self, key: Array) -> PyTree:
        keys = jax.random.split(key, self._num_chains)

        def init(key: Array) -> PyTree:
            return self._kernel.init(key, self._num_warmup, None, self._args, self._kwargs)

        if self._chain_method == "vectorized":
            return init(keys)
        # NumPyro's kernels remember whether they were given one key or a batch: here they step one chain at a time.
        return self._place(jax.tree.map(lambda *leaves: jnp.stack(leaves), *[init(key) for key in keys[self._own()]]))

    def _own(self) -> np.ndarray:
        """The numbers of the chains that this process runs: all but where several processes share them out."""
        chains = np.arange(self._num_chains)
        if self._chain_method != "parallel":
            return chains
        pieces = self._over_chains.addressable_devices_indices_map(chains.shape).values()
        return np.sort(np.concatenate([chains[index] for index in pieces]))

    def _place(self, own: PyTree) -> PyTree:
        """The states of this process's chains, put onto its devices as its part of all."""
        if self._chain_method != "parallel":
            return own

        def place(leaf: Array) -> Array:
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                return jax.random.wrap_key_data(place(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
            return jax.make_array_from_process_local_data(self._over_chains, np.asarray(leaf))

        return jax.tree.map(place, own)

    def _everywhere(self, tree: PyTree) -> PyTree:
        """Arrays of all chains where each process can read them."""
        return self._gather(tree) if self._chain_method == "parallel" else tree

    def _collect(self, state: PyTree) -> Draws:
        statistics = {}
        for field, name in STATISTICS.items():
            value = _field(state, field)
            if value is not None and name not in statistics:
                statistics[name] = -value if field == "potential_energy" else value
        return Draws(getattr(state, self._kernel.sample_field), statistics)

    def _advance(self, state: PyTree, size: Array) -> tuple[PyTree, Draws]:
        """``size`` steps of one chain, or of a batch of them: (state, draws with the draw axis first)."""
        example = jax.eval_shape(self._collect, state)
        buffer = jax.tree.map(lambda leaf: jnp.zeros((self._chunk_size, *leaf.shape), leaf.dtype), example)

        def step(i: Array, carry: tuple[PyTree, Draws]) -> tuple[PyTree, Draws]:
            state, buffer = carry
            state = jax.tree.map(_strong, self._kernel.sample(state, self._args, self._kwargs))
            return state, jax.tree.map(lambda all_, new: all_.at[i].set(new), buffer, self._collect(state))

        # The bound is a traced number: one compilation serves every chunk, of the warm-up too.
        return jax.lax.fori_loop(0, size, step, (state, buffer))

    def _compile(self) -> Callable[[PyTree, int], tuple[PyTree, Draws]]:
        if self._chain_method == "vectorized":

            def advance(state: PyTree, size: Array) -> tuple[PyTree, Draws]:
                state, draws = self._advance(state, size)
                return state, jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), draws)

            return jax.jit(advance)

        def in_turn(state: PyTree, size: Array) -> tuple[PyTree, Draws]:
            return jax.lax.map(partial(self._advance, size=size), state)

        if self._chain_method == "sequential":
            return jax.jit(in_turn)
        # Each device runs its own chains and waits for no other.
        split, same = PartitionSpec("chain"), PartitionSpec()
        shared = jax.shard_map(
            in_turn, mesh=self._over_chains.mesh, in_specs=(split, same), out_specs=split, check_vma=False
        )
        return jax.jit(shared)


def _strong(leaf: Array) -> Array:
    """The same without a weak type, of which a state that comes out differs from the one that went in.

    The next chunk would be compiled anew: half a minute where the density is that of cosmic shear.
    """
    return leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else jnp.asarray(leaf, leaf.dtype)


def _field(state: Any, path: str) -> Any:
    for name in path.split("."):
        try:
            state = getattr(state, name)
        except (AttributeError, KeyError):
            return None
    return state


def _count(draws: Draws) -> int:
    diverging = draws.statistics.get("diverging")
    return 0 if diverging is None else int(np.sum(diverging))
