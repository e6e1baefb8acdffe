from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.optimize import Bounds

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.directions import Dense
from blackbox_zo.testing import check_variable
from blackbox_zo.variables._tree import flatten, names

from ..helpers import bits, laws

finite = st.floats(-1e6, 1e6)
leaves = st.one_of(
    finite,
    st.integers(-5, 5),
    arrays(np.float64, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3), elements=finite),
    arrays(np.float32, array_shapes(max_side=2), elements=st.floats(-9, 9, width=32)),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(st.characters(exclude_characters="/"), max_size=3), inner, max_size=3),
    ),
    max_leaves=6,
)


def is_array(tree: Any) -> bool:
    """Whether a list holds one array written out: it comes back as an array."""
    if not isinstance(tree, list | tuple):
        return False
    if all(isinstance(v, int | float) for v in tree):
        return True
    return (
        all(isinstance(v, list | tuple) for v in tree) and len({len(v) for v in tree}) == 1 and all(map(is_array, tree))
    )


def assert_same_tree(found: Any, given_: Any) -> None:
    if isinstance(given_, dict):
        assert list(found) == list(given_)
        for key in given_:
            assert_same_tree(found[key], given_[key])
    elif isinstance(given_, list | tuple) and not is_array(given_):
        assert type(found) is type(given_) and len(found) == len(given_)
        for one, other in zip(found, given_, strict=True):
            assert_same_tree(one, other)
    else:
        assert isinstance(found, float) if np.ndim(given_) == 0 else isinstance(found, np.ndarray)
        assert bits(found) == bits(np.asarray(given_, dtype=np.float64))


@laws
@given(trees)
def test_trees_round_trip(tree: Any) -> None:
    try:
        flat, treedef = flatten(tree)
    except ValueError as error:
        assert "empty" in str(error)
        return
    assert_same_tree(treedef.unflatten(flat), tree)
    assert flat.size == sum(block.size for block in treedef.blocks) == len(list(names(treedef)))
    assert len({block.name for block in treedef.blocks}) == len(treedef.blocks)


@laws
@given(trees, st.integers(0, 3))
def test_batches_have_the_leading_axis_on_every_leaf(tree: Any, n: int) -> None:
    try:
        flat, treedef = flatten(tree)
    except ValueError:
        return
    rows: Floats = np.arange(n * flat.size, dtype=np.float64).reshape(n, flat.size)
    batch = flatten_leaves(treedef.unflatten(rows))
    for i in range(n):
        alone = flatten_leaves(treedef.unflatten(rows[i]))
        assert [bits(leaf[i]) for leaf in batch] == [bits(leaf) for leaf in alone]


def flatten_leaves(tree: Any) -> list[Floats]:
    if isinstance(tree, dict):
        return [leaf for part in tree.values() for leaf in flatten_leaves(part)]
    if isinstance(tree, list | tuple):
        return [leaf for part in tree for leaf in flatten_leaves(part)]
    return [np.asarray(tree)]


def test_labels() -> None:
    _, treedef = flatten({"lr": 0.1, "layer": [np.zeros((2, 1)), np.zeros(2)]})
    assert list(names(treedef)) == ["lr", "layer/0[0,0]", "layer/0[1,0]", "layer/1[0]", "layer/1[1]"]
    assert [block.name for block in flatten(np.zeros(2))[1].blocks] == ["x"]


def test_flatten_copies() -> None:
    mine = np.zeros(3)
    flat, _ = flatten(mine)
    mine[0] = 1.0
    assert flat[0] == 0.0


@pytest.mark.parametrize(
    "tree",
    [{"a": {"b": 1.0}, "a/b": 2.0}, {1: 1.0, "1": 2.0}, {"a": [1.0, np.ones(2)], "a/1": 3.0}, {"": 1.0, "x": 2.0}],
    ids=str,
)
def test_leaves_that_would_share_a_name_are_refused(tree: Any) -> None:
    """Two blocks of one name would get the same directions."""
    with pytest.raises(ValueError, match=r"`x0` has two entries called '(a/b|1|a/1|x)'; rename one"):
        bz.Vector(tree)


