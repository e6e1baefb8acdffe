"""Checkers for authors of a new estimator, rule, oracle, variable or kind of directions.

Call one in your own tests. Each raises `AssertionError` with a message that names the violated law, the input that
violates it, and the fix. They need no test framework.
"""

from blackbox_zo.testing._directions import check_directions as check_directions
from blackbox_zo.testing._estimator import check_estimator as check_estimator
from blackbox_zo.testing._learning import check_learning as check_learning
from blackbox_zo.testing._oracle import check_oracle as check_oracle
from blackbox_zo.testing._rule import check_rule as check_rule
from blackbox_zo.testing._variable import check_variable as check_variable
from blackbox_zo.testing._wrapper import check_wrapper as check_wrapper
