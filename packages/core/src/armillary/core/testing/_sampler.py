"""The laws of a sampler: its interface, its state, and its steps as pure functions."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from armillary.core import protocols
from armillary.core._target import OPTIONAL

from ._checks import Broken, Case, check, skip
from ._numbers import Gaussian, agree, finite, flat, same_structure, structure_of

# One step of a sampler may be a thousand rounded operations whose errors it amplifies.
STEP_RTOL = {32: 1e-3, 64: 1e-8}


class Bench:
    """A sampler on the Gaussian problem, built and compiled once for all checks of it."""

    def __init__(self, sampler: Any) -> None:
        self.problem = Gaussian(jnp.zeros(3))
        self.target = self.problem.target(sampler.traits)
        self.algorithm = sampler.build(self.target)
        self.position = self.problem.sample_prior(jax.random.key(7))
        self.step = jax.jit(self.algorithm.step)

    @functools.cached_property
    def state(self) -> Any:
        """The state after a step, by which time any adaptation of types in the first one is over."""
        return self.step(jax.random.key(1), self.start)[0]

    @functools.cached_property
    def start(self) -> Any:
        """The state that the algorithm's ``init`` makes."""
        return jax.jit(self.algorithm.init)(self.position, jax.random.key(0))

    def trajectory(self, key: Array, num: int) -> list[Any]:
        """The states of some steps."""
        states = [self.state]
        for step_key in jax.random.split(key, num):
            states.append(self.step(step_key, states[-1])[0])
        return states[1:]


_BENCHES: list[tuple[Any, Bench]] = []


def bench(case: Case) -> Bench:
    """The bench of a sampler; that of the last one is kept, since its checks run one after the other."""
    if not _BENCHES or _BENCHES[0][0] is not case.component:
        _BENCHES[:] = [(case.component, Bench(case.component))]
    return _BENCHES[0][1]


@check(
    "sampler",
    "it has `traits`, a frozenset of optional capabilities of a Target, and `build`",
    "armillary.core.protocols.Sampler",
)
def check_sampler_interface(case: Case) -> None:
    """It is a `armillary.core.protocols.Sampler`, with known traits."""
    sampler = case.component
    if isinstance(sampler, type):
        raise Broken(f"the class {sampler.__name__} was given, not an object of it")
    if not isinstance(sampler, protocols.Sampler):
        raise Broken(f"{sampler!r} lacks `traits` or `build`")
    if not isinstance(sampler.traits, frozenset) or not sampler.traits <= set(OPTIONAL):
        raise Broken(f"traits is {sampler.traits!r}, expected a frozenset of {', '.join(OPTIONAL)}")
    algorithm = bench(case).algorithm
    if not callable(getattr(algorithm, "init", None)) or not callable(getattr(algorithm, "step", None)):
        raise Broken(f"build(target) gave {type(algorithm).__name__}, without `init` and `step`")


@check(
    "sampler",
    "`build` refuses a target without its traits by a ValueError that names what is missing, and needs no more",
    "`traits`, and a call of target.require(self.traits, name) at the start of `build`",
)
def check_sampler_traits(case: Case) -> None:
    """The declared traits are those that it needs, no fewer and no more."""
    sampler, problem = case.component, Gaussian(jnp.zeros(3))
    for missing in sorted(sampler.traits):
        try:
            sampler.build(problem.target(sampler.traits - {missing}))
        except ValueError as error:
            if missing not in str(error):
                raise Broken(f"the error for a target without {missing} does not name it: {error}") from None
        else:
            raise Broken(f"a target without {missing} was accepted")
    algorithm = sampler.build(problem.target(sampler.traits))
    try:
        _shapes(algorithm, problem.position)
    except (TypeError, AttributeError) as error:
        raise Broken(f"with the traits {sorted(sampler.traits)} alone a step raises {error!r}") from error


