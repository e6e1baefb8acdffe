"""`blackbox-zo plan`: what it takes to stream a model that is larger than memory."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from blackbox_zo._paths import expanded
from oracles import _files as files
from oracles.options import BadInput, Table, add_options, check_file, option, told, whole

if TYPE_CHECKING:
    from oracles.llm.plan._machines import Figure, Machine

__all__ = ["add"]

_OPTIONS: Table = {
    "the model and a step": [
        option(
            "--model", "a preset such as opt-175b, llama-3-70b or qwen3-32b; a folder; a GGUF file; or a name on the "
            "hub. No weights are read", required=True, metavar="MODEL",
        ),
        option("--tokens", "tokens that each query of a step sees", whole, default=2048, metavar="N"),
        option(
            "--length", "tokens in a text; default: all, or as many as the model reads", whole, metavar="N",
        ),
        option("--queries", "queries in a step", whole, default=2, metavar="N"),
        option("--micro-batch", "maximum examples per forward pass", whole, metavar="N"),
        option("--dtype", "of the weights in memory; default: the model's", choices=["float32", "bfloat16", "float16"]),
    ],
    "the machine": [
        option("--machine", "one of the machines that are listed for a wrong name; default a100", metavar="NAME"),
        option("--measure", "measure this machine instead: its disk, memory and products", action="store_true"),
        option("--device-memory", "memory of the device, such as 18GiB", metavar="SIZE"),
        option("--host-memory", "memory of the host; default: as much as is needed", metavar="SIZE"),
        option("--disk", "what the disk reads, such as 3GB/s, or sata, nvme3, nvme4 or nvme5", metavar="SPEED"),
        option("--disk-write", "what the disk writes; default: as it reads", metavar="SPEED"),
        option("--link", "from host to device and back, such as 25GB/s, or pcie3, pcie4 or pcie5", metavar="SPEED"),
        option("--flops", "what products reach, such as 150TFLOPS", metavar="SPEED"),
    ],
    "how to stream": [
        option("--store", "disk or host; default: the faster that fits", choices=["disk", "host"]),
        option("--budget", "memory for weights, such as 2GiB; default: what the device has left", metavar="SIZE"),
        option(
            "--transfer-dtype", "hold and move the weights in fewer bits: bf16, fp8 or int8",
            choices=["bf16", "fp8", "int8"],
        ),
        (
            option("--log-structured", "only ways that write a block after 16 moves", action="store_true"),
            option("--write-back", "only ways that write a block after each move", action="store_true"),
        ),
    ],
    "output": [
        option("--json", "a .json file with all figures", expanded, metavar="FILE"),
    ],
}  # fmt: skip


def add(commands: Any) -> None:
    """Add the command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "plan",
        help="say what it takes to stream a model that is larger than memory",
        description="Say what of a model fits on a machine, how the rest is best streamed, how long a step takes, what "
        "limits it, and what each tier of memory holds. Times are simulated; each figure of the machine says where it "
        "comes from.",
        epilog="example: blackbox-zo plan --model opt-175b --device-memory 18GB --link pcie4 -o plan.html",
        allow_abbrev=False,
    )
    parser.set_defaults(command=_run)
    add_options(parser, _OPTIONS)
    parser.add_argument(
        "-o", "--output", type=expanded, metavar="FILE", help="an .html page with a picture of the pipeline"
    )


def _run(given: argparse.Namespace) -> int:
    from oracles.llm.plan._plan import plan
    from oracles.llm.plan._text import as_json, lines

    _check(given)
    shape, machine = _machine(given)
    try:
        found = plan(
            shape,
            machine,
            given.tokens,
            length=given.length,
            queries=given.queries,
            transfer_dtype=given.transfer_dtype,
            store=given.store,
            log_structured=True if given.log_structured else False if given.write_back else None,
            budget=_size(given.budget, "--budget"),
            micro_batch=given.micro_batch,
        )
    except ValueError as error:
        raise BadInput(str(error)) from error
    for line in lines(found):
        print(line)
    if given.json is not None:
        files.write(given.json, json.dumps(as_json(found), indent=1) + "\n")
    if given.output is not None:
        from oracles.cli._html import html
        from oracles.llm.plan._page import page_of

        files.write(given.output, html(page_of(found)))
        print(f"{given.output}: {given.output.stat().st_size / 1000:,.0f} kB")
    return 0


