"""NumPyro models of a survey's spectra: the parameters, their priors, and what is derived of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float

from ._background import omega_matter
from ._cosmology import Cosmology
from ._likelihood import SpectraLikelihood
from ._theory import Nuisance, cosmic_shear_cls, three_by_two_pt_cls


class SpectraModel:
    """A NumPyro model of the spectra of one survey, or of several of different skies.

    Its parameters are the cosmological ones, and for each survey ``alignment`` (normal, of 1), ``calibration`` (normal,
    of 0.01) and ``source_shift`` (normal, of 0.002 and 1 + the bin's mean redshift), of each source bin, and with
    galaxies ``bias`` (uniform from 0.1 to 5) and ``lens_shift`` of each lens bin. With ten bins this makes 36
    parameters of cosmic shear in LCDM, 38 with w0 and wa, and 156 of the 3x2pt of three surveys: those of Piras &
    Spurio Mancini (2023, arXiv:2305.06347) but for one of baryons in place of two. ``wa``, ``Omega_m``, ``sigma_8`` and
    ``S_8`` are derived. Cosmological parameters are uniform over the box of ``power``, but for the two that lensing
    alone knows little of, ``omega_b`` (normal, 0.0222 +- 0.0005, of the abundance of deuterium) and ``n_s`` (normal,
    0.96 +- 0.02), both cut off at the box: the priors of lensing alone in Planck Collaboration (2020, A&A 641, A8). In
    LCDM w0 is -1 and wa is 0.

    Args:
        power: a matter power with its ``box`` of parameters, such as `MatterPower`.
        likelihoods: one, or several, of which each has parameters of its own; these then end in ``_0``, ``_1`` ...
        dark_energy: w0 and wa are parameters too.
        fixed: parameters by name that are not sampled, with their values; with `Cosmology` fields and, for all bins at
            once, the names of the others.
        bounds: uniform priors of cosmological parameters between these, in the place of the above.
        priors: distributions in the place of the above, of one parameter, or of one of the bins; those of cosmological
            parameters must not leave the emulator's box.

    Raises:
        ValueError: a name that is none of a parameter, or bounds or a prior that leave the emulator's box.
    """

    def __init__(
        self,
        power: Any,
        likelihoods: SpectraLikelihood | Sequence[SpectraLikelihood],
        *,
        dark_energy: bool = False,
        fixed: Mapping[str, Any] | None = None,
        bounds: Mapping[str, tuple[float, float]] | None = None,
        priors: Mapping[str, dist.Distribution] | None = None,
    ) -> None:
        self.power = power
        self.likelihoods = [likelihoods] if isinstance(likelihoods, SpectraLikelihood) else list(likelihoods)
        if not self.likelihoods:
            raise ValueError("likelihoods=[]: expected one at least")
        self.dark_energy = dark_energy
        box = power.box
        self.bounds = dict(zip(box.names, zip(box.lower, box.upper, strict=True), strict=True))
        if not dark_energy:
            for name in ("w0", "w0_plus_wa"):
                self.bounds.pop(name, None)
        self.fixed = dict(fixed or {})
        self._check_bounds(dict(bounds or {}))
        names = (*self.bounds, *self._nuisance_names())
        for argument, given in (("fixed", self.fixed), ("priors", dict(priors or {}))):
            if unknown := set(given) - set(names):
                raise ValueError(f"{argument}={sorted(unknown)}: expected parameters of the model, {', '.join(names)}")
        self._check_priors(dict(priors or {}))
        self.priors = dict(priors or {})
        self.uniform = {name: tuple(map(float, given)) for name, given in dict(bounds or {}).items()}
        # Compiled here, so that what runs the model outside of jit, to learn of its sites, is quick.
        self._theories = [jax.jit(partial(self._theory, likelihood)) for likelihood in self.likelihoods]
        self.__name__ = "w0waCDM" if dark_energy else "LCDM"

    def __call__(self, *spectra: Float[Array | np.ndarray, "ell n"] | None) -> None:
        """The model, of the measured spectra of each likelihood; of none, what they would be.

        Raises:
            ValueError: data that are not of as many surveys, do not fit one, or are not finite; says which.
        """
        if spectra and len(spectra) != len(self.likelihoods):
            raise ValueError(f"{len(spectra)} data sets: expected {len(self.likelihoods)}, one for each likelihood")
        cosmology = self._cosmology()
        for i, likelihood in enumerate(self.likelihoods):
            suffix = f"_{i}" if len(self.likelihoods) > 1 else ""
            nuisance = self._nuisance(likelihood, suffix)
            expected = self._theories[i](cosmology, nuisance)
            measured = spectra[i] if spectra else None
            if measured is not None and not isinstance(measured, jax.core.Tracer):
                measured = likelihood.check(measured)
            numpyro.sample("spectra" + suffix, likelihood(expected), obs=measured)

    def _theory(self, likelihood: SpectraLikelihood, cosmology: Cosmology, nuisance: Nuisance) -> Any:
        theory = three_by_two_pt_cls if likelihood.galaxies else cosmic_shear_cls
        return theory(self.power, cosmology, likelihood.survey, nuisance, likelihood.survey.ell)

    def _cosmology(self) -> Cosmology:
        values = {name: self._value(name) for name in self.bounds}
        total = values.pop("w0_plus_wa", None)
        if total is not None:
            values["wa"] = numpyro.deterministic("wa", total - values["w0"])
        cosmology = Cosmology(**values)
        omega_m = numpyro.deterministic("Omega_m", omega_matter(cosmology))
        sigma_8 = numpyro.deterministic("sigma_8", sigma_r(self.power, cosmology))
        numpyro.deterministic("S_8", sigma_8 * jnp.sqrt(omega_m / 0.3))
        return cosmology

    def _nuisance(self, likelihood: SpectraLikelihood, suffix: str) -> Nuisance:
        survey = likelihood.survey
        fields = {"alignment": survey.sources, "calibration": survey.sources, "source_shift": survey.sources}
        if likelihood.galaxies:
            assert survey.lenses is not None  # as the likelihood has seen
            fields |= {"bias": survey.lenses, "lens_shift": survey.lenses}
        values = {}
        for name, bins in fields.items():
            n = len(bins)
            if name in self.fixed:
                values[name] = jnp.broadcast_to(jnp.asarray(self.fixed[name], dtype=float), (n,))
                continue
            # Of a shift, in the units of 1 + the bin's mean redshift.
            prior = self._prior(name, 1 + bins @ survey.z / np.sum(bins, axis=1))
            values[name] = numpyro.sample(name + suffix, prior.expand([n]).to_event(1))
        return Nuisance(**values)

    def _value(self, name: str) -> Any:
        if name in self.fixed:
            return jnp.asarray(self.fixed[name], dtype=float)
        return numpyro.sample(name, self._prior(name))

    def _prior(self, name: str, scale: Float[np.ndarray, " bins"] | float = 1.0) -> Any:
        """Made when it is needed, in the precision of then."""
        if name in self.priors:
            return self.priors[name]
        if name in self.uniform:
            return dist.Uniform(*self.uniform[name])
        if name in _NORMAL:
            mean, error = _NORMAL[name]
            if name not in self.bounds:
                return dist.Normal(mean, error * jnp.asarray(scale, dtype=float) if name.endswith("shift") else error)
            low, high = self.bounds[name]
            return dist.TruncatedNormal(mean, error, low=low, high=high)
        return dist.Uniform(*self.bounds.get(name, _BIAS))

    def _nuisance_names(self) -> tuple[str, ...]:
        galaxies = any(likelihood.galaxies for likelihood in self.likelihoods)
        return Nuisance._fields if galaxies else Nuisance._fields[:3]

    def _check_bounds(self, bounds: Mapping[str, tuple[float, float]]) -> None:
        for name, given in bounds.items():
            if name not in self.bounds:
                raise ValueError(f"bounds of {name!r}: expected some of {', '.join(self.bounds)}")
            low, high = self.bounds[name]
            if not low <= given[0] < given[1] <= high:
                raise ValueError(
                    f"bounds of {name} are {given}: expected two that increase, within {low} to {high}, where the "
                    "emulators were trained"
                )
        for name, value in self.fixed.items():
            low, high = self.bounds.get(name, (-np.inf, np.inf))
            if not np.all((np.asarray(value) >= low) & (np.asarray(value) <= high)):
                raise ValueError(
                    f"fixed {name}={value} is outside of {low} to {high}, where the emulators were trained"
                )

    def _check_priors(self, priors: Mapping[str, Any]) -> None:
        for name, prior in priors.items():
            if not isinstance(prior, dist.Distribution) or prior.event_shape:
                raise ValueError(f"prior of {name} is {prior!r}: expected a NumPyro distribution of a number")
            low, high = self.bounds.get(name, (-np.inf, np.inf))
            support = prior.support
            first = np.asarray(getattr(support, "lower_bound", -np.inf))
            last = np.asarray(getattr(support, "upper_bound", np.inf))
            if name in self.bounds and not (np.all(first >= low) and np.all(last <= high)):
                raise ValueError(
                    f"prior of {name} is from {first} to {last}: expected one within {low} to {high}, where the "
                    "emulators were trained; dist.TruncatedNormal is cut off there"
                )


#: Means and standard deviations of what is not uniform; of shifts, in units of 1 + z.
_NORMAL = {
    "omega_b": (0.0222, 0.0005),
    "n_s": (0.96, 0.02),
    "alignment": (0.0, 1.0),
    "calibration": (0.0, 0.01),
    "source_shift": (0.0, 0.002),
    "lens_shift": (0.0, 0.002),
}
_BIAS = (0.1, 5.0)


def sigma_r(power: Any, cosmology: Cosmology, radius: float = 8.0) -> Float[Array, "*batch"]:
    r"""The scatter of linear density contrasts in spheres today, of 8 Mpc/h :math:`\sigma_8`.

    .. math:: \sigma_R^2 = \int d\ln k\, \frac{k^3 P(k)}{2\pi^2} W^2(kR), \quad W(x) = 3 \frac{\sin x - x\cos x}{x^3}

    Args:
        power: a matter power, with ``k``, ``z`` and ``linear``, whose first redshift is 0.
        cosmology: its parameters, which may have batch axes.
        radius: of the spheres, in Mpc/h.

    Raises:
        ValueError: the power has no redshift 0.
    """
    if power.z[0] != 0:
        raise ValueError(f"power starts at z = {power.z[0]:g}: expected redshifts from 0 on, for the matter of today")
    k = np.asarray(power.k, dtype=float)
    x = k * radius
    # By its series where the formula would cancel.
    window = np.where(x < 0.05, 1 - x**2 / 10, 3 * (np.sin(x) - x * np.cos(x)) / x**3)
    steps = np.gradient(np.log(k))
    steps[[0, -1]] /= 2
    linear = power.linear(cosmology)[..., 0, :]
    return jnp.sqrt(linear @ jnp.asarray(steps * k**3 * window**2 / (2 * np.pi**2), dtype=linear.dtype))
