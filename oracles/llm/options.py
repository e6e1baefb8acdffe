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

default learning rates (few: any --select other than all and top):
""" + "\n".join(
    f"  {optimizer:<8}  {select:<3}  {rate:g}" for optimizer, rates in RATES.items() for select, rate in rates.items()
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    _task(parser.add_argument_group("task"))
    _method(parser.add_argument_group("method"))
    _passes(parser.add_argument_group("forward passes (results agree up to rounding)"))
    _kept(parser.add_argument_group("validation and output"))


def _task(group: Any) -> None:
    add = group.add_argument
    add("--model", required=True, metavar="MODEL", help="a folder, a hub id, a .gguf file, or package:NAME")
    add("--data", required=True, type=Path, metavar="FILE", help="training data: .jsonl, .json, .csv or .tsv")
    add(
        "--template",
        metavar="TEXT",
        help="the prompt; {name} stands for a field, {name:57} for its first 57 characters, {name:57t} for "
        "its first 57 tokens",
    )
    add("--labels", metavar="A,B", help="classify: predict one of these words, each a single token, after the template")
    add("--values", metavar="A,B", help="the value in the data for each of --labels; default: the words themselves")
    add("--label-field", metavar="NAME", help="field that holds the class; default label")
    add("--answer", metavar="TEXT", help="learn to write this template, such as ' {answer}', after --template")
    add("--text", metavar="FIELD", help="language modelling on the whole text of a field")
    add(
        "--objective",
        choices=OBJECTIVES,
        help="with --labels: labels (cross-entropy over the labels), loss (over the vocabulary) or accuracy; with "
        "--answer: loss, or exact-match or f1 of the generated text; default: the first",
    )
    add(
        "--max-new-tokens",
        type=whole,
        metavar="N",
        help="maximum number of generated tokens, for exact-match and f1; default 8",
    )
    add(
        "--validation",
        type=Path,
        metavar="FILE",
        help="validation data; default: hold out a tenth of --data, at most 400 rows",
    )


def _method(group: Any) -> None:
    add = group.add_argument
    add("--steps", type=whole, default=500, metavar="N", help="total steps; default %(default)s")
    add("--batch-size", type=whole, metavar="N", help="examples per step; default 256 with --select top, else 16")
    add(
        "--select",
        metavar="WHICH",
        help="parameters to tune: top (the norm after the last layer; the layers below run once per example), "
        "all, lora, bias, prefix, or a regular expression; default top with --labels, else all",
    )
    add(
        "--optimizer",
        choices=("sgd", "momentum", "adam"),
        help="default adam with --select top, else sgd; adam stores two moments per tuned parameter",
    )
    add("--lr", type=positive, metavar="X", help="learning rate; defaults are listed below")
    add(
        "--lr-schedule",
        choices=("constant", "linear", "cosine"),
        help="default cosine with --select top, else constant",
    )
    add("--radius", type=positive, metavar="X", help="perturbation radius; default 0.01 with --select top, else 0.001")
    add("--directions", type=whole, metavar="N", help="directions per step; default: one per example")
    add(
        "--directions-per",
        choices=("example", "step"),
        help="example: evaluate each direction on its own share of the batch, for the cost of one direction on "
        "the whole batch; step: on the whole batch; default: example with one direction per example, else step",
    )
    add(
        "--distribution",
        choices=("lowrank", "rademacher", "gaussian"),
        help="distribution of the directions; default lowrank",
    )
    add("--rank", type=whole, metavar="N", help="rank of low-rank directions; default 1")
    add("--difference", choices=("central", "forward"), help="finite difference; default central")
    add("--blocks", type=whole, metavar="N", help="tune only N layers in each step, drawn at random")
    add(
        "--mask",
        type=positive,
        metavar="SHARE",
        help="tune only this fraction of each matrix: its smallest weights",
    )
    add("--weight-decay", type=positive, metavar="X", help="coefficient of decoupled weight decay")
    add("--no-decay", metavar="REGEX", help="parameters without weight decay")
    add("--clip", type=positive, metavar="X", help="clip the directional derivative along each direction to [-X, X]")
    add("--mezo", action="store_true", help="MeZO as published: SGD along one Gaussian direction, on the whole batch")
    add("--seed", type=int, default=0, help="seed of all randomness; default %(default)s")


def _passes(group: Any) -> None:
    add = group.add_argument
    add(
        "--sweep",
        choices=("auto", "batched", "scratch"),
        default="auto",
        help="batched: one forward pass for all queries; scratch: one per query; default %(default)s",
    )
    reuse = group.add_mutually_exclusive_group()
    reuse.add_argument(
        "--reuse",
        action="store_const",
        const=True,
        dest="reuse",
        help="run the layers below the lowest tuned one once for all queries of a step; the default",
    )
    reuse.add_argument(
        "--no-reuse", action="store_const", const=False, dest="reuse", help="run every layer for every query"
    )
    reuse.add_argument(
        "--keep-features",
        action="store_const",
        const="keep",
        dest="reuse",
        help="also cache their output for later steps, up to 2 GiB; the default with --select top",
    )
    add("--micro-batch", type=whole, metavar="N", help="maximum examples per forward pass")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="dtype of the weights; default %(default)s")


def _kept(group: Any) -> None:
    add = group.add_argument
    add(
        "--eval-every",
        type=count,
        metavar="N",
        help="steps between validations; 0 validates only before the first step and after the last; default: a fifth "
        "of --steps",
    )
    add("--save", type=Path, metavar="DIR", help="save the weights and the tokenizer to this folder at the end")
