"""Any program as an oracle: it is run with arguments, and its output is read for one number."""

from oracles.command.oracle import CommandOracle as CommandOracle
from oracles.command.parameters import Choice as Choice
from oracles.command.parameters import Float as Float
from oracles.command.parameters import Integer as Integer
from oracles.command.parameters import parse_parameter as parse_parameter
