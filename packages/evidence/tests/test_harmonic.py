"""The bare estimator against arithmetic of fifty digits, published figures, and its own invariances."""

import math

import mpmath
import numpy as np
import pytest

from armillary.evidence import harmonic_mean_statistics


def brute_force(log_phi, log_post):
    """The formulas of the docstring, term by term, in mpmath."""
    with mpmath.workdps(50):
        ratios = [
            [mpmath.exp(mpmath.mpf(a) - mpmath.mpf(b)) for a, b in zip(p, q, strict=True)]
            for p, q in zip(log_phi, log_post, strict=True)
        ]
        n = [len(chain) for chain in ratios]
        total = sum(n)
        rho = sum(sum(chain) for chain in ratios) / total
        means = [sum(chain) / len(chain) for chain in ratios]
        s2 = sum(nj * (z - rho) ** 2 for nj, z in zip(n, means, strict=True)) / total
        n_eff = mpmath.mpf(total) ** 2 / sum(nj**2 for nj in n)
        kurtosis = sum(nj * (z - rho) ** 4 for nj, z in zip(n, means, strict=True)) / total / s2**2
        variance = s2 / (n_eff - 1)
        varvar = s2**2 / n_eff**3 * ((kurtosis - 1) + 2 / (n_eff - 1))
        return {
            "log_rho": float(mpmath.log(rho)),
            "relative_variance": float(variance / rho**2),
            "relative_variance_of_variance": float(varvar / rho**4),
            "kurtosis": float(kurtosis),
            "n_eff": float(n_eff),
        }


def draws(lengths, seed=0):
    rng = np.random.default_rng(seed)
    post = [rng.normal(size=n) for n in lengths]
    return [p + 0.7 * rng.normal(size=len(p)) for p in post], post


@pytest.mark.parametrize("lengths", [(50,) * 6, (10, 70, 33), (5, 200)])
@pytest.mark.parametrize("offset", [0.0, 1e6, -1e6])
def test_against_brute_force(lengths, offset):
    log_phi, log_post = draws(lengths)
    # The same inputs go to both, so that the rounding of the inputs at 1e6 is in neither comparison.
    log_post = [p + offset for p in log_post]
    found, expected = harmonic_mean_statistics(log_phi, log_post), brute_force(log_phi, log_post)
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-12, abs=1e-12), name


def test_array_and_list_agree():
    log_phi, log_post = draws((40,) * 5)
    assert harmonic_mean_statistics(np.array(log_phi), np.array(log_post)) == harmonic_mean_statistics(
        log_phi, log_post
    )


def test_published_figures():
    # Draws of a standard 2-D Gaussian, φ uniform on an ellipse; the truth of rho is 1 / (2 pi).
    np.random.seed(30)
    x = np.random.randn(200, 500, 2)
    radius2 = 3.2010076643
    flat = x.reshape(-1, 2)
    inside = (((x - flat.mean(0)) / flat.std(0)) ** 2).sum(-1) < radius2
    log_phi = np.where(inside, -math.log(math.pi * radius2 * flat.std(0).prod()), -np.inf)
    found = harmonic_mean_statistics(log_phi, -0.5 * (x**2).sum(-1))
    rho = math.exp(found.log_rho)
    assert rho == pytest.approx(0.1594414629, rel=1e-9)
    assert found.relative_variance * rho**2 == pytest.approx(1.16417697e-07, rel=1e-8)
    assert math.sqrt(found.relative_variance_of_variance) * rho**2 == pytest.approx(1.142703267e-08, rel=1e-8)
    assert abs(rho - 1 / (2 * math.pi)) < 3 * rho * found.log_z_err


@pytest.mark.parametrize(("temperature", "dim"), [(0.5, 2), (0.8, 10), (0.9, 37)])
def test_variance_of_a_perfect_gaussian(temperature, dim):
    # The relative variance of one independent draw is (T (2 - T))**(-d / 2) - 1.
    x = np.random.default_rng(3).normal(size=(400, 500, dim))
    square = (x**2).sum(-1)
    log_phi = -0.5 * square / temperature - 0.5 * dim * math.log(2 * math.pi * temperature)
    found = harmonic_mean_statistics(log_phi, -0.5 * square)
    exact = (temperature * (2 - temperature)) ** (-dim / 2) - 1
    error = exact * found.variance_ratio
    assert abs(found.relative_variance * x.shape[0] * x.shape[1] - exact) < 4 * error
    assert abs(found.log_z - 0.5 * dim * math.log(2 * math.pi)) < 4 * found.log_z_err


def test_interval():
    log_phi, log_post = draws((50,) * 6)
    found = harmonic_mean_statistics(log_phi, log_post)
    low, high = found.log_z_interval
    assert low < found.log_z < high
    assert high - found.log_z > found.log_z - low
    assert math.exp(-low) == pytest.approx(math.exp(found.log_rho) * (1 + found.log_z_err))
    assert math.exp(-high) == pytest.approx(math.exp(found.log_rho) * (1 - found.log_z_err))


def test_interval_without_upper_end():
    # One ratio outweighs all others: the relative error of rho is 1.
    log_phi = np.zeros((2, 10))
    log_phi[0, 0] = 60.0
    assert harmonic_mean_statistics(log_phi, np.zeros((2, 10))).log_z_interval[1] == math.inf


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("log_post", np.nan, r"log_post is NaN at 2 of 60 draws, first at chain 1, draw 3"),
        ("log_post", np.inf, r"log_post is \+inf at 2 of 60 draws"),
        ("log_post", -np.inf, r"log_post is -inf at 2 of 60 draws.*zero density"),
        ("log_phi", np.nan, r"log_phi is NaN at 2 of 60"),
        ("log_phi", np.inf, r"log_phi is \+inf at 2 of 60"),
    ],
)
def test_values_that_are_refused(name, value, message):
    arrays = {"log_phi": np.zeros((3, 20)), "log_post": np.zeros((3, 20))}
    arrays[name][1, 3] = arrays[name][2, 0] = value
    with pytest.raises(ValueError, match=message):
        harmonic_mean_statistics(**arrays)


def test_shapes_that_are_refused():
    with pytest.raises(ValueError, match="one chain"):
        harmonic_mean_statistics(np.zeros((1, 5)), np.zeros((1, 5)))
    with pytest.raises(ValueError, match="give both for the same draws"):
        harmonic_mean_statistics(np.zeros((2, 5)), np.zeros((2, 6)))
    with pytest.raises(ValueError, match="log_phi: expected"):
        harmonic_mean_statistics(np.zeros(5), np.zeros(5))
    with pytest.raises(ValueError, match="do not overlap"):
        harmonic_mean_statistics(np.full((2, 5), -np.inf), np.zeros((2, 5)))
