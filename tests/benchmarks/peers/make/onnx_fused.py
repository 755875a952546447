"""make/onnx_fused.py BERT_FOLDER f32|int8 FILE: of the fused operators that onnxruntime is fastest with.

int8: weights by column, activations as they come (dynamic quantization).
"""

import json
import pathlib
import sys

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

MICROSOFT = "com.microsoft"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Graph:
    def __init__(self, folder, int8):
        weights = load_file(pathlib.Path(folder, "model.safetensors"))
        self.weights = {name.removeprefix("bert."): value for name, value in weights.items()}
        self.config = json.loads(pathlib.Path(folder, "config.json").read_text())
        self.int8 = int8
        self.nodes, self.constants = [], []

    def node(self, kind, inputs, output, domain=MICROSOFT, **attributes):
        outputs = output if isinstance(output, list) else [output]
        name = f"node{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, name=name, **attributes))
        return outputs[0]

    def constant(self, name, value):
        self.constants.append(numpy_helper.from_array(numpy.ascontiguousarray(value), name))
        return name

    def weight(self, name):
        return self.constant(name, self.weights[name])

    def quantized(self, name, matrix):
        """Names of values, scales and zero points, by column."""
        scale = numpy.abs(matrix).max(0) / 127
        scale[scale == 0] = 1
        return (
            self.constant(f"{name}.values", numpy.clip(numpy.rint(matrix / scale), -127, 127).astype(numpy.int8)),
            self.constant(f"{name}.scale", scale.astype(numpy.float32)),
            self.constant(f"{name}.zero", numpy.zeros(matrix.shape[1], numpy.int8)),
        )

    def product(self, x, name):
        matrix, output = self.weights[f"{name}.weight"].T, f"{name}.out"
        if self.int8:
            values, scale, zero = self.quantized(name, matrix)
            return self.node("DynamicQuantizeMatMul", [x, values, scale, zero], output)
        return self.node("MatMul", [x, self.constant(f"{name}.weight", matrix)], output, domain="")

    def attention(self, x, layer):
        names = [f"{layer}attention.self.{name}" for name in ("query", "key", "value")]
        matrix = numpy.concatenate([self.weights[f"{name}.weight"].T for name in names], 1)
        bias = numpy.concatenate([self.weights[f"{name}.bias"] for name in names])
        bias = self.constant(f"{layer}qkv.bias", bias)
        heads, output = self.config["num_attention_heads"], f"{layer}attention"
        if not self.int8:
            matrix = self.constant(f"{layer}qkv.weight", matrix)
            return self.node("Attention", [x, matrix, bias, "mask"], output, num_heads=heads)
        values, scale, zero = self.quantized(f"{layer}qkv", matrix)
        of_x = [f"{layer}x.{part}" for part in ("values", "scale", "zero")]
        self.node("DynamicQuantizeLinear", [x], of_x, domain="")
        inputs = [of_x[0], values, bias, of_x[1], scale, "mask", of_x[2], zero]
        return self.node("QAttention", inputs, output, num_heads=heads)

    def norm(self, x, residual, name, bias, output):
        inputs = [x, residual, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"), self.weight(bias)]
        return self.node("SkipLayerNormalization", inputs, output, epsilon=self.config["layer_norm_eps"])

    def build(self):
        for name, short in zip(INPUTS, ("ids", "mask", "types")):
            self.node("Cast", [name], short, domain="", to=TensorProto.INT32)
        embeddings = [self.weight(f"embeddings.{name}.weight")
                      for name in ("word_embeddings", "position_embeddings", "token_type_embeddings", "LayerNorm")]
        inputs = ["ids", "types", *embeddings, self.weight("embeddings.LayerNorm.bias")]
        x = self.node("EmbedLayerNormalization", inputs, ["embedded", "mask_index"],
                      epsilon=self.config["layer_norm_eps"])
        last = self.config["num_hidden_layers"] - 1
        for index in range(last + 1):
            layer = f"encoder.layer.{index}."
            attended = self.product(self.attention(x, layer), f"{layer}attention.output.dense")
            x = self.norm(attended, x, f"{layer}attention.output.LayerNorm", f"{layer}attention.output.dense.bias",
                          f"{layer}attended")
            inner = self.product(x, f"{layer}intermediate.dense")
            bias = self.weight(f"{layer}intermediate.dense.bias")
            inner = self.product(self.node("BiasGelu", [inner, bias], f"{layer}gelu"), f"{layer}output.dense")
            x = self.norm(inner, x, f"{layer}output.LayerNorm", f"{layer}output.dense.bias",
                          "last_hidden_state" if index == last else f"{layer}out")
        shape = ["batch", "tokens"]
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in INPUTS]
        output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT,
                                               [*shape, self.config["hidden_size"]])
        graph = helper.make_graph(self.nodes, "bert", inputs, [output], self.constants)
        operators = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=operators, ir_version=8)


folder, dtype, file = sys.argv[1:]
onnx.save(Graph(folder, dtype == "int8").build(), file)
