"""Spherical harmonic transforms, wavelets, random fields and networks on the sphere, in JAX.

The layers of networks, and Equinox with them, are loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._coefficients import alm_from_real as alm_from_real
from ._coefficients import alm_to_real as alm_to_real
from ._coefficients import cross_spectrum as cross_spectrum
from ._coefficients import eb_to_spin as eb_to_spin
from ._coefficients import power_spectrum as power_spectrum
from ._coefficients import spin_to_eb as spin_to_eb
from ._compat import alm2map as alm2map
from ._compat import forward as forward
from ._compat import inverse as inverse
from ._compat import map2alm as map2alm
from ._evaluate import evaluate as evaluate
from ._gaussian import IsotropicGaussian as IsotropicGaussian
from ._grids import ClenshawCurtis as ClenshawCurtis
from ._grids import DriscollHealy as DriscollHealy
from ._grids import GaussLegendre as GaussLegendre
from ._grids import Healpix as Healpix
from ._grids import McEwenWiaux as McEwenWiaux
from ._grids import McEwenWiauxSS as McEwenWiauxSS
from ._healpy import alm_from_healpy as alm_from_healpy
from ._healpy import alm_to_healpy as alm_to_healpy
from ._likelihood import MaskedGaussian as MaskedGaussian
from ._plot import plot_map as plot_map
from ._rotation import rotate_alm as rotate_alm
from ._sht import SHT as SHT
from ._wavelet_prior import WaveletL1 as WaveletL1
from ._wavelet_transform import WaveletCoefficients as WaveletCoefficients
from ._wavelets import Wavelets as Wavelets
from ._wigner import WignerTransform as WignerTransform

if TYPE_CHECKING:
    from ._disco import DiscoConv as DiscoConv
    from ._disco import DiscoConvTranspose as DiscoConvTranspose
    from ._disco_cost import Cost as Cost
    from ._disco_cost import cost as cost
    from ._nn import SpectralConv as SpectralConv
    from ._nn import SphericalBatchNorm as SphericalBatchNorm
    from ._nn import SphericalLayerNorm as SphericalLayerNorm
    from ._nn import SphericalPool as SphericalPool
    from ._nn import SphericalResample as SphericalResample
    from ._nn_training import TrainedNetwork as TrainedNetwork
    from ._nn_training import train_network as train_network
    from ._nn_unet import SphericalUNet as SphericalUNet

_LAZY = {
    "Cost": "._disco_cost",
    "DiscoConv": "._disco",
    "DiscoConvTranspose": "._disco",
    "SpectralConv": "._nn",
    "SphericalBatchNorm": "._nn",
    "SphericalLayerNorm": "._nn",
    "SphericalPool": "._nn",
    "SphericalResample": "._nn",
    "SphericalUNet": "._nn_unet",
    "cost": "._disco_cost",
    "TrainedNetwork": "._nn_training",
    "train_network": "._nn_training",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