@check(
    "sampler",
    "state and info are NamedTuples of arrays that survive flattening, and the state's `position` is the target's",
    "the classes of the state and of the info",
)
def check_sampler_state(case: Case) -> None:
    """States and infos are NamedTuples, flat pytrees, and the state has the position."""
    here = bench(case)
    state, info = here.step(jax.random.key(2), here.state)
    for name, value in (("state", state), ("info", info)):
        if not (isinstance(value, tuple) and hasattr(value, "_fields")):
            raise Broken(f"the {name} is a {type(value).__name__}, not a NamedTuple")
        leaves, treedef = jax.tree.flatten(value)
        if not all(isinstance(leaf, jax.Array) for leaf in leaves):
            raise Broken(f"the {name} has a leaf that is no array: {[type(leaf).__name__ for leaf in leaves]}")
        again = jax.tree.unflatten(treedef, leaves)
        tree: Any = jax.tree.structure(again)
        if type(again) is not type(value) or tree != treedef:
            raise Broken(f"the {name} comes back from flattening as {type(again).__name__}")
    if "position" not in state._fields:
        raise Broken(f"the state has the fields {', '.join(state._fields)}")
    same_structure(state.position, here.position, "state.position")
    started = here.start.position
    same_structure(started, here.position, "init(position, key).position")


@check(
    "sampler",
    "a step gives a state of the shapes and dtypes that it was given, so that a scan can carry it",
    "Python numbers and wider dtypes that enter the state; jax.eval_shape(step, key, state) shows them",
)
def check_sampler_carry(case: Case) -> None:
    """`jax.lax.scan` can carry the state that ``init`` makes."""
    here = bench(case)
    _carried(here.algorithm, here.position)


@check(
    "sampler",
    "a step under jax.jit equals the step without it",
    "Python control flow on values, host-side randomness, and anything computed while tracing",
)
def check_sampler_jit_equals_eager(case: Case) -> None:
    """jit equals eager, of ``init`` and of a step."""
    here = bench(case)
    key = jax.random.key(3)
    agree(here.step(key, here.state), here.algorithm.step(key, here.state), "(state, info)", _rtol(here.position))


@check(
    "sampler",
    "a step under jax.vmap over chains equals a loop over them",
    "reductions over all axes where those of one chain are meant",
)
def check_sampler_vmap_equals_loop(case: Case) -> None:
    """vmap equals a loop."""
    here = bench(case)
    states = here.trajectory(jax.random.key(4), 3)
    keys = jax.random.split(jax.random.key(5), 3)
    together = jax.jit(jax.vmap(here.algorithm.step))(keys, jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))
    loop = [here.step(key, state) for key, state in zip(keys, states, strict=True)]
    agree(together, jax.tree.map(lambda *leaves: jnp.stack(leaves), *loop), "(state, info)", _rtol(here.position))


@check(
    "sampler",
    "a step is traced once, however often it is called",
    "weak types in the state of `init` (Python numbers), and static fields of the state that change",
)
def check_sampler_traces_once(case: Case) -> None:
    """Five steps from ``init``'s state trace the step once."""
    here = bench(case)
    traces = 0

    def counted(key: Array, state: Any) -> Any:
        nonlocal traces
        traces += 1
        return here.algorithm.step(key, state)

    step, state = jax.jit(counted), here.start
    for key in jax.random.split(jax.random.key(6), 5):
        state, _ = step(key, state)
    if traces != 1:
        raise Broken(f"5 steps made {traces} traces")


@check(
    "sampler",
    "the same key gives the same draw",
    "state kept outside of the state, such as a Python or NumPy generator or a counter",
)
def check_sampler_same_key(case: Case) -> None:
    """The same key and state give the same draw, bit for bit."""
    here = bench(case)
    key = jax.random.key(8)
    eager = [here.algorithm.step(key, here.state) for _ in range(2)]
    agree(eager[0], eager[1], "(state, info)", 0.0)
    agree(here.step(key, here.state), here.step(key, here.state), "(state, info) under jit", 0.0)


@check(
    "sampler",
    "another key gives another draw",
    "a key that is fixed, or not split and folded into every random number",
)
def check_sampler_different_keys(case: Case) -> None:
    """Ten steps from the same state with other keys end elsewhere."""
    here = bench(case)
    ends = [flat(here.trajectory(jax.random.key(seed), 10)[-1].position) for seed in (10, 11, 12)]
    if (ends[0] == ends[1]).all() or (ends[1] == ends[2]).all():
        raise Broken(f"10 steps with different keys end at the same position {ends[1]}")


