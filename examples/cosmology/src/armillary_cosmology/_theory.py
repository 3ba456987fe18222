"""Angular power spectra of cosmic shear and of galaxies, from the matter power to what a survey sees."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from . import _limber
from ._cosmology import Cosmology
from ._survey import Survey


class Power(Protocol):
    """What the theory needs of a matter power: `MatterPower`, or anything with these."""

    @property
    def k(self) -> Float[np.ndarray, " nk"]:
        """Wavenumbers in h/Mpc, increasing."""

    @property
    def z(self) -> Float[np.ndarray, " nz"]:
        """Redshifts, increasing."""

    def nonlinear(self, cosmology: Cosmology) -> Float[Array, "*batch nz nk"]:
        """The non-linear power in (Mpc/h)^3 at k in h/Mpc."""


class Nuisance(NamedTuple):
    """What is not cosmology, for each bin of redshift; a pytree, and every field may have leading batch axes.

    Args:
        alignment: amplitude of the intrinsic alignments of each source bin.
        calibration: multiplicative bias m of the shear of each source bin.
        source_shift: shift of the redshifts of each source bin.
        bias: linear bias of the galaxies of each lens bin; needed for galaxies only.
        lens_shift: shift of the redshifts of each lens bin.
    """

    alignment: Float[Array, "*batch sources"]
    calibration: Float[Array, "*batch sources"]
    source_shift: Float[Array, "*batch sources"]
    bias: Float[Array, "*batch lenses"] | None = None
    lens_shift: Float[Array, "*batch lenses"] | None = None

    @classmethod
    def none(cls, survey: Survey) -> Nuisance:
        """No alignment, calibration bias or shift; galaxies that follow matter."""
        zero = jnp.zeros(len(survey.sources))
        if survey.lenses is None:
            return cls(zero, zero, zero)
        return cls(zero, zero, zero, jnp.ones(len(survey.lenses)), jnp.zeros(len(survey.lenses)))


class ThreeByTwoPoint(NamedTuple):
    """The spectra of shear and galaxies.

    Args:
        shear: of the pairs i <= j of source bins, in the order of `pairs`.
        galaxy_shear: of every lens bin with every source bin.
        clustering: of the pairs i <= j of lens bins.
    """

    shear: Float[Array, "*batch pairs ell"]
    galaxy_shear: Float[Array, "*batch lenses sources ell"]
    clustering: Float[Array, "*batch pairs ell"]


def pairs(num_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of bins i <= j in the order of the spectra: (0, 0), (0, 1) ... (1, 1), (1, 2) ...

    >>> from armillary_cosmology import pairs
    >>> pairs(2)
    (array([0, 0, 1]), array([0, 1, 1]))

    Args:
        num_bins: how many bins.
    """
    return np.triu_indices(num_bins)


def cosmic_shear_cls(
    power: Power, cosmology: Cosmology, survey: Survey, nuisance: Nuisance, ell: Float[np.ndarray, " ell"]
) -> Float[Array, "*batch pairs ell"]:
    r"""The spectra of cosmic shear (E modes) of all pairs of source bins.

    .. math:: C_\ell^{ij} = (1 + m_i)(1 + m_j) s_\ell^2 \int d\chi \frac{(W_i + W^I_i)(W_j + W^I_j)}{\chi^2}
              P\left(\frac{\ell+1/2}{\chi}, z(\chi)\right)

    in Limber's approximation (Kaiser 1992; LoVerde & Afshordi 2008, arXiv:0809.5112), with the kernels of lensing and
    of non-linear alignments (Bridle & King 2007, arXiv:0705.0166) and
    :math:`s_\ell = \sqrt{(\ell+2)!/(\ell-2)!} / (\ell+1/2)^2` (Kilbinger et al. 2017, arXiv:1702.05301). Below and
    above the wavenumbers of ``power`` its logarithm is continued as a straight line in ln k.

    Args:
        power: a matter power, with ``k``, ``z`` and ``nonlinear``, whose redshifts hold the survey's.
        cosmology: its parameters, which may have batch axes.
        survey: the source bins.
        nuisance: with the same batch axes, or none.
        ell: multipoles, known before tracing.

    Returns:
        In the dtype of the parameters, each pair in the order of `pairs`.

    Raises:
        ValueError: an argument that cannot be; the message names it.
    """
    ell = _checked(power, survey, nuisance, ell, lenses=False)

    def one(cosmology: Cosmology, nuisance: Nuisance) -> Array:
        geometry = _limber.geometry(cosmology, survey)
        matter = _limber.power_on_grid(power, cosmology, geometry, ell)
        shear = _shear_kernel(geometry, survey, nuisance)
        i, j = pairs(len(survey.sources))
        return _spin(ell, 2, shear) * _limber.spectra(geometry, matter, shear[i], shear[j])

    return _over_batch(one, cosmology, nuisance)


