"""What tests need of the machine: where it is missing they are skipped, and fail where it was asked for.

`BLACKBOX_ZO_REQUIRE=chromium,postgresql,fashion-mnist,jq,nginx` names what must be there. `.ci/run` sets it wherever it
may install them.
"""

from __future__ import annotations

import os

import pytest

KNOWN = frozenset({"chromium", "postgresql", "fashion-mnist", "jq", "nginx"})


def required() -> frozenset[str]:
    """The names in `BLACKBOX_ZO_REQUIRE`; one that no test knows is an error, for it would require nothing."""
    names = frozenset(os.environ.get("BLACKBOX_ZO_REQUIRE", "").replace(",", " ").split())
    if names - KNOWN:
        raise pytest.UsageError(f"BLACKBOX_ZO_REQUIRE has {sorted(names - KNOWN)}; it takes {sorted(KNOWN)}.")
    return names


def require(name: str, found: object, mend: str) -> None:
    """Go on if `found`; else skip the test, or the module where this is called, and fail it if `name` is required."""
    if name not in KNOWN:
        raise ValueError(f"`name` must be one of {sorted(KNOWN)}, got {name!r}.")
    if found:
        return
    if name in required():
        pytest.fail(f"BLACKBOX_ZO_REQUIRE names {name}, and it is missing: {mend}", pytrace=False)
    pytest.skip(f"needs {name}: {mend}", allow_module_level=True)