@check(
    "sampler",
    "legacy keys (jax.random.PRNGKey) give the draws of the typed keys (jax.random.key)",
    "functions that take one sort of key only, such as indexing into the key's data",
)
def check_sampler_legacy_keys(case: Case) -> None:
    """Both sorts of key are accepted, with the same result."""
    here = bench(case)
    typed = here.step(jax.random.key(9), here.state)[0].position
    legacy_state = jax.jit(here.algorithm.init)(here.position, jax.random.PRNGKey(0))
    legacy_state = here.step(jax.random.PRNGKey(1), legacy_state)[0]
    legacy = here.step(jax.random.PRNGKey(9), legacy_state)[0].position
    agree(legacy, typed, "the position by legacy keys", 0.0)


@check(
    "sampler",
    "positions may be dictionaries and nested, with scalars among their leaves",
    "arithmetic on positions outside of jax.tree.map",
)
def check_sampler_nested_position(case: Case) -> None:
    """A dictionary with a scalar, a tuple in it and a matrix."""
    _works_on(case, {"a": jnp.zeros(()), "b": (jnp.zeros(2), {"c": jnp.zeros((2, 1))})})


@check(
    "sampler",
    "a position may be one number",
    "indexing, linear algebra and concatenation of positions, which need an axis",
)
def check_sampler_scalar_position(case: Case) -> None:
    """An array without axes."""
    _works_on(case, jnp.zeros(()))


@check(
    "sampler",
    "a float32 position stays float32",
    "constants and random numbers of another dtype",
)
def check_sampler_float32(case: Case) -> None:
    """float32 in, float32 out, where x64 is off."""
    with jax.enable_x64(False):
        _keeps(case, jnp.float32)


@check(
    "sampler",
    "a float64 position stays float64 where x64 is on",
    "constants, masses and random numbers made as float32",
)
def check_sampler_float64(case: Case) -> None:
    """float64 in, float64 out."""
    with jax.enable_x64(True):
        _keeps(case, jnp.float64)


@check(
    "sampler",
    "a float32 position stays float32 also where x64 is on",
    "random numbers and arrays whose dtype is left to the default, such as jax.random.normal(key, shape)",
)
def check_sampler_float32_where_x64_is_on(case: Case) -> None:
    """float32 in, float32 out, where the default is float64."""
    with jax.enable_x64(True):
        _keeps(case, jnp.float32)


def _rtol(position: PyTree) -> float:
    return STEP_RTOL[jnp.finfo(jax.tree.leaves(position)[0].dtype).bits]


def _shapes(algorithm: Any, position: PyTree) -> tuple[Any, Any]:
    """The structures of the state that ``init`` makes and of that after a step."""
    key = jax.random.key(0)
    state = jax.eval_shape(algorithm.init, position, key)
    return state, jax.eval_shape(algorithm.step, key, state)[0]


def _carried(algorithm: Any, position: PyTree) -> Any:
    before, after = _shapes(algorithm, position)
    same_structure(after, before, "the state after a step")
    return after


def _works_on(case: Case, position: PyTree) -> None:
    problem = Gaussian(position)
    algorithm = case.component.build(problem.target(case.component.traits))
    _carried(algorithm, problem.position)
    state = jax.jit(algorithm.init)(problem.sample_prior(jax.random.key(0)), jax.random.key(1))
    step = jax.jit(algorithm.step)
    for key in jax.random.split(jax.random.key(2), 2):
        state, _ = step(key, state)
    same_structure(state.position, structure_of(problem.position), "state.position")
    finite(state.position, "state.position")


def _keeps(case: Case, dtype: Any) -> None:
    problem = Gaussian(jnp.zeros(3, dtype))
    algorithm = case.component.build(problem.target(case.component.traits))
    before, after = _shapes(algorithm, problem.position)
    for name, state in (("init(position, key)", before), ("the state after a step", after)):
        found = jax.tree.leaves(state.position)[0].dtype
        if found != dtype:
            raise Broken(f"the position of {name} is {found}, that of the target {jnp.dtype(dtype)}")
    same_structure(after, before, "the state after a step")


def adaptation_of(case: Case, target: Any, num_warmup: int) -> Any:
    """The sampler's adaptation; a check that needs one does not apply where there is none."""
    make = getattr(case.component, "adaptation", None)
    if make is None:
        raise skip(f"{type(case.component).__name__} has no adaptation")
    return make(target, num_warmup)
