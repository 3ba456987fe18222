"""Each check of an operator, transform, denoiser and evidence estimator catches one that breaks its law."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from armillary.core import Evidence
from armillary.core.testing import (
    CHECKS,
    Case,
    ConformanceError,
    check_denoiser,
    check_evidence_estimator,
    check_operator,
    check_transform,
    parametrize_with_checks,
)

# ---- operators: a Fourier transform with weights


class Weighted:
    """A right transform, complex on both sides and neither unitary nor self-adjoint."""

    size = 12

    @property
    def weights(self):
        return jnp.linspace(1.0, 2.0, self.size).astype(jnp.complex64) * jnp.exp(0.3j).astype(jnp.complex64)

    def in_structure(self):
        return jax.ShapeDtypeStruct((self.size,), jnp.complex64)

    def out_structure(self):
        return jax.ShapeDtypeStruct((self.size,), jnp.complex64)

    def __call__(self, x):
        return self.weights * jnp.fft.fft(x, norm="ortho")

    def adjoint(self, y):
        return jnp.fft.ifft(self.weights.conj() * y, norm="ortho")

    def inverse(self, y):
        return jnp.fft.ifft(y / self.weights, norm="ortho")

    def opnorm(self):
        return 2.0


class RealWeighted(Weighted):
    """A right transform from real to complex numbers."""

    def in_structure(self):
        return jax.ShapeDtypeStruct((self.size,), jnp.float32)

    def adjoint(self, y):
        return super().adjoint(y).real

    def inverse(self, y):
        return super().inverse(y).real


class NoNorm:
    def __init__(self):
        right = Weighted()
        self.adjoint, self.in_structure, self.out_structure = right.adjoint, right.in_structure, right.out_structure
        self.inverse = right.inverse

    def __call__(self, x):
        return Weighted()(x)


class NoInverse(Weighted):
    inverse = None

    def __getattribute__(self, name):
        if name == "inverse":
            raise AttributeError(name)
        return super().__getattribute__(name)


class WrongShape(Weighted):
    def out_structure(self):
        return jax.ShapeDtypeStruct((self.size + 1,), jnp.complex64)


class WiderType(Weighted):
    @property
    def weights(self):
        return jnp.asarray(np.linspace(1.0, 2.0, self.size) * np.exp(0.3j))


class Magnitudes(Weighted):
    def __call__(self, x):
        return super().__call__(jnp.abs(x).astype(x.dtype))


class Conjugated(Weighted):
    """Linear over the real numbers only."""

    def __call__(self, x):
        return super().__call__(x.conj())

    def adjoint(self, y):
        return super().adjoint(y).conj()


class Unconjugated(Weighted):
    def adjoint(self, y):
        return jnp.fft.ifft(self.weights * y, norm="ortho")


class Renormalised(Weighted):
    def adjoint(self, y):
        return super().adjoint(y) * self.size**0.5


class SmallNorm(Weighted):
    def opnorm(self):
        return 1.99


class InfiniteNorm(Weighted):
    def opnorm(self):
        return float("inf")


class BranchingOperator(Weighted):
    def __call__(self, x):
        return super().__call__(x) if x.real[0] > -100 else x


class AllAxes(Weighted):
    def __call__(self, x):
        return self.weights * jnp.fft.fft(jnp.ravel(x), norm="ortho") + 0 * across(x)


@jax.custom_batching.custom_vmap
def across(x):
    return x


@across.def_vmap
def _(axis_size, in_batched, x):
    return jnp.full_like(x, jnp.inf), True


class StoppedOperator(Weighted):
    def __call__(self, x):
        return super().__call__(jax.lax.stop_gradient(x))


class NarrowInverse(Weighted):
    def inverse(self, y):
        return super().inverse(y)[:-1]


class AdjointForInverse(Weighted):
    def inverse(self, y):
        return self.adjoint(y)


# ---- denoisers: the posterior mean under a Gaussian prior


class Shrink:
    """A right denoiser."""

    def factor(self, x, sigma):
        return 1 / (1 + jnp.asarray(sigma, x.dtype) ** 2)

    def __call__(self, x, sigma):
        return x * self.factor(x, sigma)


class Channel(Shrink):
    def __call__(self, x, sigma):
        return super().__call__(x, sigma)[None]


class WiderDenoiser(Shrink):
    def factor(self, x, sigma):
        return 1 / (1 + jnp.asarray(np.float64(sigma)) ** 2)


class NotIdentity(Shrink):
    def factor(self, x, sigma):
        return 0.9


class BlindToSigma(Shrink):
    def factor(self, x, sigma):
        return jnp.ones((), x.dtype)


class BatchNorm(Shrink):
    def __call__(self, x, sigma):
        return x + super().factor(x, sigma) * jnp.asarray(sigma, x.dtype) * x.mean()


class BranchingDenoiser(Shrink):
    def factor(self, x, sigma):
        return super().factor(x, sigma) if sigma > 0.07 else 1.0


class StoppedDenoiser(Shrink):
    def __call__(self, x, sigma):
        return super().__call__(jax.lax.stop_gradient(x), sigma)


def of_image(denoiser):
    return Case(denoiser, example=lambda key: jax.random.normal(key, (6, 5)))


# ---- evidence estimators: the harmonic mean with a Gaussian


class Harmonic:
    """A right estimator on what is nearly Gaussian."""

    def __call__(self, key, samples, log_density):
        values = np.asarray(jax.jit(jax.vmap(jax.vmap(log_density)))(samples), np.float64).ravel()
        u = np.asarray(jax.vmap(jax.vmap(lambda x: ravel_pytree(x)[0]))(samples), np.float64)
        u = u.reshape(-1, u.shape[-1])
        self.check(values)
        covariance = 0.5 * np.cov(u.T)
        centred = u - u.mean(axis=0)
        log_phi = -0.5 * (centred * np.linalg.solve(covariance, centred.T).T).sum(axis=1)
        log_phi -= 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
        peak = (log_phi - values).max()
        ratio = np.exp(log_phi - values - peak)
        log_z = -(peak + math.log(ratio.mean()))
        return self.result(log_z, ratio.std() / ratio.mean() / math.sqrt(ratio.size), samples)

    def check(self, values):
        if np.isnan(values).any():
            raise ValueError("a log-density is NaN")

    def result(self, log_z, error, samples):
        return Evidence(float(log_z), float(error), "harmonic")


class OffByOne(Harmonic):
    def result(self, log_z, error, samples):
        return super().result(log_z + 0.5, error, samples)


class SmallError(Harmonic):
    def result(self, log_z, error, samples):
        return super().result(log_z, 1e-6, samples)


class Uninformative(Harmonic):
    def result(self, log_z, error, samples):
        return super().result(log_z, 100.0, samples)


class NotAResult(Harmonic):
    def result(self, log_z, error, samples):
        return log_z


class Clipped(Harmonic):
    def result(self, log_z, error, samples):
        return super().result(max(log_z, -100.0), error, samples)


class FirstChain(Harmonic):
    def result(self, log_z, error, samples):
        return super().result(log_z + 10 * (jnp.mean(samples["x"][0]) - jnp.mean(samples["x"][-1])), error, samples)


class IgnoresNaN(Harmonic):
    def check(self, values):
        values[np.isnan(values)] = 0.0


KINDS = ("operator", "transform", "denoiser", "evidence_estimator")
WRONG = {
    "check_operator_interface": [NoNorm()],
    "check_operator_structures": [WrongShape(), WiderType()],
    "check_operator_linear": [Magnitudes(), Conjugated()],
    "check_operator_adjoint": [Unconjugated(), Renormalised()],
    "check_operator_opnorm": [SmallNorm(), InfiniteNorm()],
    "check_operator_transforms": [BranchingOperator(), AllAxes()],
    "check_operator_gradient": [StoppedOperator(), Unconjugated()],
    "check_transform_interface": [NoInverse(), NarrowInverse()],
    "check_transform_round_trip": [AdjointForInverse()],
    "check_denoiser_structure": [of_image(Channel())],
    "check_denoiser_float32_where_x64_is_on": [of_image(WiderDenoiser())],
    "check_denoiser_identity": [of_image(NotIdentity())],
    "check_denoiser_sigma": [of_image(BlindToSigma())],
    "check_denoiser_batches": [of_image(BatchNorm())],
    "check_denoiser_vmapped_sigma": [of_image(BranchingDenoiser())],
    "check_denoiser_gradient": [of_image(StoppedDenoiser())],
    "check_evidence_gaussian": [OffByOne(), SmallError(), Uninformative(), NotAResult()],
    "check_evidence_shift": [Clipped()],
    "check_evidence_permutation": [FirstChain()],
    "check_evidence_nan": [IgnoresNaN()],
}
BY_NAME = {check.__name__: check for kind in KINDS for check in CHECKS[kind]}


def test_every_check_has_a_wrong_component():
    assert set(WRONG) == set(BY_NAME)


@pytest.mark.parametrize(("name", "wrong"), [(name, wrong) for name, several in WRONG.items() for wrong in several])
def test_a_wrong_component_is_caught(name, wrong):
    with pytest.raises(ConformanceError, match=rf"^{name}: .* breaks the law that (.|\n)*Found: (.|\n)*Look at: "):
        BY_NAME[name](wrong)


@parametrize_with_checks([RealWeighted(), Weighted()])
def test_a_right_transform_passes(component, check):
    check(component)


@parametrize_with_checks([RealWeighted()], kind="operator")
def test_a_right_operator_passes(component, check):
    check(component)


@parametrize_with_checks([of_image(Shrink())], kind="denoiser")
def test_a_right_denoiser_passes(component, check):
    check(component)


@parametrize_with_checks([Harmonic()], kind="evidence_estimator")
def test_a_right_estimator_passes(component, check):
    check(component)


@pytest.mark.parametrize(
    ("check", "wrong", "first"),
    [
        (check_operator, Magnitudes(), "check_operator_linear"),
        (check_transform, Magnitudes(), "check_operator_linear"),
        (check_denoiser, of_image(NotIdentity()), "check_denoiser_identity"),
        (check_evidence_estimator, OffByOne(), "check_evidence_gaussian"),
    ],
)
def test_the_whole_suite_stops_at_the_first_violation(check, wrong, first):
    with pytest.raises(ConformanceError, match=f"^{first}: "):
        check(wrong)


def test_an_example_restricts_an_operator_to_its_domain():
    class HermitianOnly(Weighted):
        """From Hermitian spectra to real signals: the inverse holds on them only."""

        def out_structure(self):
            return jax.ShapeDtypeStruct((self.size,), jnp.float32)

        def __call__(self, x):
            return jnp.fft.ifft(x, norm="ortho").real

        def adjoint(self, y):
            return jnp.fft.fft(y, norm="ortho")

        def inverse(self, y):
            return jnp.fft.fft(y, norm="ortho")

        def opnorm(self):
            return 1.0

    with pytest.raises(ConformanceError, match="check_transform_round_trip"):
        check_transform(HermitianOnly())
    check_transform(Case(HermitianOnly(), example=lambda key: jnp.fft.fft(jax.random.normal(key, (12,)))))
