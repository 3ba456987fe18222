"""Emulators: neural networks in place of slow functions of a few parameters, with a box that they never leave."""

from ._accuracy import Accuracy as Accuracy
from ._accuracy import accuracy as accuracy
from ._box import Box as Box
from ._emulator import Emulator as Emulator
from ._training import TrainedEmulator as TrainedEmulator
from ._training import train as train
