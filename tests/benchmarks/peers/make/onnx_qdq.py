"""make/onnx_qdq.py PLAIN_ONNX FILE: statically quantized, for OpenVINO: weights by column, activations by tensor."""

import sys

import numpy
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static


class RandomTexts(CalibrationDataReader):
    """How large activations are; of random tokens, since only the time counts here."""

    def __init__(self):
        random = numpy.random.default_rng(1)
        shape = (1, 64)
        self.inputs = iter([
            {
                "input_ids": random.integers(1000, 30000, shape),
                "attention_mask": numpy.ones(shape, numpy.int64),
                "token_type_ids": numpy.zeros(shape, numpy.int64),
            }
            for _ in range(4)
        ])

    def get_next(self):
        return next(self.inputs, None)


quantize_static(
    sys.argv[1],
    sys.argv[2],
    RandomTexts(),
    quant_format=QuantFormat.QDQ,
    op_types_to_quantize=["MatMul"],
    per_channel=True,
    activation_type=QuantType.QUInt8,
    weight_type=QuantType.QInt8,
    extra_options={"WeightSymmetric": True, "MatMulConstBOnly": True},
)
