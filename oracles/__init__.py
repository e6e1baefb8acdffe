"""Oracles: what can be asked."""

from blackbox_zo.function import FunctionOracle as FunctionOracle
from blackbox_zo.timeout import Timeout as Timeout
from blackbox_zo.wrappers import Cache as Cache
from blackbox_zo.wrappers import RankOnly as RankOnly
from blackbox_zo.wrappers import Repeat as Repeat
from oracles.command import Choice as Choice
from oracles.command import CommandOracle as CommandOracle
from oracles.command import Float as Float
from oracles.command import Integer as Integer
from oracles.command import parse_parameter as parse_parameter
