"""What armillary-imaging offers: proximal samplers and the priors that they need."""

from armillary.core.hookspecs import ComponentSpec, hookimpl


@hookimpl
def armillary_transforms():
    """Transforms of armillary.imaging."""
    yield ComponentSpec(
        "dwt",
        "armillary.imaging:DWT",
        "Orthonormal wavelet transform of images, with periodic boundaries",
        "Mallat S. 1989, IEEE Trans. Pattern Anal. Mach. Intell. 11, 674 (doi:10.1109/34.192463)",
    )
    yield ComponentSpec(
        "undecimated-dwt",
        "armillary.imaging:UndecimatedDWT",
        "Wavelet transform of images without decimation, a tight frame that shifts with the image",
        "Starck J.-L., Fadili J., Murtagh F. 2007, IEEE Trans. Image Process. 16, 297 (doi:10.1109/TIP.2006.887733)",
    )
    yield ComponentSpec(
        "sara",
        "armillary.imaging:SARA",
        "Several orthonormal wavelet bases of images side by side, a tight frame",
        "Carrillo R. E., McEwen J. D., Wiaux Y. 2012, MNRAS 426, 1223 (arXiv:1205.3123)",
    )


@hookimpl
def armillary_priors():
    """Priors of armillary.imaging."""
    yield ComponentSpec(
        "l1",
        "armillary.imaging:L1",
        "Sparsity: independent Laplace densities, with their proximal operator (soft threshold)",
        "Tibshirani R. 1996, J. R. Stat. Soc. B 58, 267 (doi:10.1111/j.2517-6161.1996.tb02080.x)",
    )
    yield ComponentSpec(
        "l1-wavelet",
        "armillary.imaging:L1Wavelet",
        "Sparsity in an orthonormal basis of wavelets, with its evidence in closed form for denoising",
        "Donoho D. L., Johnstone I. M. 1994, Biometrika 81, 425 (doi:10.1093/biomet/81.3.425)",
    )
    yield ComponentSpec(
        "group-l1",
        "armillary.imaging:GroupL1",
        "Sparsity of vectors as a whole, with their proximal operator (block soft threshold)",
        "Yuan M., Lin Y. 2006, J. R. Stat. Soc. B 68, 49 (doi:10.1111/j.1467-9868.2005.00532.x)",
    )
    yield ComponentSpec(
        "total-variation",
        "armillary.imaging:TotalVariation",
        "Total variation of an image, isotropic or anisotropic; not normalised",
        "Rudin L., Osher S., Fatemi E. 1992, Physica D 60, 259 (doi:10.1016/0167-2789(92)90242-F)",
    )
    yield ComponentSpec(
        "l1-frame",
        "armillary.imaging:L1Frame",
        "Sparsity in a redundant dictionary that is a tight frame, such as SARA; normalised but for a constant",
        "Elad M., Milanfar P., Rubinstein R. 2007, Inverse Probl. 23, 947 (doi:10.1088/0266-5611/23/3/007)",
    )
    yield ComponentSpec(
        "denoiser",
        "armillary.imaging:DenoiserPrior",
        "The prior that a denoiser was trained on, smoothed, by Tweedie's formula; its score is known, no density",
        "Laumont R. et al. 2022, SIAM J. Imaging Sci. 15, 701 (arXiv:2103.04715)",
    )
    yield ComponentSpec(
        "score",
        "armillary.imaging:ScorePrior",
        "The prior that a score network was trained on, smoothed; its score is known, no density",
        "Song Y., Ermon S. 2019 (arXiv:1907.05600)",
    )


@hookimpl
def armillary_denoisers():
    """Denoisers of armillary.imaging."""
    yield ComponentSpec(
        "dncnn",
        "armillary.imaging:DnCNN",
        "A chain of convolutions that predicts the noise; non-expansive where asked for",
        "Zhang K. et al. 2017, IEEE Trans. Image Process. 26, 3142 (arXiv:1608.03981)",
    )
    yield ComponentSpec(
        "drunet",
        "armillary.imaging:DRUNet",
        "The U-Net of residual blocks of plug-and-play restoration",
        "Zhang K. et al. 2022, IEEE Trans. Pattern Anal. Mach. Intell. 44, 6360 (arXiv:2008.13751)",
    )
    yield ComponentSpec(
        "score-unet",
        "armillary.imaging:ScoreUNet",
        "A U-Net that knows the score of images at every noise level, for diffusion",
        "Song Y. et al. 2021 (arXiv:2011.13456)",
    )


