"""Proximal Markov chain Monte Carlo and priors for imaging inverse problems."""

from blackjax import GenerateSamplingAPI

from . import _myula
from ._l1 import L1 as L1
from ._samplers import MYULA as MYULA
from ._samplers import MYULASampler as MYULASampler

# As BlackJAX's own algorithms: calling it builds the sampling algorithm, `init` and `build_kernel` are its parts.
myula = GenerateSamplingAPI(_myula.as_top_level_api, _myula.init, _myula.build_kernel)
myula.__doc__ = _myula.as_top_level_api.__doc__
