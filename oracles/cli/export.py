"""`blackbox-zo export`: the weights of a fine-tuning, from its base model and its journal."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from blackbox_zo.journal import read
from oracles.cli._arguments import whole
from oracles.cli._errors import BadInput, told
from oracles.cli._finetune_journal import is_finetuning
from oracles.cli._folders import check_target, save
from oracles.cli._models import load

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "export",
        help="write the weights of a fine-tuning, from its base model and its journal",
        description="Move a base model as the journal of a fine-tuning says, and write it as `save_pretrained` does.",
        allow_abbrev=False,
    )
    parser.set_defaults(command=_run)
    parser.add_argument("journal", type=Path, metavar="JOURNAL", help="the journal")
    parser.add_argument("--model", required=True, metavar="BASE", help="the model that the run began with")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="the folder to write")
    parser.add_argument("--step", type=whole, metavar="N", help="the weights after this step; default the last")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), help="of the base model's weights in the run; default: see journal"
    )


def _run(given: argparse.Namespace) -> int:
    header, _ = read(given.journal)
    if not is_finetuning(header):
        raise BadInput(f"{str(given.journal)!r} is not a run over the parameters of a model, so it has no weights.")
    check_target(given.output, "--output", given.model)
    problem = header.get("problem")
    recorded = problem.get("dtype") if isinstance(problem, dict) else None
    model, tokenizer = load(given.model, given.dtype or recorded or "float32")
    from oracles.llm import replay

    with told():  # JournalError is a ValueError, and says which model it wants
        module = replay(given.journal, model, given.step)
    save(model, tokenizer, given.output)
    print(f"{given.output}: {given.model} after step {module.version} of {given.journal}")
    return 0
