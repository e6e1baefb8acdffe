"""The options of `blackbox-zo finetune`; torch is not imported."""

from __future__ import annotations

import argparse
import re

from blackbox_zo._paths import expanded
from oracles.llm._compatible import GROUP, OBJECTIVES
from oracles.llm._rows import unescaped
from oracles.llm._settings import RATES
from oracles.options import SEED, Table, count, option, positive, whole

__all__ = ["EXAMPLE", "OPTIONS", "device"]

EXAMPLE = """examples:
  blackbox-zo finetune --model DIR --data train.jsonl --template '{text:57t} All in all, it was' \\
      --labels great,terrible --values pos,neg --steps 500 --journal run.jsonl --save tuned
  blackbox-zo finetune --model DIR --data qa.jsonl --template 'Q: {question}\\nA:' --answer ' {answer}' --objective f1
  blackbox-zo finetune --model DIR --data qa.jsonl --template 'Q: {question} A:' --reward judge.py:score \\
      --samples 4 --temperature 1 --group-relative --off-task other.jsonl
  blackbox-zo finetune --model DIR --data chats.jsonl --steps 500 --journal run.jsonl

default learning rates (few: any other --select):
""" + "\n".join(
    f"  {optimizer:<8}  {select:<5}  {rate:g}" for optimizer, rates in RATES.items() for select, rate in rates.items()
)


def device(text: str) -> str:
    """The name of a device of torch, or "auto"; whether it is there is seen once torch is loaded."""
    if re.fullmatch(r"[a-z]+(:[0-9]+)?", text) is None:
        raise argparse.ArgumentTypeError(f"must be auto, cpu, cuda, cuda:1, mps or another device, got {text!r}")
    return text


