"""The power spectrum of matter, linear and not, emulated; and what its training needs, which `MatterPower` does not."""

from ._matter_power import MatterPower as MatterPower
