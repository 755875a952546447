"""Prints how near each of some sentences is to the first, as the cosine of their vectors.

usage: python3 encode.py [ADDRESS] [MODEL]      after ./make_stubs
"""

import array
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "stubs"))

import grpc
from attendant.v1 import encode_pb2, inference_pb2_grpc

SENTENCES = ["A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby."]


def main(address="localhost:50051", model=""):
    request = encode_pb2.EncodeRequest(model=model, normalize=True)
    request.inputs.extend(encode_pb2.EncodeInput(text=text) for text in SENTENCES)
    with grpc.insecure_channel(address) as channel:
        response = inference_pb2_grpc.InferenceServiceStub(channel).Encode(request, timeout=60)

    # Row-major float32 (the default), little-endian: [rows, dimensions]. Good inputs have a row each.
    dimensions = response.embeddings.shape[1]
    values = array.array("f", response.embeddings.data)
    rows = [values[i : i + dimensions] for i in range(0, len(values), dimensions)]
    for text, encoded in zip(SENTENCES, response.inputs):
        if encoded.status.code:
            print(f"{text}: {encoded.status.message}")
            continue
        cosine = sum(a * b for a, b in zip(rows[0], rows[encoded.row]))
        print(f"{cosine:5.2f}  {text}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
