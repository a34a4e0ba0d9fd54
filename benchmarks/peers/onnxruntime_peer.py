"""onnxruntime: inference only, of the same networks written down in ONNX."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ..networks import data, images, shapes


def versions() -> dict[str, str]:
    return {"onnxruntime": onnxruntime.__version__}


def _model(name: str) -> bytes:
    rng = np.random.default_rng(0)
    nodes, weights, flow = [], [], "x"
    for index, (layer, given, made) in enumerate(shapes(name)):
        out, inputs = f"y{index}", [flow]
        if layer.kind in ("dense", "conv"):
            shape = (given[0], made[0]) if layer.kind == "dense" else (layer.size, given[0], 3, 3)
            for part, array in (("w", 0.05 * rng.standard_normal(shape)), ("b", np.zeros(made[0]))):
                weights.append(numpy_helper.from_array(array.astype(np.float32), f"{part}{index}"))
                inputs.append(f"{part}{index}")
        window = {"kernel_shape": [layer.size] * 2, "strides": [layer.size] * 2} if layer.kind == "pool" else {}
        operator = {"dense": "Gemm", "conv": "Conv", "pool": "MaxPool", "relu": "Relu", "flatten": "Flatten"}[
            layer.kind
        ]
        nodes.append(helper.make_node(operator, inputs, [out], **window))
        flow = out
    shape = ["N", 1, 28, 28] if images(name) else ["N", 784]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(flow, TensorProto.FLOAT, ["N", 10])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model.SerializeToString()


def infer(name: str, batch: int, option: str):
    session = onnxruntime.InferenceSession(_model(name), providers=["CPUExecutionProvider"])
    x, _ = data(name, batch)
    return lambda: session.run(None, {"x": x})
