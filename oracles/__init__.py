"""Oracles: what can be asked."""

from blackbox_zo.function import FunctionOracle as FunctionOracle
from oracles.command import CommandOracle as CommandOracle
from oracles.parameters import Choice as Choice
from oracles.parameters import Float as Float
from oracles.parameters import Integer as Integer
from oracles.parameters import parse_parameter as parse_parameter
from oracles.wrappers import Cache as Cache
from oracles.wrappers import RankOnly as RankOnly
from oracles.wrappers import Repeat as Repeat
from oracles.wrappers import Timeout as Timeout
