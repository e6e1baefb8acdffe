"""Rows of tables that other libraries hold or read: Parquet, pandas, `datasets`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["parquet", "rows_of"]


def parquet(path: Path) -> list[dict[str, Any]]:
    """The rows of a .parquet file.

    Raises:
        ModuleNotFoundError: Neither pyarrow nor fastparquet is installed.
        ValueError: The file is no Parquet file.
    """
    try:
        import pyarrow.parquet as arrow
    except ImportError:
        return _by_pandas(path)
    try:
        rows: list[dict[str, Any]] = arrow.read_table(path).to_pylist()
    except (ValueError, OSError) as error:  # pyarrow's own errors are ValueErrors
        raise ValueError(f"File {str(path)!r} cannot be read as Parquet: {error}") from None
    return rows


def _by_pandas(path: Path) -> list[dict[str, Any]]:
    """With pandas and its other reader of Parquet."""
    try:
        import fastparquet  # noqa: F401
        import pandas
    except ImportError:
        raise ModuleNotFoundError(
            f"File {str(path)!r}: reading Parquet needs pyarrow, which is not installed; run: pip install pyarrow"
        ) from None
    try:
        return _records(pandas.read_parquet(path, engine="fastparquet"))
    except (ValueError, OSError) as error:
        raise ValueError(f"File {str(path)!r} cannot be read as Parquet: {error}") from None


def _records(frame: Any) -> list[dict[str, Any]]:
    """The rows of a `pandas.DataFrame`, null where it has NaN."""
    whole = frame.astype(object)
    return [{str(k): v for k, v in row.items()} for row in whole.where(frame.notna(), None).to_dict("records")]


def rows_of(rows: Any) -> list[Mapping[str, Any]]:
    """Rows from a sequence of mappings, a `datasets.Dataset` or a `pandas.DataFrame`.

    Raises:
        TypeError: They are something else, such as the name of a file, a `DatasetDict` or a `DataLoader`.
    """
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        return list(_records(rows))
    if isinstance(rows, str | Path):
        raise TypeError(f"Rows are wanted, got the path {str(rows)!r}; read it with `read_rows`.")
    if isinstance(rows, Mapping):  # a `DatasetDict` is one of these, too
        raise TypeError(
            f"Rows are wanted, got a `{type(rows).__name__}` with the keys {', '.join(map(repr, rows))}; "
            "give one of its parts, such as `dataset['train']`."
        )
    if not isinstance(rows, Iterable) or hasattr(rows, "batch_sampler"):
        raise TypeError(
            f"Rows are wanted, such as a list of dicts or a `datasets.Dataset`, got a `{type(rows).__name__}`. "
            "A `DataLoader` gives batches: pass it to `LossOracle` or `finetune` as it is."
        )
    found = rows if isinstance(rows, list) else list(rows)
    for i, row in enumerate(found):
        if not isinstance(row, Mapping):
            raise TypeError(f"rows[{i}] must be a mapping from the names of fields to values, got {row!r:.80}.")
    return found