class Point(NamedTuple):
    a: Any
    b: Any


def test_named_tuples_stay_named_tuples() -> None:
    x = bz.Vector(Point(np.ones(2), {"c": 1.0})).x
    assert isinstance(x, Point) and x.b == {"c": 1.0}


# ---------------------------------------------------------------------------------------------------- the variable

VARIABLES: dict[str, Any] = {
    "number": lambda: bz.Vector(1.5),
    "vector": lambda: bz.Vector(np.linspace(-1, 1, 5)),
    "tree": lambda: bz.Vector({"w": np.ones((2, 3)), "more": [0.5, np.zeros(2)]}),
    "box": lambda: bz.Vector(np.array([0.1, 0.5, 0.7]), (0.0, 1.0)),
    "half open": lambda: bz.Vector(np.array([0.1, 0.5, 0.7]), [(0.0, None), (None, 0.6), (None, None)]),
    "units": lambda: bz.Vector(np.array([1.0, 30.0]), None, [0.1, 7.0]),
    "units in a box": lambda: bz.Vector(np.array([1.0, 30.0]), [(0.9, 1.1), (0.0, 100 / 3)], [0.3, 7.7]),
    "large": lambda: bz.Vector(np.ones(40_000)),
    "some fixed": lambda: bz.Vector(
        {"a": 0.5, "b": [0.1, 0.5, 0.7]}, {"a": (0.5, 0.5), "b": [(0, 1), (0.5, 0.5), (0, 9)]}
    ),
    "some fixed, with units": lambda: bz.Vector([1.0, 30.0, 2.0], [(0.9, 1.1), (30, 30), (0, 2)], [0.3, 0.0, 7.7]),
}


@pytest.mark.parametrize("make", VARIABLES.values(), ids=VARIABLES)
def test_vectors_obey_the_laws(make: Any) -> None:
    check_variable(make)
    check_variable(make())


@laws
@given(
    unit=st.floats(1e-3, 1e3),
    low=st.floats(-10, 10),
    width=st.floats(1e-3, 10),
    share=st.floats(0, 1),
    far=st.floats(-1e3, 1e3),
)
def test_x_and_points_are_inside_to_the_last_bit(
    unit: float, low: float, width: float, share: float, far: float
) -> None:
    high = low + width
    v = bz.Vector([min(max(low + share * width, low), high)], (low, high), unit)
    directions = bz.Dense(v.blocks, np.ones((1, 1)))
    points = v.points(bz.Queries(directions, np.zeros(3, dtype=np.intp), np.array([far, -far, 0.0]), v.value))
    v.add_(bz.Step(directions, np.array([far])))
    for x in (*points[:, 0], v.x[0]):
        assert low <= x <= high


def test_equal_bounds_fix_an_element() -> None:
    tree = {"a": 0.5, "b": np.array([[0.1, 0.5], [0.7, 0.2]]), "c": np.zeros(2)}
    bounds = {"a": (0.5, 0.5), "b": [(0, 1), (0.5, 0.5), (0, 1), (0, 1)]}
    v = bz.Vector(tree, bounds, unit=[9.0, 0.1, 9.0, 0.1, 0.1, 1.0, 1.0])
    assert v.size == 5 and v.fixed.tolist() == [True, False, True, False, False, False, False]
    assert [(block.name, block.shape) for block in v.blocks] == [("b", (3,)), ("c", (2,))]
    v.add_(bz.Step(bz.Dense(v.blocks, np.ones((1, 5))), np.array([2.0])))
    np.testing.assert_allclose(v.flat, [0.5, 0.3, 0.5, 0.9, 0.4, 2.0, 2.0])
    np.testing.assert_allclose(v.x["b"], [[0.3, 0.5], [0.9, 0.4]])
    with pytest.raises(ValueError, match=r"`x0` is outside `bounds` at x\[0\]: 0.0 is not in \[1.0, 1.0\]"):
        bz.Vector([0.0, 1.0], (1, 1))
    assert (
        bz.Vector([1.0, 2.0], [(1, 1), (0, 3)]).fingerprint()
        != bz.Vector([1.5, 2.0], [(1.5, 1.5), (0, 3)]).fingerprint()
    )


