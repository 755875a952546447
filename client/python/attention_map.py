"""Prints what each token of a text attends to in a model: its strongest keys, over the mean of one layer's heads.

usage: python3 attention_map.py TEXT [--target TEXT] [--layer LAYER] [--address ADDRESS] [--model MODEL]
                                                                                      after ./make_stubs
"""

import argparse
import array
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "stubs"))

import grpc
from attendant.v1 import attend_pb2, inference_pb2_grpc


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("text")
    parser.add_argument("--target", help="the output of an encoder-decoder, which attends to the text")
    parser.add_argument("--layer", type=int, default=-1, help="default: the last")
    parser.add_argument("--address", default="localhost:50051")
    parser.add_argument("--model", default="")
    options = parser.parse_args()
    source = attend_pb2.ModelAttention(
        model=options.model, text=options.text, layers=[options.layer],
        reduction=attend_pb2.ATTENTION_REDUCTION_MEAN_HEADS)
    if options.target:
        source.target_text = options.target
        source.kind = attend_pb2.ATTENTION_KIND_CROSS

    with grpc.insecure_channel(options.address) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        for response in stub.Attend(attend_pb2.AttendRequest(model=source), timeout=60):
            # First the names of the rows and columns, then blocks of some rows each.
            if response.HasField("started"):
                queries, keys = response.started.query_tokens, response.started.key_tokens
            elif response.HasField("block"):
                block = response.block
                num_keys = block.weights.shape[-1]
                values = array.array("f", block.weights.data)
                for row, query in enumerate(range(block.queries.begin, block.queries.end)):
                    weights = values[row * num_keys : (row + 1) * num_keys]
                    best = sorted(range(num_keys), key=lambda key: -weights[key])[:4]
                    print(f"{queries[query]:>16}  " + "  ".join(f"{keys[key]} {weights[key]:.0%}" for key in best))


if __name__ == "__main__":
    try:
        main()
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
