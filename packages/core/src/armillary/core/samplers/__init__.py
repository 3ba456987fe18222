"""The samplers that core registers: NumPyro's and BlackJAX's, as settings that build a sampling algorithm.

Each satisfies `armillary.core.protocols.Sampler`: ``build(target)`` is a `blackjax.base.SamplingAlgorithm`, and
`armillary.core.BlackJAXKernel` makes a NumPyro kernel of it.
"""

from ._chees import ChEES as ChEES
from ._hamiltonian import BlackJAXHMC as BlackJAXHMC
from ._hamiltonian import BlackJAXNUTS as BlackJAXNUTS
from ._langevin import MALA as MALA
from ._langevin import MCLMC as MCLMC
from ._nested import NestedSliceSampling as NestedSliceSampling
from ._numpyro import HMC as HMC
from ._numpyro import NUTS as NUTS
from ._tempered import TemperedSMC as TemperedSMC