OPTIONS: Table = {
    "task": (
        option(
            "--model", "a folder, of a model or of an adapter, a hub id, a .gguf file, or package:NAME",
            required=True, decides=True,
        ),
        option(
            "--data", "training data: .jsonl, .json, .csv, .tsv or .parquet; rows with the fields messages, or prompt "
            "and completion, say themselves what is to be learnt", expanded, required=True, metavar="FILE",
        ),
        option(
            "--template", "the prompt; {name} stands for a field, {name:57} for its first 57 characters, {name:57t} "
            "for its first 57 tokens; \\n is a new line, \\t a tab", unescaped, metavar="TEXT", decides=True,
        ),
        option(
            "--labels", "classify: predict one of these words, each a single token, after the template",
            metavar="A,B", decides=True,
        ),
        option(
            "--values", "the value in the data for each of --labels; default: the words themselves",
            metavar="A,B", decides=True,
        ),
        option("--label-field", "field that holds the class; default label", metavar="NAME"),
        option(
            "--answer", "learn to write this template, such as ' {answer}', after --template",
            unescaped, metavar="TEXT", decides=True,
        ),
        option("--text", "language modelling on the whole text of a field", metavar="FIELD", decides=True),
        option(
            "--turns", "of the field messages, learn all turns of the assistant or the last; default all",
            choices=("all", "last"), decides=True,
        ),
        option(
            "--chat-template", "a file with the chat template, in Jinja, in place of the tokenizer's own",
            expanded, metavar="FILE",
        ),
        option(
            "--no-eos", "do not add the end-of-text token to what is learnt (a model then does not learn to stop)",
            action="store_true", decides=True,
        ),
        option(
            "--objective", "with --labels: labels (cross-entropy over the labels), loss (over the vocabulary) or "
            "accuracy; else loss, or, except with --text, exact-match or f1 of the generated text; default: the first",
            choices=OBJECTIVES, decides=True,
        ),
        option(
            "--reward", "generate after --template, or after a row's prompt or messages, and maximise what this "
            "function returns: FILE.py:FUNCTION or MODULE:FUNCTION, called with (prompts, completions, rows), it "
            "returns a number for each completion",
            metavar="FUNCTION", decides=True,
        ),
        option("--samples", "with --reward: completions of each prompt; default 1", whole, metavar="N", decides=True),
        option(
            "--temperature", "with --reward: sample with this temperature; default: 1 with several --samples, else "
            "generate greedily",
            positive, metavar="X", decides=True,
        ),
        option(
            "--group-relative", "with --reward: compare rewards within each prompt, as GRPO does",
            action="store_true", decides=True,
        ),
        option(
            "--max-new-tokens", "maximum number of generated tokens; default 8 for exact-match and f1, 16 with "
            "--reward",
            whole, metavar="N", decides=True,
        ),
        option(
            "--stop", "generated text ends before the first occurrence of this text; \\n is a line break",
            unescaped, metavar="TEXT", decides=True,
        ),
        option(
            "--validation", "validation data; default: hold out a tenth of --data, at most 400 rows",
            expanded, metavar="FILE",
        ),
    ),
    "off-task check": (
        option(
            "--off-task", "rows of another kind, on whose texts the KL divergence from the start model and the "
            "perplexity are measured with each validation; at most the first 64 rows are used",
            expanded, metavar="FILE",
        ),
        option("--off-task-field", "field of --off-task with the text; default text", metavar="FIELD"),
    ),
    "method": (
        option("--steps", "total steps", whole, default=500, metavar="N"),
        option(
            "--batch-size", "examples per step; default 256 with --select top, else 16",
            whole, metavar="N", decides=True,
        ),
        option(
            "--select", "parameters to tune: top (the norm after the last layer; the layers below run once per "
            "example), top:2 (that and the last two layers; any number), all, lora (an adapter, made for a plain "
            "model), bias, prefix, or a regular expression; default top with --labels, else all, which for an "
            "adapter's folder is the adapter",
            metavar="WHICH", decides=True,
        ),
        option(
            "--lora-rank", "rank of the adapter that --select lora makes for a plain model; default 8",
            whole, metavar="N",
        ),
        option("--lora-alpha", "its scale, over the rank; default 8, as in peft", positive, metavar="X"),
        option(
            "--lora-targets", "the layers that it adapts, such as q_proj,v_proj; default: those that peft takes for "
            "this kind of model, or all linear ones", metavar="A,B",
        ),
        option(
            "--optimizer", "default adam with --select top, else sgd; adam stores two moments per tuned parameter",
            choices=("sgd", "momentum", "adam"),
        ),
        option("--lr", "learning rate; defaults are listed below", positive, metavar="X"),
        option(
            "--lr-schedule", "from --lr to 0 at --steps; a run that goes on with other --steps has the rates of the "
            "new schedule from there on; default cosine with --select top, else constant",
            choices=("constant", "linear", "cosine"),
        ),
        option(
            "--radius", "perturbation radius; default 0.01 with --select top, else 0.001; with --quantised 0.01, and "
            "for codes 0.125, which is one code; with objectives that have no gradient (accuracy, exact-match, f1, "
            "--reward) a tenth of the weights' root mean square", positive, metavar="X",
        ),
        option(
            "--directions", "directions per step; default: one per example, with --difference relative --group each",
            whole, metavar="N",
        ),
        option(
            "--directions-per", "example: evaluate each direction on its own share of the batch, for the cost of one "
            "direction on the whole batch; step: on the whole batch; default: example with one direction (or --group) "
            "per example, else step",
            choices=("example", "step"), decides=True,
        ),
        option(
            "--distribution", "distribution of the directions; default lowrank; with --quantised gaussian for scales, "
            "and sparse for codes",
            choices=("lowrank", "rademacher", "gaussian", "sparse"),
        ),
        option("--rank", "rank of low-rank directions; default 1", whole, metavar="N"),
        option(
            "--difference", "central: two queries a direction; forward: one, and one at x; relative: one, which is "
            "compared with the others of its --group, so an example is worth more directions; default central",
            choices=("central", "forward", "relative"),
        ),
        option("--group", f"directions that --difference relative compares; default {GROUP}", whole, metavar="N"),
        option("--blocks", "tune only N layers in each step, drawn at random", whole, metavar="N"),
        option(
            "--mask", "tune only this fraction of each matrix: its smallest weights",
            positive, metavar="SHARE", decides=True,
        ),
        option("--weight-decay", "coefficient of decoupled weight decay", positive, metavar="X"),
        option("--no-decay", "parameters without weight decay", metavar="REGEX", decides=True),
        option("--clip", "clip the directional derivative along each direction to [-X, X]", positive, metavar="X"),
        option("--mezo", "MeZO as published: SGD, one Gaussian direction on the whole batch", action="store_true"),
        SEED,
    ),
    "forward passes (results agree up to rounding)": (
        option(
            "--sweep", "batched: one forward pass for all queries; scratch: one per query",
            choices=("auto", "batched", "scratch"), default="auto",
        ),
        (
            option(
                "--reuse", "run the layers below the lowest tuned one once for all queries of a step; the default",
                action="store_const", const=True, dest="reuse",
            ),
            option("--no-reuse", "run every layer for every query", action="store_const", const=False, dest="reuse"),
            option(
                "--keep-features",
                "also cache their output for later steps, up to 2 GiB; the default with --select top",
                action="store_const", const="keep", dest="reuse",
            ),
        ),
        option("--micro-batch", "maximum examples per forward pass", whole, metavar="N"),
        option(
            "--device", "where the model runs: cpu, cuda, cuda:1, mps or another device of torch; default auto: the "
            "accelerator with the most memory free, if there is room for the model on it, else cpu",
            device, metavar="DEVICE",
        ),
        option(
            "--dtype", "dtype of the weights", choices=("float32", "bfloat16", "float16"), default="float32",
            decides=True,
        ),
    ),
    "models that do not fit into memory": (
        option(
            "--quantised", "run from the .gguf file as it is, and search the scales of its blocks (QZO), or its "
            "integers (codes, as QES does), for which two bytes each are kept in a file in the folder for temporary "
            "files; --save names a new .gguf file; alone it means scales", nargs="?", const="scales",
            choices=("scales", "codes"), decides=True,
        ),
        option(
            "--stream", "read the weights block by block: from the model's files on the disk, or from the host's "
            "memory; the numbers are the same", choices=("disk", "host"),
        ),
        option(
            "--budget", "memory for weights with --stream, where the model runs, such as 2GiB; default: what two "
            "blocks need",
            metavar="SIZE",
        ),
        option(
            "--stream-to", "folder for the weights that --stream disk moves, up to twice the model's size; a resumed "
            "run finds them there; default: a temporary one",
            expanded, metavar="DIR",
        ),
        option(
            "--transfer-dtype", "with --stream: hold and read the weights in fewer bits: bf16, or a byte each with a "
            "scale for every 64 (fp8, int8); the run says what that loses", choices=("bf16", "fp8", "int8"),
        ),
        option(
            "--log-structured", "with --stream: write each block back after 16 moves only, and make those again "
            "whenever it is read", action="store_true",
        ),
    ),
    "validation and output": (
        option("--no-probe", "leave out the classifier on the frozen model that runs with --labels are compared with",
               action="store_true"),
        option(
            "--eval-every", "steps between validations; 0 validates only before the first step and after the last; "
            "default: a fifth of --steps", count, metavar="N",
        ),
        option("--save", "save the weights and the tokenizer to this folder at the end", expanded, metavar="DIR"),
    ),
}  # fmt: skip
