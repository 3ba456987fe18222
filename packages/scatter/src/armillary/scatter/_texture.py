"""Textures against the field that they are to be like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Array, Complex, Float

from . import _texture_measures as measures
from ._coefficients import Space, Sphere, Torus
from ._texture_measures import TextureMeasures


@dataclass(frozen=True)
class TextureValidation:
    """What textures and their target look like, as `validate_texture` returns it.

    Attributes:
        target: measures of the target.
        textures: of all textures, on a leading axis.
        gaussian: what is expected of a Gaussian field of the target's spectrum; NaN for peaks.
        thresholds: of the measures by height, in standard deviations of the target above its mean.
        scales: of the bands: about ``2**j`` waves around the sphere, or across the image's shorter side.
        domain: ``"sphere"`` or ``"plane"``.
    """

    target: TextureMeasures
    textures: TextureMeasures
    gaussian: TextureMeasures
    thresholds: Float[np.ndarray, " thresholds"]
    scales: range
    domain: Literal["sphere", "plane"]

    def distances(self) -> dict[str, float]:
        """By measure, the norm of a texture's difference from the target in parts of the target's, root mean square.

        That of the spectrum is over the logarithms of degrees from 1 on, and is not relative.
        """
        found = {}
        for name, wanted, got in zip(TextureMeasures._fields, self.target, self.textures, strict=True):
            apart, size = got - wanted, np.linalg.norm(wanted)
            if name == "spectrum":
                there = (wanted > 0) & (np.arange(wanted.size) > 0)
                apart, size = np.log(np.maximum(got[:, there], 1e-300) / wanted[there]), np.sqrt(there.sum())
            found[name] = float(np.sqrt((apart**2).sum(axis=-1).mean()) / size)
        return found

    def plot(self) -> Any:
        """Draw all measures: of the target, of every texture, and of a Gaussian field.

        Returns:
            A matplotlib figure; ``figure.savefig(...)`` writes it.

        Raises:
            ImportError: matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("plot needs matplotlib: pip install 'armillary-core[plots]'") from error
        figure = Figure(figsize=(13, 6.2), layout="constrained")
        height, waves = "height in standard deviations", "waves"
        per = "radian" if self.domain == "sphere" else "pixel"
        panels = {
            "spectrum": ("power spectrum", "degree" if self.domain == "sphere" else waves),
            "pdf": ("density of heights", height),
            "area": ("area above", height),
            "length": (f"length of the contour, per {per}", height),
            "euler": ("Euler characteristic of what is above", height),
            "peaks": ("maxima above", height),
            "skewness": ("skewness of bands", waves),
            "kurtosis": ("kurtosis of bands", waves),
        }
        for axes, (name, (title, along)) in zip(figure.subplots(2, 4).flat, panels.items(), strict=True):
            of_target, of_textures, of_gaussian = (
                getattr(m, name) for m in (self.target, self.textures, self.gaussian)
            )
            if name == "spectrum":
                across, shown = np.arange(of_target.size), slice(1, None)
            elif along == waves:
                across, shown = 2.0 ** np.array(self.scales), slice(None)
            else:
                across, shown = self.thresholds, slice(None)
            mark = "." if along == waves and name != "spectrum" else None
            for k, each in enumerate(of_textures):
                label = "textures" if k == 0 else None
                axes.plot(across[shown], each[shown], marker=mark, color="C1", lw=1, alpha=0.7, label=label)
            axes.plot(across[shown], of_target[shown], marker=mark, color="black", lw=1.6, label="target")
            if name != "spectrum" and np.isfinite(of_gaussian).all():
                axes.plot(across, of_gaussian, ls="--", color="0.5", lw=1.2, label="Gaussian field")
            if name == "spectrum" or along == waves:
                axes.set_xscale("log", base=10 if name == "spectrum" else 2)
            if name == "spectrum":
                axes.set_yscale("log")
            if name == "pdf":
                seen = of_target[of_target > 0].min(initial=1)
                axes.set_yscale("log")
                axes.set_ylim(bottom=0.3 * seen)
                axes.legend(fontsize=8)
            axes.set_title(title, fontsize=10)
            axes.set_xlabel(along, fontsize=9)
        return figure


