"""Variables: what holds x."""

from blackbox_zo.variables._base import Variable as Variable
from blackbox_zo.variables._starts import Starts as Starts
from blackbox_zo.variables._vector import SMALL as SMALL
from blackbox_zo.variables._vector import Vector as Vector