def _check(given: argparse.Namespace) -> None:
    check_file(given.json, "--json")
    check_file(given.output, "--output")
    for path, flag, suffix in ((given.output, "--output", ".html"), (given.json, "--json", ".json")):
        if path is not None and path.suffix.lower() != suffix:
            raise BadInput(f"{flag} {str(path)!r} must end in {suffix}.")
    if given.measure:
        for name in ("machine", "link", "flops", "disk", "disk_write"):
            if getattr(given, name) is not None:
                raise BadInput(f"--measure measures this machine; leave --{name.replace('_', '-')} out, or --measure.")


def _machine(given: argparse.Namespace) -> tuple[Any, Machine]:
    """The shape of the model and the machine that the options name."""
    import torch

    from oracles.llm.plan._machines import LINKS, MACHINES, Figure
    from oracles.llm.plan._models import shape_of
    from oracles.llm.plan._quantities import operations

    name = given.machine or "a100"
    if name not in MACHINES:
        raise BadInput(f"--machine names no machine {name!r}; known are {', '.join(MACHINES)}. Or give --measure.")
    figures: dict[str, Figure | None] = {}
    for flag in ("device_memory", "host_memory"):
        if (size := _size(getattr(given, flag), f"--{flag.replace('_', '-')}")) is not None:
            figures[flag] = Figure(float(size), "given")
    if given.link is not None:
        figures["link"] = figures["link_back"] = LINKS.get(given.link) or _speed(given.link, "--link", LINKS)
    if given.flops is not None:
        figures["flops"] = Figure(_parsed(operations, given.flops, "--flops"), "given")
    figures |= _disk(given)
    shape = shape_of(given.model, None if given.dtype is None else getattr(torch, given.dtype))
    if given.measure:
        from oracles.llm.plan._measure import measured
        from oracles.llm.plan._plan import work_of

        with told():
            work = work_of(shape, given.tokens, given.length, given.queries, given.micro_batch)
        machine = measured(shape, work, given.transfer_dtype)
    else:
        machine = MACHINES[name]
        if given.machine is None:
            machine = machine.but(name=f"{machine.name}, as no --machine is given")  # type: ignore[arg-type]
    return shape, machine.but(**figures)


def _disk(given: argparse.Namespace) -> dict[str, Figure | None]:
    from oracles.llm.plan._machines import DISKS, Figure

    found: dict[str, Figure | None] = {}
    if given.disk in DISKS:
        found["disk"], found["disk_write"] = DISKS[given.disk]
    elif given.disk is not None:
        read = _speed(given.disk, "--disk", DISKS)
        found |= {"disk": read, "disk_write": Figure(read.value, "assumed to be as fast as reading")}
    if given.disk_write is not None:
        found["disk_write"] = _speed(given.disk_write, "--disk-write", ())
    return found


def _speed(text: str, flag: str, names: Any) -> Figure:
    from oracles.llm.plan._machines import Figure
    from oracles.llm.plan._quantities import speed

    also = f", or {', '.join(names)}" if names else ""
    return Figure(_parsed(speed, text, flag, also), "given")


def _size(text: str | None, flag: str) -> int | None:
    from oracles.llm.plan._quantities import size

    return None if text is None else _parsed(size, text, flag)


def _parsed(kind: Any, text: str, flag: str, also: str = "") -> Any:
    try:
        return kind(text)
    except argparse.ArgumentTypeError as error:
        raise BadInput(f"{flag} {error}{also}.") from None