@hookimpl
def armillary_operators():
    """Forward operators of armillary.imaging."""
    for name, factory, summary, reference in (
        ("identity", "Identity", "The image itself: denoising", ""),
        ("mask", "Mask", "The pixels that were observed: inpainting", ""),
        ("blur", "Blur", "Periodic convolution with any kernel", ""),
        ("fourier-mask", "FourierMask", "Fourier coefficients on the grid: magnetic resonance", ""),
        ("gradient", "Gradient", "Differences between neighbours", ""),
        (
            "nufft",
            "NUFFT",
            "Fourier transform at any frequencies, by a Kaiser-Bessel gridder in JAX",
            "Greengard L., Lee J.-Y. 2004, SIAM Rev. 46, 443 (doi:10.1137/S003614450343200X)",
        ),
        (
            "radio-interferometer",
            "RadioInterferometer",
            "Visibilities of an image of the sky, with the w coordinate of the baselines",
            "Arras P. et al. 2021, A&A 646, A58 (arXiv:2010.10122)",
        ),
        (
            "kaiser-squires",
            "KaiserSquires",
            "Shear of a convergence map on the flat sky: weak lensing",
            "Kaiser N., Squires G. 1993, ApJ 404, 441 (doi:10.1086/172297)",
        ),
        (
            "spherical-kaiser-squires",
            "SphericalKaiserSquires",
            "Shear of a convergence map on the sphere: weak lensing of the whole sky",
            "Wallis C. G. R. et al. 2022, MNRAS 509, 4480 (arXiv:1703.09233)",
        ),
    ):
        yield ComponentSpec(name, f"armillary.imaging:{factory}", summary, reference)


@hookimpl
def armillary_samplers():
    """Samplers of armillary.imaging."""
    yield ComponentSpec(
        "myula",
        "armillary.imaging:MYULASampler",
        "Moreau-Yosida unadjusted Langevin algorithm, for priors with a proximal operator",
        "Durmus A., Moulines E., Pereyra M. 2018, SIAM J. Imaging Sci. 11, 473 (arXiv:1612.07471)",
    )
    yield ComponentSpec(
        "ula",
        "armillary.imaging:ULASampler",
        "Unadjusted Langevin algorithm, for smooth log-densities",
        "Roberts G. O., Tweedie R. L. 1996, Bernoulli 2, 341 (doi:10.2307/3318418)",
    )
    yield ComponentSpec(
        "px-mala",
        "armillary.imaging:PxMALASampler",
        "Proximal Metropolis-adjusted Langevin algorithm: exact, for priors with a proximal operator",
        "Pereyra M. 2016, Stat. Comput. 26, 745 (doi:10.1007/s11222-015-9567-4)",
    )
    yield ComponentSpec(
        "skrock",
        "armillary.imaging:SKROCKSampler",
        "SK-ROCK, the stabilised Langevin algorithm for ill-conditioned images, of smooth and proximal priors",
        "Pereyra M., Vargas Mieles L., Zygalakis K. C. 2020, SIAM J. Imaging Sci. 13, 905 (arXiv:1908.08845)",
    )
    yield ComponentSpec(
        "pnp-ula",
        "armillary.imaging:PnPULASampler",
        "Plug-and-play unadjusted Langevin algorithm, for priors known by a denoiser",
        "Laumont R. et al. 2022, SIAM J. Imaging Sci. 15, 701 (arXiv:2103.04715)",
    )
    yield ComponentSpec(
        "split-gibbs",
        "armillary.imaging:SplitGibbsSampler",
        "Split Gibbs sampler, for Gaussian likelihoods with a linear operator and priors with a proximal operator",
        "Vono M., Dobigeon N., Chainais P. 2019, IEEE Trans. Signal Process. 67, 1648 (doi:10.1109/TSP.2019.2894825)",
    )
    yield ComponentSpec(
        "annealed-langevin",
        "armillary.imaging:AnnealedLangevinSampler",
        "Langevin dynamics of a prior known by a denoiser, whose noise falls as the chain goes",
        "Song Y., Ermon S. 2019 (arXiv:1907.05600)",
    )
    yield ComponentSpec(
        "diffusion-posterior",
        "armillary.imaging:DiffusionPosteriorSampler",
        "Independent draws by reverse diffusion that the data guide, DPS or DiffPIR; not exact",
        "Chung H. et al. 2023 (arXiv:2209.14687); Zhu Y. et al. 2023 (arXiv:2305.08995)",
    )


@hookimpl
def armillary_demos():
    """Demonstrations of armillary.imaging."""
    yield ComponentSpec(
        "galaxies",
        "armillary.imaging._galaxies:demo",
        "Galaxies of the Hubble Deep Field: wavelets or a trained denoiser?",
    )
