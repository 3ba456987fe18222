"""Scattering covariances on the sphere."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Complex, Float

from armillary.sphere import power_spectrum

from . import _cross as cross
from . import _layers as layers
from . import _plane_covariance as plane_covariance
from . import _sphere_covariance as sphere_covariance
from ._check import check_alm, check_integer
from ._cross import CrossStatistics
from ._layers import Scheme
from ._mask import Weights, weights_of
from ._plane import Plane, check_image, plane_of
from ._statistics import Reduction, ScatteringStatistics

Backend = Literal["auto", "jax", "table", "pallas", "ducc"]
Domain = Literal["sphere", "plane"]
_REDUCTIONS: dict[Any, Reduction] = {False: "none", True: "full", "relative": "relative"}


class ScatteringCovariance(eqx.Module):
    r"""The scattering covariances of a real field on the sphere: statistics that see more than its power spectrum.

    With the wavelet coefficients :math:`W^\lambda` of a field, :math:`\lambda = (j, \gamma)` a scale and a direction of
    ``armillary.sphere.Wavelets``, and :math:`W^\lambda[\cdot]` those of another field,

    .. math:: S_1^\lambda &= \langle |W^\lambda| \rangle, \qquad S_2^\lambda = \langle |W^\lambda|^2 \rangle, \\
              S_3^{\lambda_1 \lambda_2} &= \langle W^{\lambda_1}\, W^{\lambda_1}[|W^{\lambda_2}|] \rangle, \qquad
              S_4^{\lambda_1 \lambda_2 \lambda_3} = \langle W^{\lambda_1}[|W^{\lambda_2}|]\,
              W^{\lambda_1}[|W^{\lambda_3}|] \rangle,

    where the mean is over the sphere, and :math:`j_1 < j_2 \le j_3`: a modulus varies over larger scales than its own.
    Over points and directions wavelets have no mean, so that these are covariances. With a `reference` they are divided
    by its power,

    .. math:: \frac{S_1^{\lambda}}{\sqrt{P^\lambda}}, \quad \frac{S_2^{\lambda}}{P^\lambda}, \quad
              \frac{S_3^{\lambda_1 \lambda_2}}{\sqrt{P^{\lambda_1} P^{\lambda_2}}}, \quad
              \frac{S_4^{\lambda_1 \lambda_2 \lambda_3}}{\sqrt{P^{\lambda_2} P^{\lambda_3}}},

    with :math:`P = S_2[\text{reference}]`.

    ``isotropic=True`` is the mean over all directions. It needs no second layer of wavelets: with
    :math:`B_j` the coefficients of the mean modulus of scale j,

    .. math:: S_3^{j_1 j_2} = \frac{1}{8 \pi^2} \mathrm{Re} \sum_{lm} \kappa_{j_1}(l)^2\, a_{lm} B^*_{j_2 lm}, \qquad
              S_4^{j_1 j_2 j_3} = \frac{1}{8 \pi^2} \mathrm{Re} \sum_{lm} \kappa_{j_1}(l)^2\, B_{j_2 lm} B^*_{j_3 lm}.

    ``isotropic="relative"`` is the mean over directions turned together, which keeps :math:`\gamma_2 - \gamma_1` and
    :math:`\gamma_3 - \gamma_1`. Directions are relative to the meridian of each point: only ``isotropic=True`` is
    unchanged by all rotations, to the accuracy of a sampled modulus, which `oversample` improves; the others are by
    rotations about the axis. Over the whole sphere these need no second layer either: S3 and S4 are quadratic forms in
    harmonic coefficients, whose matrices are stored (for ``N = 3`` some 1.7 MiB in float64 at L = 64, 13 at 128 and 105
    at 256; beyond 512 MiB a second layer is made instead).

    With a `mask` a mean is one with its weights, S3 and S4 are covariances there, and isotropic ones need the second
    layer. The field is that of the whole sphere, so that wavelets near the edge see what is beyond it: set it to 0
    there, or better something smooth.

    With ``domain="plane"`` the field is an image, which is taken to be periodic: make one that is not smooth across its
    edges so, by a window that falls to 0 there or by its mirror images. Wavelets are the Morlet wavelets of
    `ScatteringNetwork` on the plane, at all pixels. They are complex, and S3 and S4 are covariances with the complex
    conjugate of the second factor: their real parts, and with ``isotropic=False`` imaginary ones too, which follow all
    real ones, and are labelled ``"s3 imaginary"`` and ``"s4 imaginary"``. (A mean over a whole turn has none.)

    A `ScatteringCovariance` is a pytree, whose arrays are the power of the reference and the weights of the mask.

    Args:
        L: the bandlimit of the field. On the plane, the side of the image in pixels, or (rows, columns).
        N: the number of directions that a wavelet resolves; there are ``2 N - 1`` directions; 3 by default. On the
            plane, the number of directions over half a circle; 4 by default.
        J_min: the largest scale, of degrees from :math:`2^{J_{min} - 1}` to :math:`2^{J_{min} + 1}`. On the plane a
            wavelet has some :math:`\tfrac34 2^j` waves across the shorter side.
        isotropic: what is done to directions: see above.
        oversample: how much finer than the wavelet's own the grid is on which a modulus is taken. Of the sphere, as
            `compat`, `mask` and `backend`.
        reference: harmonic coefficients ``(L, 2 L - 1)`` of the field by whose power coefficients are divided, or the
            image; with none, they are in units of the field.
        compat: ``"s2scat"`` for the numbers of s2scat 0.0.3: its integrals for the filters, S3 and S4 with no factor
            :math:`1 / 4 \pi` and every pair in both orders, divided by the power of scale :math:`j_1` at the directions
            of all, and ``isotropic=True`` their plain sum.
        mask: the weight of each point in a mean, of 0 or more, a map on ``GaussLegendre(L)``; on the grids of larger
            scales it is interpolated.
        backend: of the transforms: see ``armillary.sphere.SHT``. ``"table"`` is the fastest up to some L = 256.
        domain: ``"sphere"`` or ``"plane"``.
        spectra: append the power spectrum, degree by degree from 1 on, of which S2 is a mean over the bands of scales;
            with a `reference` divided by its. Of the whole sphere.

    Raises:
        ValueError: an argument is out of range; `L` has fewer than two scales from `J_min`; or a scale of the reference
            has no power. Names it, and what is allowed.

    References: Mousset L., Allys E., Price M. A. et al. 2024 (arXiv:2407.07007); Cheng S., Morel R., Allys E., Menard
    B., Mallat S. 2023 (arXiv:2306.17210).

    >>> import jax
    >>> from armillary.scatter import ScatteringCovariance
    >>> from armillary.sphere import alm_from_real
    >>> alm = alm_from_real(jax.random.normal(jax.random.key(0), (256,)))
    >>> cov = ScatteringCovariance(16, N=3, J_min=2, reference=alm)
    >>> s = cov(alm)
    >>> s.s3.shape, s.s4.shape
    ((3,), (4,))
    >>> bool(abs(s.s2 - 1).max() < 1e-5)
    True
    >>> images = jax.random.normal(jax.random.key(0), (5, 32, 32))
    >>> ScatteringCovariance(32, N=4, J_min=1, domain="plane")(images).s4.shape
    (5, 10)
    """

    L: Any = eqx.field(static=True)  # int, or (rows, columns)
    N: int = eqx.field(static=True)
    J_min: int = eqx.field(static=True)
    isotropic: bool | Literal["relative"] = eqx.field(static=True)
    oversample: float = eqx.field(static=True)
    compat: Literal["s2scat"] | None = eqx.field(static=True)
    backend: Backend = eqx.field(static=True)
    domain: Domain = eqx.field(static=True)
    spectra: bool = eqx.field(static=True)
    power: Float[Array, " scales"] | None
    weights: Weights | None
    spectrum: Float[Array, " degrees"] | None

    def __init__(
        self,
        L: int | tuple[int, int],
        N: int | None = None,
        J_min: int = 0,
        isotropic: bool | Literal["relative"] = True,
        oversample: float = 1,
        reference: Complex[Array, "L 2*L-1"] | Float[Array, "rows columns"] | None = None,
        compat: Literal["s2scat"] | None = None,
        mask: Float[Array, "rings longitudes"] | None = None,
        backend: Backend = "auto",
        domain: Domain = "sphere",
        spectra: bool = False,
    ) -> None:
        if domain not in get_args(Domain):
            raise ValueError(f"domain={domain!r}: 'sphere' or 'plane'")
        if isotropic not in (True, False, "relative"):
            raise ValueError(f"isotropic={isotropic!r}: True, False or 'relative'")
        if spectra not in (True, False):
            raise ValueError(f"spectra={spectra!r}: True or False")
        if spectra and (domain == "plane" or compat is not None or mask is not None):
            raise ValueError("spectra=True with domain='plane', compat or mask: it is of the whole sphere")
        self.isotropic, self.compat, self.backend, self.domain = isotropic, compat, backend, domain
        self.spectra, self.spectrum = bool(spectra), None
        if domain == "plane":
            if oversample != 1 or compat is not None or mask is not None or backend != "auto":
                raise ValueError(
                    "oversample, compat, mask or backend with domain='plane': they are of the sphere; leave them out"
                )
            plane = plane_of(L, 4 if N is None else N, J_min, _REDUCTIONS[isotropic], fewest=2)
            self.L, self.N, self.J_min, self.oversample, self.weights = plane.shape, plane.N, plane.J_min, 1.0, None
            self.power = None if reference is None else self._power_of(reference)
            return
        size = check_integer("L", L, 4, None, "the bandlimit of the field, which has two scales or more,")
        if compat not in (None, "s2scat"):
            raise ValueError(f"compat={compat!r}: None, or 's2scat'")
        if compat and isotropic == "relative":
            raise ValueError("isotropic='relative' with compat='s2scat', which has no such thing: True or False")
        number = isinstance(oversample, (int, float)) and not isinstance(oversample, bool)
        if not number or not 1 <= oversample < math.inf:
            raise ValueError(f"oversample={oversample!r}: a finite number of 1 or more")
        if compat and oversample != 1:
            raise ValueError(f"oversample={oversample} with compat='s2scat', which has none: 1")
        if compat and mask is not None:
            raise ValueError("mask with compat='s2scat', which has none")
        if backend not in get_args(Backend):
            raise ValueError(f"backend={backend!r}: one of {', '.join(map(repr, get_args(Backend)))}")
        last = Scheme(size, 1, 0, "full", 1.0, compat is not None, backend).J - 1
        meaning = f"the largest scale, with another before the smallest, {last + 1} at L={size},"
        self.J_min = check_integer("J_min", J_min, 0, last, meaning)
        degrees = min(size, 2 ** (max(self.J_min, 1) + 1))
        meaning = f"the number of directions of a wavelet, at J_min={self.J_min} of {degrees} degrees,"
        self.N = check_integer("N", 3 if N is None else N, 1, degrees, meaning)
        self.L, self.oversample = size, float(oversample)
        self.weights = None if mask is None else weights_of(self._scheme, mask)
        self.power = None if reference is None else self._power_of(reference)
        if spectra and reference is not None:
            self.spectrum = self._spectrum_of(reference)

    @property
    def J(self) -> int:
        """The smallest scale."""
        return self._plane.J if self.domain == "plane" else self._scheme.J

    @property
    def _plane(self) -> Plane:
        return Plane(self.L, self.N, self.J_min, _REDUCTIONS[self.isotropic])

    @property
    def _scheme(self) -> Scheme:
        reduction = _REDUCTIONS[self.isotropic]
        return Scheme(self.L, self.N, self.J_min, reduction, self.oversample, self.compat is not None, self.backend)

    def __call__(self, alm: Complex[Array, "... L 2*L-1"] | Float[Array, "... rows columns"]) -> ScatteringStatistics:
        """The statistics of a field.

        Args:
            alm: harmonic coefficients of a real field; on the plane, the image itself. Leading axes are a batch.

        Returns:
            Its statistics, in the precision of `alm`.

        Raises:
            ValueError: `alm` has another shape or type, is of a complex field, or needs x64 where it is off.
        """
        return self._statistics(self.power, self._check("alm", alm))

    def cross(self, a: Complex[Array, "... L 2*L-1"], b: Complex[Array, "... L 2*L-1"]) -> CrossStatistics:
        r"""The statistics of two fields on the sphere.

        .. math:: S_2^\lambda = \langle W_a^\lambda\, W_b^\lambda \rangle, \qquad
                  S_3^{\lambda_1 \lambda_2} = \langle W_a^{\lambda_1}\, W^{\lambda_1}[|W_b^{\lambda_2}|] \rangle, \qquad
                  S_4^{\lambda_1 \lambda_2 \lambda_3} = \langle W^{\lambda_1}[|W_a^{\lambda_2}|]\,
                  W^{\lambda_1}[|W_b^{\lambda_3}|] \rangle,

        S3 also with a and b exchanged, and S4 for every pair of moduli in both orders. Both fields are divided by the
        power of the one reference: where they have other units, divide them by their own before.

        Args:
            a: harmonic coefficients of a real field; leading axes are a batch.
            b: those of another.

        Returns:
            Their statistics; ``cross(a, a)`` has the numbers of ``cov(a)``.

        Raises:
            ValueError: as `__call__`; or there is `compat`, or the domain is the plane.

        >>> import jax
        >>> from armillary.scatter import ScatteringCovariance
        >>> from armillary.sphere import alm_from_real
        >>> a, b = alm_from_real(jax.random.normal(jax.random.key(0), (2, 64)))
        >>> s = ScatteringCovariance(8, N=1, J_min=1).cross(a, b)
        >>> s.ravel().shape
        (15,)
        >>> s.labels()[4]
        CrossLabel(group='s3', fields=(0, 1), scales=(1, 2), directions=())
        """
        if self.domain == "plane":
            raise ValueError("cross with domain='plane': the statistics of two fields are of the sphere")
        if self.compat:
            raise ValueError(f"cross with compat={self.compat!r}, which has no statistics of two fields")
        fields = self._check("a", a), self._check("b", b)
        return cross.statistics(self._scheme, self.power, self.weights, *fields)

    def _check(self, name: str, field: Any) -> Array:
        if self.domain == "plane":
            return check_image(name, field, self._plane.shape)
        return check_alm(name, field, self._scheme.L)

    def _statistics(self, power: Array | None, field: Array) -> ScatteringStatistics:
        if self.domain == "plane":
            return plane_covariance.statistics(self._plane, power, field)
        s = sphere_covariance.statistics(self._scheme, power, self.weights, field)
        if not self.spectra:
            return s
        cl = power_spectrum((field + layers.flip(field)) / 2)[..., 1:]
        if self.spectrum is not None:
            cl = cl / self.spectrum.astype(cl.dtype)
        return ScatteringStatistics(
            s.mean, s.variance, s.s1, s.s2, s.s3, s.s4, replace(s.layout, bandlimit=self._scheme.L), cl
        )

    def _power_of(self, reference: Any) -> Array:
        if isinstance(reference, jax.core.Tracer):
            raise ValueError("reference is traced: make the ScatteringCovariance outside of jit, of a known field")
        field = self._check("reference", reference)
        if field.ndim > 2:
            raise ValueError(f"reference has shape {field.shape}: one field, {field.shape[-2:]}")
        s2 = self._statistics(None, field).s2
        check_power("reference", self, s2)
        return s2

    def _spectrum_of(self, reference: Any) -> Array:
        cl = power_spectrum(self._check("reference", reference))[1:]
        for degree, power in enumerate(np.asarray(cl).tolist(), start=1):
            if not power > (1e3 * np.finfo(cl.dtype).eps) ** 2 * float(cl.max()):
                raise ValueError(
                    f"reference has no power at degree {degree}, by which the spectrum would be divided: "
                    "spectra=False, or pass another field"
                )
        return cl


def check_power(name: str, cov: ScatteringCovariance, s2: Array) -> None:
    """`ValueError` if a scale of the field called `name`, of these S2, has no more power than rounding gives it."""
    values = np.asarray(s2)
    floor = (1e3 * np.finfo(values.dtype).eps) ** 2 * values.max()
    on_plane = cov.domain == "plane"
    layout = plane_covariance.layout(cov._plane) if on_plane else cov._scheme.layout
    for (j, _), power in zip(layout.first.tolist(), values.tolist(), strict=True):
        if not power > floor:
            if on_plane:
                where = f"some {3 * 2**j / 4:g} waves across"
            else:
                where = f"degrees {math.floor(2.0 ** (j - 1)) + 1} to {min(2 ** (j + 1), cov._scheme.L) - 1}"
            raise ValueError(
                f"{name} has no power at scale {j}, {where}, by which coefficients would be divided: raise J_min if it "
                "is the largest, or pass another field"
            )