def test_with_all_elements_fixed_x_stays() -> None:
    v = bz.Vector([1.0, 2.0], [(1, 1), (2, 2)])
    v.add_(bz.Step(bz.Dense(v.blocks, np.ones((1, 1))), np.array([2.0])))
    assert v.fixed.all() and v.size == 1 and v.flat.tolist() == [1.0, 2.0]


def test_units_scale_moves_and_points() -> None:
    v = bz.Vector([2.0, 30.0], unit=[0.5, 10.0])
    np.testing.assert_allclose(v.value, [4.0, 3.0])
    eye = bz.Dense(v.blocks, np.eye(2))
    points = v.points(bz.Queries(eye, np.array([0, 1]), np.ones(2), v.value))
    np.testing.assert_allclose(points, [[2.5, 30.0], [2.0, 40.0]])
    v.add_(bz.Step(eye, np.array([1.0, -1.0])))
    np.testing.assert_allclose(v.x, [2.5, 20.0])


def test_units_of_one_change_no_bit() -> None:
    assert bz.Vector(np.ones(3), unit=1.0).unit is None
    assert bz.Vector(np.ones(3), unit=np.ones(3)).unit is None


def test_scipy_bounds_and_pairs_mean_the_same() -> None:
    boxes: list[Any] = [Bounds(-1, 2), Bounds([-1, -1], [2, 2]), (-1, 2), [(-1, 2)] * 2, np.array([[-1, 2], [-1, 2]])]
    for box in boxes:
        v = bz.Vector([0.0, 1.0], box)
        assert v.lower.tolist() == [-1, -1] and v.upper.tolist() == [2, 2]


def test_no_bounds_in_any_spelling() -> None:
    boxes: list[Any] = [None, (None, None), [(None, None)] * 2, (-np.inf, np.inf), Bounds()]
    for box in boxes:
        assert not bz.Vector([0.0, 1.0], box).bounded


def test_a_step_of_no_length_is_a_move_that_keeps_every_bit() -> None:
    variable = bz.Vector(np.array([0.3, 1.0]), (0.0, 1.0))
    before = variable.value
    variable.add_(bz.Step(Dense(variable.blocks, np.ones((2, 2))), np.zeros(2)))
    assert variable.version == 1 and variable.value is before
    variable.add_(bz.Step(Dense(variable.blocks, np.ones((2, 2))), np.zeros(2), 0.5))  # it pulls
    np.testing.assert_array_equal(variable.value, [0.15, 0.5])
    assert variable.version == 2


def test_load_sets_value_and_version() -> None:
    v, mine = bz.Vector(np.zeros(2)), np.ones(2)
    v.load({"z": mine}, 7)
    mine[0] = 5.0
    assert v.x.tolist() == [1.0, 1.0] and v.version == 7


def test_state_is_a_copy_and_loads_again() -> None:
    v, other = bz.Vector({"a": 3.0, "b": [1.0, 2.0]}, unit=2.0), bz.Vector({"a": 0.0, "b": [0.0, 0.0]}, unit=2.0)
    state = v.state()
    other.load(state, 4)
    assert list(state) == ["z"] and other.flat.tolist() == v.flat.tolist() and other.version == 4
    state["z"][:] = 9.0
    assert v.flat.tolist() == [3.0, 1.0, 2.0]


@pytest.mark.parametrize("state", [{}, {"z": np.zeros(3)}, {"x": np.zeros(2)}], ids=str)
def test_a_state_of_another_variable_is_refused(state: dict[str, Any]) -> None:
    v = bz.Vector(np.ones(2))
    with pytest.raises(ValueError, match=r"The state has x of shape .*, this search \(2,\)"):
        v.load(state, 1)
    assert v.x.tolist() == [1.0, 1.0] and v.version == 0


