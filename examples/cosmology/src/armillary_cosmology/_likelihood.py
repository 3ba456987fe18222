"""The Gaussian likelihood of binned spectra, with the covariance of Gaussian fields."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from ._survey import Survey
from ._theory import ThreeByTwoPoint, pairs


def gaussian_covariance(
    spectra: Float[np.ndarray, "pairs ell"] | ThreeByTwoPoint, survey: Survey
) -> Float[np.ndarray, "ell n n"]:
    r"""The covariance of the spectra that are measured of Gaussian fields with noise, for each bin of multipoles.

    .. math:: \mathrm{Cov}(\hat C^{ij}, \hat C^{kl}) = \frac{\tilde C^{ik} \tilde C^{jl} + \tilde C^{il} \tilde C^{jk}}
              {f_{sky} \sum_{\ell} (2\ell+1)}, \qquad \tilde C^{ij} = C^{ij} + \delta_{ij} N_i

    Bins of multipoles are independent, as they are of a sky that is cut gently (Joachimi et al. 2008, A&A 477, 43).

    Args:
        spectra: of shear, or of shear and galaxies, without noise at ``survey.ell``.
        survey: its noise and its number of modes.

    Returns:
        Of the spectra in the order of `data_vector`.

    Raises:
        ValueError: the spectra do not fit the survey, or one is not finite.
    """
    _check_spectra(spectra, survey)
    total, (first, second) = _matrix(spectra, survey)
    ik, jl = total[first[:, None], first], total[second[:, None], second]
    il, jk = total[first[:, None], second], total[second[:, None], first]
    return np.moveaxis((ik * jl + il * jk) / survey.num_modes, -1, 0)


def data_vector(spectra: Float[Array, "*batch pairs ell"] | ThreeByTwoPoint) -> Float[Array, "*batch ell n"]:
    """The spectra as data: a row for each bin of multipoles, of shear, then galaxy with shear, then clustering.

    Args:
        spectra: of `cosmic_shear_cls` or of `three_by_two_pt_cls`.
    """
    if isinstance(spectra, ThreeByTwoPoint):
        crossed = spectra.galaxy_shear
        crossed = crossed.reshape(*crossed.shape[:-3], -1, crossed.shape[-1])
        spectra = jnp.concatenate([spectra.shear, crossed, spectra.clustering], axis=-2)
    return jnp.swapaxes(spectra, -1, -2)


class SpectraLikelihood:
    """The likelihood of a survey's spectra: from what a theory says to the distribution of what is measured.

    >>> import jax, numpy as np
    >>> from armillary_cosmology import SpectraLikelihood, pairs, stage_iv
    >>> survey = stage_iv(2)
    >>> i, j = pairs(2)
    >>> spectra = np.where(i == j, 1e-9, 5e-10)[:, None] * (survey.ell / 100) ** -1.2
    >>> likelihood = SpectraLikelihood(survey, spectra)
    >>> likelihood(spectra).sample(jax.random.key(0)).shape
    (30, 3)

    Args:
        survey: what is observed, and how well.
        spectra: the spectra by which the covariance is made, of shear or of shear and galaxies, at ``survey.ell``.
        covariance: another one in its place, for each bin of multipoles, in the order of `data_vector`.

    Raises:
        ValueError: the spectra do not fit the survey or are not finite, or the covariance is not positive definite.
    """

    def __init__(
        self,
        survey: Survey,
        spectra: Float[np.ndarray, "pairs ell"] | ThreeByTwoPoint,
        covariance: Float[np.ndarray, "ell n n"] | None = None,
    ) -> None:
        self.survey = survey
        self.galaxies = isinstance(spectra, ThreeByTwoPoint)
        made = gaussian_covariance(spectra, survey)
        self.covariance = made if covariance is None else np.asarray(covariance, dtype=float)
        if self.covariance.shape != made.shape:
            raise ValueError(f"covariance has shape {self.covariance.shape}: expected {made.shape}")
        self._scale_tril = _cholesky(self.covariance, survey)

    def __call__(self, spectra: Float[Array, "pairs ell"] | ThreeByTwoPoint) -> dist.Distribution:
        """The distribution of the measured spectra, of shape (ell, n)."""
        mean = data_vector(spectra)
        return dist.MultivariateNormal(mean, scale_tril=jnp.asarray(self._scale_tril, dtype=mean.dtype)).to_event(1)

    def check(self, data: Any) -> np.ndarray:
        """Measured spectra as an array, if they fit and are finite.

        Args:
            data: of shape (ell, n), in the order of `data_vector`.

        Raises:
            ValueError: they are not; says which.
        """
        values = np.asarray(data)
        expected = self.covariance.shape[:2]
        if values.shape != expected:
            raise ValueError(f"the data have shape {values.shape}: expected {expected}, bins of multipoles by spectra")
        wrong = np.argwhere(~np.isfinite(values))
        if len(wrong):
            b, n = wrong[0]
            raise ValueError(
                f"the data are {values[b, n]} in spectrum {n}, the multipoles {_of_bin(self.survey, b)}, and "
                f"{len(wrong) - 1} more: leave these out, by another survey"
            )
        return values


def _matrix(spectra: Any, survey: Survey) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """All spectra with noise as a matrix over sources, then lenses; and the rows and columns of the data."""
    num_sources = len(survey.sources)
    i, j = pairs(num_sources)
    if not isinstance(spectra, ThreeByTwoPoint):
        total = np.empty((num_sources, num_sources, len(survey.ell)))
        total[i, j] = total[j, i] = spectra
        total[np.arange(num_sources), np.arange(num_sources)] += survey.shape_noise[:, None]
        return total, (i, j)
    assert survey.lenses is not None  # as `_check_spectra` has seen
    num_lenses = len(survey.lenses)
    num = num_sources + num_lenses
    a, b = (index + num_sources for index in pairs(num_lenses))
    lens, source = (index.ravel() for index in np.mgrid[num_sources:num, :num_sources])
    total = np.empty((num, num, len(survey.ell)))
    total[i, j] = total[j, i] = spectra.shear
    total[a, b] = total[b, a] = spectra.clustering
    total[lens, source] = total[source, lens] = np.reshape(spectra.galaxy_shear, (-1, len(survey.ell)))
    total[np.arange(num), np.arange(num)] += np.concatenate([survey.shape_noise, survey.shot_noise])[:, None]
    return total, (np.concatenate([i, lens, a]), np.concatenate([j, source, b]))


def _check_spectra(spectra: Any, survey: Survey) -> None:
    num_sources, num_ell = len(survey.sources), len(survey.ell)
    given: dict[str, Any] = {"spectra": spectra}
    expected: dict[str, tuple[int, ...]] = {"spectra": (len(pairs(num_sources)[0]), num_ell)}
    if isinstance(spectra, ThreeByTwoPoint):
        if survey.lenses is None:
            raise ValueError("the spectra are of galaxies too, and the survey has no lenses")
        num_lenses = len(survey.lenses)
        given = spectra._asdict()
        expected = {
            "shear": expected["spectra"],
            "galaxy_shear": (num_lenses, num_sources, num_ell),
            "clustering": (len(pairs(num_lenses)[0]), num_ell),
        }
    for name, values in given.items():
        if isinstance(values, jax.core.Tracer):
            raise ValueError("the spectra of a covariance are traced: make the likelihood outside of jit")
        values = np.asarray(values)
        if values.shape != expected[name]:
            raise ValueError(f"{name} has shape {values.shape}: expected {expected[name]}, at the survey's multipoles")
        wrong = np.argwhere(~np.isfinite(values))
        if len(wrong):
            *which, b = (int(index) for index in wrong[0])
            raise ValueError(
                f"{name} is {values[tuple(wrong[0])]} in spectrum {', '.join(map(str, which))}, the multipoles "
                f"{_of_bin(survey, b)}, and at {len(wrong) - 1} more places: look at the cosmology that it is of"
            )


def _cholesky(covariance: np.ndarray, survey: Survey) -> np.ndarray:
    factors = []
    for b, block in enumerate(covariance):
        # Of unit diagonal: spectra differ by orders of magnitude, and rounding is to be judged by their own.
        scale = np.sqrt(np.abs(np.diag(block)))
        correlation = block / np.where(scale > 0, scale[:, None] * scale, 1)
        finite = bool(np.all(np.isfinite(correlation)))
        least = float(np.linalg.eigvalsh(correlation)[0]) if finite else float("nan")
        if not (least > 1e-13 and np.allclose(correlation, correlation.T, rtol=0, atol=1e-9)):
            raise ValueError(
                f"covariance of the multipoles {_of_bin(survey, b)} is not positive definite: the least eigenvalue of "
                f"its correlations is {least:.2g}, expected a symmetric matrix with all above 0; see whether a "
                "spectrum is there twice, a bin has no noise, or the spectra are no ones that fields can have"
            )
        factors.append(np.linalg.cholesky(correlation) * scale[:, None])
    return np.stack(factors)


def _of_bin(survey: Survey, b: int) -> str:
    return f"{survey.ell_edges[b]} to {survey.ell_edges[b + 1] - 1}"
