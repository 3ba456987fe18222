"""What armillary-sphere offers: transforms, random fields, and maps in the report."""

from armillary.core.hookspecs import ComponentSpec, hookimpl


@hookimpl
def armillary_transforms():
    """Transforms of armillary.sphere."""
    yield ComponentSpec(
        "sht",
        "armillary.sphere:SHT",
        "Spherical harmonic transform of any spin",
        "Reinecke M., Seljebotn D. S. 2013, A&A 554, A112; Goldberg J. N. et al. 1967, J. Math. Phys. 8, 2155",
    )
    yield ComponentSpec(
        "wigner",
        "armillary.sphere:WignerTransform",
        "Fourier transform on the rotation group",
        "McEwen J. D. et al. 2015, IEEE Sig. Proc. Let. 22, 2425",
    )
    yield ComponentSpec(
        "wavelets",
        "armillary.sphere:Wavelets",
        "Scale-discretised wavelets on the sphere: directional, curvelets, ridgelets, needlets",
        "McEwen J. D., Durastanti C., Wiaux Y. 2018, Appl. Comput. Harmon. Anal. 44, 59",
    )


@hookimpl
def armillary_priors():
    """Priors of armillary.sphere."""
    yield ComponentSpec(
        "isotropic-gaussian",
        "armillary.sphere:IsotropicGaussian",
        "Isotropic Gaussian field on the sphere, by its power spectrum",
        "Marinucci D., Peccati G. 2011, Random Fields on the Sphere, Cambridge University Press",
    )
    yield ComponentSpec(
        "wavelet-l1",
        "armillary.sphere:WaveletL1",
        "Field on the sphere that is sparse in wavelets",
        "Wallis C. G. R., Wiaux Y., McEwen J. D. 2016 (arXiv:1608.00553)",
    )


@hookimpl
def armillary_likelihoods():
    """Likelihoods of armillary.sphere."""
    yield ComponentSpec(
        "masked-gaussian",
        "armillary.sphere:MaskedGaussian",
        "Map with Gaussian noise, observed on a part of the sphere",
    )


@hookimpl
def armillary_report_sections(result):
    """A map of every variable with the attribute ``armillary_grid``."""
    from armillary.sphere._report import map_sections

    return map_sections(result)


@hookimpl
def armillary_demos():
    """Demonstrations of armillary.sphere."""
    yield ComponentSpec(
        "earth",
        "armillary.sphere._earth:demo",
        "The power spectrum of the Earth's relief: a power law, or a broken one?",
    )
    yield ComponentSpec(
        "earth-segmentation",
        "armillary.sphere._segmentation_demo:demo",
        "Land and sea on turned pictures of the Earth: a network on the sphere learns them",
        "Ocampo J., Price M. A., McEwen J. D. 2023, ICLR (arXiv:2209.13603)",
    )
