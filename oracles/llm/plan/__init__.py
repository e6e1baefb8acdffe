"""Plan how to stream a model that is larger than memory: what fits, in which time, and what limits it."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from oracles.llm.plan._machines import MACHINES as MACHINES
    from oracles.llm.plan._machines import Figure as Figure
    from oracles.llm.plan._machines import Machine as Machine
    from oracles.llm.plan._plan import Plan as Plan
    from oracles.llm.plan._plan import plan as plan
    from oracles.llm.plan._ways import Way as Way
else:
    from oracles._lazy import lazy as _lazy

    _NAMES = {"_machines": ("MACHINES", "Figure", "Machine"), "_plan": ("Plan", "plan"), "_ways": ("Way",)}
    __getattr__ = _lazy(__name__, {name: module for module, names in _NAMES.items() for name in names})
