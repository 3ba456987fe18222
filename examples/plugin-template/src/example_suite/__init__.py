"""A sampler and a prior, as a third party would add them to Armillary."""

from ._generalised_normal import GeneralisedNormal as GeneralisedNormal
from ._random_walk import RandomWalk as RandomWalk