def three_by_two_pt_cls(
    power: Power, cosmology: Cosmology, survey: Survey, nuisance: Nuisance, ell: Float[np.ndarray, " ell"]
) -> ThreeByTwoPoint:
    """The spectra of shear, of galaxies, and of the two, of all pairs of bins.

    As `cosmic_shear_cls`; galaxies follow the non-linear matter with a linear bias, without redshift-space distortions
    and magnification.

    Args:
        power: a matter power, with ``k``, ``z`` and ``nonlinear``, whose redshifts hold the survey's.
        cosmology: its parameters, which may have batch axes.
        survey: source and lens bins.
        nuisance: with the same batch axes, or none; its ``bias`` is needed.
        ell: multipoles, known before tracing.

    Returns:
        The three kinds of spectra, in the dtype of the parameters.

    Raises:
        ValueError: an argument that cannot be; the message names it.
    """
    ell = _checked(power, survey, nuisance, ell, lenses=True)

    def one(cosmology: Cosmology, nuisance: Nuisance) -> ThreeByTwoPoint:
        geometry = _limber.geometry(cosmology, survey)
        matter = _limber.power_on_grid(power, cosmology, geometry, ell)
        shear = _shear_kernel(geometry, survey, nuisance)
        # As `_checked` has seen.
        assert survey.lenses is not None
        assert nuisance.bias is not None
        assert nuisance.lens_shift is not None
        n_z = _limber.shifted(survey.z, survey.lenses, nuisance.lens_shift)
        galaxies = nuisance.bias[:, None] * _limber.galaxy_kernel(geometry, n_z)
        i, j = pairs(len(survey.sources))
        a, b = pairs(len(survey.lenses))
        crossed = _limber.spectra(geometry, matter, galaxies[:, None], shear[None])
        return ThreeByTwoPoint(
            _spin(ell, 2, shear) * _limber.spectra(geometry, matter, shear[i], shear[j]),
            _spin(ell, 1, shear) * crossed,
            _limber.spectra(geometry, matter, galaxies[a], galaxies[b]),
        )

    return _over_batch(one, cosmology, nuisance)


def _shear_kernel(geometry: _limber.Geometry, survey: Survey, nuisance: Nuisance) -> Float[Array, "sources nz"]:
    n_z = _limber.shifted(survey.z, survey.sources, nuisance.source_shift)
    kernel = _limber.lensing_kernel(geometry, n_z) + _limber.alignment_kernel(geometry, n_z, nuisance.alignment)
    return (1 + nuisance.calibration)[:, None] * kernel


def _spin(ell: np.ndarray, times: int, like: Array) -> Array:
    return jnp.asarray(_limber.spin_factor(ell) ** times, dtype=like.dtype)


def _over_batch(one: Any, cosmology: Cosmology, nuisance: Nuisance) -> Any:
    """``one`` of every member of a batch; without batch axes, of the one that there is."""
    # Numbers stay numbers, of which a table knows its own cosmology.
    nuisance = jax.tree.map(jnp.asarray, nuisance)
    shapes = [jnp.shape(leaf) for leaf in cosmology] + [leaf.shape[:-1] for leaf in jax.tree.leaves(nuisance)]
    batch = jnp.broadcast_shapes(*shapes)
    if not batch:
        return one(cosmology, nuisance)
    flat = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, batch).reshape(-1), cosmology)
    rows = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (*batch, leaf.shape[-1])).reshape(-1, leaf.shape[-1]), nuisance
    )
    return jax.tree.map(lambda leaf: leaf.reshape(*batch, *leaf.shape[1:]), jax.vmap(one)(flat, rows))


def _checked(power: Power, survey: Survey, nuisance: Nuisance, ell: Any, *, lenses: bool) -> np.ndarray:
    if isinstance(ell, jax.core.Tracer):
        raise ValueError("ell is traced: give the multipoles as numbers that are known before jit, by a closure")
    multipoles = np.asarray(ell, dtype=float)
    if multipoles.ndim != 1 or not len(multipoles) or not np.all(np.isfinite(multipoles)) or np.any(multipoles < 2):
        raise ValueError(f"ell={ell!r}: expected a vector of multipoles from 2 on")
    z_min, z_max = (float(np.asarray(power.z)[end]) for end in (0, -1))
    if survey.z[0] < z_min:
        raise ValueError(
            f"the survey starts at z = {survey.z[0]:g} and power at z = {z_min:g}: give a power from z = 0 on, such as "
            "MatterPower.pretrained()"
        )
    if survey.z[-1] > z_max * (1 + 1e-6):
        raise ValueError(
            f"the survey goes to z = {survey.z[-1]:g} and power to z = {z_max:g}: cut the survey off there, with "
            f"stage_iv(z_max={z_max:g}), or give a power that goes on"
        )
    expected = {name: len(survey.sources) for name in ("alignment", "calibration", "source_shift")}
    if lenses:
        if survey.lenses is None:
            raise ValueError("the survey has no lenses: give Survey(..., lenses=, n_lens=), or use cosmic_shear_cls")
        expected |= {name: len(survey.lenses) for name in ("bias", "lens_shift")}
    for name, count in expected.items():
        shape = jnp.shape(getattr(nuisance, name))
        if not shape or shape[-1] != count:
            raise ValueError(f"nuisance.{name} has shape {shape}: expected (..., {count}), a number for each bin")
    return multipoles
