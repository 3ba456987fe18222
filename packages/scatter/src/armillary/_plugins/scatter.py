"""What armillary-scatter offers: wavelets on the sphere, and priors of scattering covariances."""

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


@hookimpl
def armillary_priors():
    """Priors of armillary.scatter."""
    yield ComponentSpec(
        "scattering",
        "armillary.scatter:ScatteringPrior",
        "A Gaussian field tilted towards given scattering covariances; not normalised unless estimated",
        "Cheng S., Morel R., Allys E., Ménard B., Mallat S. 2023 (arXiv:2306.17210)",
    )
    yield ComponentSpec(
        "scattering-maximum-entropy",
        "armillary.scatter:MaximumEntropyPrior",
        "The exponential family of scattering covariances, by score matching; not normalised unless estimated",
        "Hyvärinen A. 2005, J. Mach. Learn. Res. 6, 695",
    )


@hookimpl
def armillary_report_sections(result):
    """The validation of textures, of a result with the group ``textures``."""
    if "textures" in result.children:
        from armillary.scatter._texture_report import texture_sections

        yield from texture_sections(result)


@hookimpl
def armillary_demos():
    """Demonstrations of armillary.scatter."""
    yield ComponentSpec(
        "texture",
        "armillary.scatter._texture_demo:demo",
        "Textures of the Earth's relief: which field is emulated, and which is real?",
    )