def validate_texture(
    target: Complex[Array, "L 2*L-1"] | Float[Array, "rows columns"],
    textures: Complex[Array, "num L 2*L-1"] | Float[Array, "num rows columns"],
    *,
    domain: Literal["sphere", "plane"] = "sphere",
    thresholds: Float[np.ndarray, " thresholds"] | None = None,
) -> TextureValidation:
    """Compare textures with the field that they are to be like, by measures that they were not made with.

    The power spectrum; the density of heights; the Minkowski functionals of what is above a height, its area, the
    length of its edge and its Euler characteristic; the number of maxima above a height; and skewness and kurtosis of
    the field in bands of an octave, the first of which is a mean of the bispectrum over triangles of like sides.
    Heights are those of points on ``GaussLegendre(2 * L)`` (maxima on one twice as fine), or of pixels; what is said to
    be at a threshold is the mean over those nearest to it.

    Args:
        target: harmonic coefficients of a field, or a periodic image.
        textures: those of the textures, such as `synthesise` returns.
        domain: ``"sphere"`` for harmonic coefficients, ``"plane"`` for images.
        thresholds: heights in standard deviations of the target above its mean, evenly spaced; from -3.5 to 3.5 by
            default, in steps of 0.25.

    Returns:
        All measures; its `plot` draws them, and its `distances` are numbers.

    Raises:
        ValueError: the fields have other shapes or types, the target is constant, or thresholds are not evenly spaced.

    References: Schmalzing J., Gorski K. M. 1998, MNRAS 297, 355 (arXiv:astro-ph/9710185).

    >>> import jax
    >>> from armillary.scatter import validate_texture
    >>> from armillary.sphere import alm_from_real
    >>> alm = alm_from_real(jax.random.normal(jax.random.key(0), (5, 256)))
    >>> validation = validate_texture(alm[0], alm[1:])
    >>> validation.textures.euler.shape
    (4, 29)
    >>> sorted(validation.distances())
    ['area', 'euler', 'kurtosis', 'length', 'pdf', 'peaks', 'skewness', 'spectrum']
    """
    if domain not in ("sphere", "plane"):
        raise ValueError(f"domain={domain!r}: 'sphere' or 'plane'")
    shape = np.shape(target)
    if len(shape) != 2 or min(shape) < 4:
        wanted = "harmonic coefficients (L, 2 L - 1)" if domain == "sphere" else "an image"
        raise ValueError(f"target has shape {shape}: one field, {wanted}, with L or sides of 4 or more")
    space: Space = Sphere(shape[0]) if domain == "sphere" else Torus((shape[0], shape[1]))
    target, textures = space.check("target", target), space.check("textures", textures)
    if textures.ndim != 3 or not len(textures):
        raise ValueError(f"textures has shape {textures.shape}: (num, {shape[0]}, {shape[1]}), one texture or more")
    at = np.linspace(-3.5, 3.5, 29) if thresholds is None else np.asarray(thresholds, np.float64)
    if at.ndim != 1 or at.size < 2 or not np.allclose(np.diff(at), at[1] - at[0], rtol=1e-6) or not at[1] > at[0]:
        raise ValueError(f"thresholds={thresholds!r}: two heights or more, ascending and evenly spaced")
    x = space.coefficients(target)
    of_pixel = measures.point_norm(space)
    mean, variance = float(x[0]) * of_pixel, float((x[1:] ** 2).sum()) * of_pixel**2
    if not variance > (1e3 * np.finfo(x.dtype).eps * mean) ** 2:
        raise ValueError("target is constant: heights are in standard deviations of it")
    found = [measures.measure(space, each, at, mean, variance**0.5) for each in (x, *space.coefficients(textures))]
    return TextureValidation(
        found[0],
        TextureMeasures(*(np.stack(values) for values in zip(*found[1:], strict=True))),
        measures.gaussian(space, found[0].spectrum, at),
        at,
        measures.bands(space),
        domain,
    )
