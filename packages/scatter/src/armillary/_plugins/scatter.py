"""What armillary-scatter offers: wavelets on the sphere."""

from armillary.core.hookspecs import ComponentSpec, hookimpl


@hookimpl
def armillary_transforms():
    """Transforms of armillary.scatter."""
    yield ComponentSpec(
        "axisymmetric-wavelets",
        "armillary.scatter:AxisymmetricWavelets",
        "Axisymmetric scale-discretised wavelets on the sphere",
        "McEwen J. D., Durastanti C., Wiaux Y. 2018, Appl. Comput. Harmon. Anal. 44, 59",
    )
