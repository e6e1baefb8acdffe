"""Any program as an oracle: run it with arguments and read one number from its output."""

from oracles.command.oracle import CommandOracle as CommandOracle
from oracles.command.parameters import Choice as Choice
from oracles.command.parameters import Float as Float
from oracles.command.parameters import Integer as Integer
from oracles.command.parameters import parse_parameter as parse_parameter