def test_fingerprint_tells_problems_apart() -> None:
    variables = [
        bz.Vector([1.0, 2.0]),
        bz.Vector([1.0, 2.5]),
        bz.Vector({"a": 1.0, "b": 2.0}),
        bz.Vector({"a": 1.0, "c": 2.0}),
        bz.Vector([[1.0, 2.0]]),
        bz.Vector([1.0, 2.0], (0, 3)),
        bz.Vector([1.0, 2.0], (0, 4)),
        bz.Vector([1.0, 2.0], unit=2.0),
    ]
    assert len({v.fingerprint() for v in variables}) == len(variables)
    assert bz.Vector([1.0, 2.0]).fingerprint() == bz.Vector(np.array([1, 2])).fingerprint()


nan, inf = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("x0", "kind", "words"),
    [
        ([], ValueError, "`x0` is empty; give at least one number"),
        ({}, ValueError, "`x0` is empty"),
        (np.empty((0, 3)), ValueError, "`x0` is empty"),
        ([1.0, nan], ValueError, "`x0` holds nan at flat index 1; every start value must be finite."),
        ({"a": 1.0, "b": [2.0, -inf]}, ValueError, "`x0` holds -inf at flat index 2"),
        ("abc", TypeError, "`x0` is 'abc', which is not a number or an array of numbers."),
        (None, TypeError, "`x0` is None"),
        (1j, TypeError, "`x0` is 1j"),
        ({"a": [1.0, "two"]}, TypeError, "`x0` at 'a/1' is 'two'"),
        (np.array(["a"]), TypeError, "`x0` is array(['a']"),
        (np.array([None]), TypeError, "`x0` is array([None]"),
    ],
    ids=str,
)
def test_bad_x0(x0: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as error:
        bz.Vector(x0)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("x0", "bounds", "words"),
    [
        ([0.5, 0.5], (1, 0), "`bounds` cross at x[0]: low 1.0 is not below high 0.0. Swap or widen them."),
        ({"a": 0.5, "b": 0.5}, [(0, 1), (1, 0)], "`bounds` cross at b: low 1.0 is not below high 0.0."),
        ([0.5], (nan, 1), "`bounds` cross at x[0]: low nan"),
        ([0.5, 7.0], (0, 1), "`x0` is outside `bounds` at x[1]: 7.0 is not in [0.0, 1.0]. Move the start inside"),
        ([-0.5], [(0, None)], "`x0` is outside `bounds` at x[0]: -0.5 is not in [0.0, inf]."),
        (np.full(2000, 2.0), (0, 1), "`x0` is outside `bounds` at element 0: 2.0"),
        (
            [0.5, 0.5, 0.5],
            [(0, 1)] * 2,
            "`bounds` must be one (low, high) pair or 3 of them, one per element of `x0`; got",
        ),
        ([0.5], 3, "`bounds` must be one (low, high) pair or 1 of them, one per element of `x0`; got 3."),
        ([0.5], "ab", "`bounds` must be one (low, high) pair or 1 of them, one per element of `x0`; got 'ab'."),
        ([0.5, 0.5], (0, 1, 2), "`bounds` must be one (low, high) pair or 2 of them"),
        ([0.5, 0.5], Bounds([0] * 3, [1] * 3), "`bounds` must be one (low, high) pair or 2 of them"),
    ],
    ids=str,
)
def test_bad_bounds(x0: Any, bounds: Any, words: str) -> None:
    with pytest.raises(ValueError) as error:
        bz.Vector(x0, bounds)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        (0.0, "`unit` must be positive and finite, got 0.0."),
        ([1.0, -2.0], "`unit` must be positive and finite, got [1.0, -2.0]."),
        (inf, "`unit` must be positive and finite, got inf."),
        ([1.0, 2.0, 3.0], "`unit` has shape (3,); give one number, or one per element, shape (2,)."),
    ],
)
def test_bad_units(unit: Any, words: str) -> None:
    with pytest.raises(ValueError) as error:
        bz.Vector([1.0, 2.0], unit=unit)
    assert words in str(error.value)
