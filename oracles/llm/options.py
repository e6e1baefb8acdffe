"""The options of `blackbox-zo finetune`; torch is not imported."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from oracles._arguments import count, positive, whole
from oracles.llm._settings import OBJECTIVES, RATES

__all__ = ["EXAMPLE", "add_options"]

EXAMPLE = """examples:
  blackbox-zo finetune --model DIR --data train.jsonl --template '{text:57t} All in all, it was' \\
      --labels great,terrible --values pos,neg --steps 500 --journal run.jsonl --save tuned
  blackbox-zo finetune --model DIR --data qa.jsonl --template 'Q: {question} A:' --answer ' {answer}' --objective f1

learning rates, where --lr is not given (few: neither --select all nor top):
""" + "\n".join(
    f"  {optimizer:<8}  {select:<3}  {rate:g}" for optimizer, rates in RATES.items() for select, rate in rates.items()
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    _task(parser.add_argument_group("what is learnt"))
    _method(parser.add_argument_group("how"))
    _passes(parser.add_argument_group("how the model is run; the result is the same up to rounding"))
    _kept(parser.add_argument_group("what is measured and kept"))


def _task(group: Any) -> None:
    add = group.add_argument
    add("--model", required=True, metavar="MODEL", help="a folder, a hub id, a .gguf file, or package:NAME")
    add("--data", required=True, type=Path, metavar="FILE", help="rows to learn from: .jsonl, .json, .csv or .tsv")
    add(
        "--template",
        metavar="TEXT",
        help="what the model reads; {name} stands for a field, {name:57} for its first 57 characters, {name:57t} for "
        "its first 57 tokens",
    )
    add("--labels", metavar="A,B", help="learn to say one of these words, each one token, after the template")
    add("--values", metavar="A,B", help="what the data has for each of --labels; default the words themselves")
    add("--label-field", metavar="NAME", help="the field with a row's class; default label")
    add("--answer", metavar="TEXT", help="learn to say this template, such as ' {answer}', after --template")
    add("--text", metavar="FIELD", help="learn the whole text of a field")
    add(
        "--objective",
        choices=OBJECTIVES,
        help="with --labels: labels (cross-entropy over the labels), loss (over the vocabulary) or accuracy; with "
        "--answer: loss, exact-match or f1 of what the model writes; default the first of them",
    )
    add("--max-new-tokens", type=whole, metavar="N", help="how much it may write, for exact-match and f1; default 8")
    add(
        "--validation",
        type=Path,
        metavar="FILE",
        help="rows to validate on; default a tenth of --data, at most 400 rows, which are then not learnt from",
    )


def _method(group: Any) -> None:
    add = group.add_argument
    add("--steps", type=whole, default=500, metavar="N", help="steps of the whole run; default %(default)s")
    add("--batch-size", type=whole, metavar="N", help="examples in a step; default 256 with --select top, else 16")
    add(
        "--select",
        metavar="WHICH",
        help="parameters: top (the norm after the last layer: a few numbers, and layers run once for each example), "
        "all, lora, bias, prefix or a regular expression; default top with --labels, else all",
    )
    add(
        "--optimizer",
        choices=("sgd", "momentum", "adam"),
        help="default adam with --select top, else sgd; adam keeps two vectors of the selection",
    )
    add("--lr", type=positive, metavar="X", help="learning rate; default: see below")
    add(
        "--lr-schedule",
        choices=("constant", "linear", "cosine"),
        help="default cosine with --select top, else constant",
    )
    add("--radius", type=positive, metavar="X", help="how far queries go; default 0.01 with --select top, else 0.001")
    add("--directions", type=whole, metavar="N", help="directions of a step; default one for each of its examples")
    add(
        "--directions-per",
        choices=("example", "step"),
        help="example: each direction is tried on its own share of the batch, for as much work as one direction on all "
        "of it; step: each on the whole batch; default example if there is one for each example, else step",
    )
    add("--distribution", choices=("lowrank", "rademacher", "gaussian"), help="of the directions; default lowrank")
    add("--rank", type=whole, metavar="N", help="rank of lowrank directions; default 1")
    add("--difference", choices=("central", "forward"), help="default central")
    add("--blocks", type=whole, metavar="N", help="search only so many layers in each step, drawn at random")
    add("--mask", type=positive, metavar="SHARE", help="search only this share of each matrix, the smallest weights")
    add("--weight-decay", type=positive, metavar="X", help="shrink weights by X times the learning rate at each step")
    add("--no-decay", metavar="REGEX", help="parameters that --weight-decay leaves alone")
    add("--clip", type=positive, metavar="X", help="clip the slope along each direction to between -X and X")
    add("--mezo", action="store_true", help="the published MeZO: SGD along one Gaussian direction on the whole batch")
    add("--seed", type=int, default=0, help="all randomness is a function of it; default %(default)s")


def _passes(group: Any) -> None:
    add = group.add_argument
    add(
        "--sweep",
        choices=("auto", "batched", "scratch"),
        default="auto",
        help="batched: run the model once for all queries; scratch: once for each; default %(default)s",
    )
    reuse = group.add_mutually_exclusive_group()
    reuse.add_argument(
        "--reuse",
        action="store_const",
        const=True,
        dest="reuse",
        help="run layers below the lowest searched one once for all queries of a step; this is the default",
    )
    reuse.add_argument("--no-reuse", action="store_const", const=False, dest="reuse", help="do not")
    reuse.add_argument(
        "--keep-features",
        action="store_const",
        const="keep",
        dest="reuse",
        help="also keep their output for later steps, up to 2 GiB; the default with --select top",
    )
    add("--micro-batch", type=whole, metavar="N", help="most examples in one run of the model")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights; default %(default)s")


def _kept(group: Any) -> None:
    add = group.add_argument
    add(
        "--eval-every",
        type=count,
        metavar="N",
        help="steps between validations; 0: only before the first step and after the last; default a fifth of --steps",
    )
    add("--save", type=Path, metavar="DIR", help="write the weights and the tokenizer there at the end")
