"""Proximal Markov chain Monte Carlo and priors for imaging inverse problems."""

from blackjax import GenerateSamplingAPI

from . import _annealed, _diffusion, _myula, _pnp_ula, _px_mala, _sapg, _skrock, _split_gibbs, _ula
from ._denoisers import DnCNN as DnCNN
from ._denoisers import DRUNet as DRUNet
from ._denoising_evidence import denoising_evidence as denoising_evidence
from ._dwt import DWT as DWT
from ._dwt_frames import SARA as SARA
from ._dwt_frames import UndecimatedDWT as UndecimatedDWT
from ._image_evidence import ImageEvidence as ImageEvidence
from ._kernels import MYULA as MYULA
from ._kernels import SKROCK as SKROCK
from ._kernels import ULA as ULA
from ._kernels import PxMALA as PxMALA
from ._l1 import L1 as L1
from ._nested import proximal_nested_sampling as proximal_nested_sampling
from ._nufft import NUFFT as NUFFT
from ._nufft import RadioInterferometer as RadioInterferometer
from ._operators import Blur as Blur
from ._operators import FourierMask as FourierMask
from ._operators import Gradient as Gradient
from ._operators import Identity as Identity
from ._operators import KaiserSquires as KaiserSquires
from ._operators import Mask as Mask
from ._operators_compose import Composition as Composition
from ._operators_compose import LinearMap as LinearMap
from ._operators_compose import Stack as Stack
from ._operators_compose import Sum as Sum
from ._operators_compose import check_adjoint as check_adjoint
from ._operators_sphere import SphericalKaiserSquires as SphericalKaiserSquires
from ._priors import Box as Box
from ._priors import GroupL1 as GroupL1
from ._priors import Positivity as Positivity
from ._priors_learned import DenoiserPrior as DenoiserPrior
from ._priors_learned import ScorePrior as ScorePrior
from ._priors_wavelet import L1Wavelet as L1Wavelet
from ._samplers import MYULASampler as MYULASampler
from ._samplers import PxMALASampler as PxMALASampler
from ._samplers import SKROCKSampler as SKROCKSampler
from ._samplers import ULASampler as ULASampler
from ._samplers_diffusion import AnnealedLangevin as AnnealedLangevin
from ._samplers_diffusion import AnnealedLangevinSampler as AnnealedLangevinSampler
from ._samplers_diffusion import DiffusionPosterior as DiffusionPosterior
from ._samplers_diffusion import DiffusionPosteriorSampler as DiffusionPosteriorSampler
from ._samplers_split import PnPULA as PnPULA
from ._samplers_split import PnPULASampler as PnPULASampler
from ._samplers_split import SplitGibbs as SplitGibbs
from ._samplers_split import SplitGibbsSampler as SplitGibbsSampler
from ._saving import load_denoiser as load_denoiser
from ._saving import pretrained_denoiser as pretrained_denoiser
from ._saving import save_denoiser as save_denoiser
from ._score_unet import ScoreUNet as ScoreUNet
from ._solvers import Solution as Solution
from ._solvers import SolverStatus as SolverStatus
from ._solvers_loss import LeastSquares as LeastSquares
from ._solvers_map import admm as admm
from ._solvers_map import fista as fista
from ._solvers_map import primal_dual as primal_dual
from ._steps import lipschitz as lipschitz
from ._tempered import tempered_evidence as tempered_evidence
from ._training import Trained as Trained
from ._training import train_denoiser as train_denoiser
from ._training import train_score as train_score
from ._tv import L1Frame as L1Frame
from ._tv import TotalVariation as TotalVariation
from ._uq import Coverage as Coverage
from ._uq import StructureTest as StructureTest
from ._uq import coverage_test as coverage_test
from ._uq import credible_interval as credible_interval
from ._uq import hpd_threshold as hpd_threshold
from ._uq import local_credible_intervals as local_credible_intervals
from ._uq import structure_test as structure_test

# As BlackJAX's own algorithms: calling one builds the sampling algorithm, `init` and `build_kernel` are its parts.
ula = GenerateSamplingAPI(_ula.as_top_level_api, _ula.init, _ula.build_kernel)
myula = GenerateSamplingAPI(_myula.as_top_level_api, _myula.init, _myula.build_kernel)
px_mala = GenerateSamplingAPI(_px_mala.as_top_level_api, _px_mala.init, _px_mala.build_kernel)
skrock = GenerateSamplingAPI(_skrock.as_top_level_api, _skrock.init, _skrock.build_kernel)
pnp_ula = GenerateSamplingAPI(_pnp_ula.as_top_level_api, _pnp_ula.init, _pnp_ula.build_kernel)
split_gibbs = GenerateSamplingAPI(_split_gibbs.as_top_level_api, _split_gibbs.init, _split_gibbs.build_kernel)
annealed_langevin = GenerateSamplingAPI(_annealed.as_top_level_api, _annealed.init, _annealed.build_kernel)
diffusion_posterior = GenerateSamplingAPI(_diffusion.as_top_level_api, _diffusion.init, _diffusion.build_kernel)
sapg = GenerateSamplingAPI(_sapg.as_top_level_api, _sapg.init, _sapg.build_kernel)
for _module, _api in (
    (_ula, ula),
    (_myula, myula),
    (_px_mala, px_mala),
    (_skrock, skrock),
    (_pnp_ula, pnp_ula),
    (_split_gibbs, split_gibbs),
    (_annealed, annealed_langevin),
    (_diffusion, diffusion_posterior),
    (_sapg, sapg),
):
    _api.__doc__ = _module.as_top_level_api.__doc__
