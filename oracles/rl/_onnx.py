"""Dense layers as an ONNX model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from oracles import _files as files
from oracles.rl._layers import Weights

__all__ = ["write"]

OPSET = 17


def write(layers: list[Weights], path: str | Path) -> None:
    """Write the layers as `Gemm` nodes with their activations.

    Raises:
        ModuleNotFoundError: `onnx` is not installed.
    """
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"Exporting to ONNX needs {error.name}: pip install onnx") from error
    nodes: list[Any] = []
    weights: list[Any] = []
    name = "observation"
    for i, (w, b, activation) in enumerate(layers):
        bias = np.zeros(len(w)) if b is None else b
        weights += [numpy_helper.from_array(a.astype(np.float32), f"{n}{i}") for n, a in (("w", w), ("b", bias))]
        last = i == len(layers) - 1 and not activation
        out = "output" if last else f"h{i}"
        nodes.append(helper.make_node("Gemm", [name, f"w{i}", f"b{i}"], [out], transB=1))
        name = out
        if activation:
            out = "output" if i == len(layers) - 1 else f"a{i}"
            nodes.append(helper.make_node("Tanh" if activation == "tanh" else "Relu", [name], [out]))
            name = out
    given, found = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", size])
        for n, size in (("observation", layers[0].w.shape[1]), ("output", layers[-1].w.shape[0]))
    )
    graph = helper.make_graph(nodes, "policy", [given], [found], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="blackbox_zo")
    model.ir_version = 8  # old enough for runtimes of recent years
    onnx.checker.check_model(model)
    files.write(path, model.SerializeToString())
