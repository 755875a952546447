"""Asks a chat model a question, and prints the answer as it comes.

usage: python3 generate.py QUESTION [ADDRESS] [MODEL]      after ./make_stubs
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "stubs"))

import grpc
from attendant.v1 import generate_pb2, inference_pb2_grpc

# How SmolLM2 and other ChatML models mark who speaks. A model has its own, in its tokenizer's chat template.
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


def main(question, address="localhost:50051", model=""):
    request = generate_pb2.GenerateRequest(model=model, text=CHAT.format(question))
    request.sampling.temperature = 0  # greedy
    request.stopping.max_new_tokens = 100
    with grpc.insecure_channel(address) as channel:
        for response in inference_pb2_grpc.InferenceServiceStub(channel).Generate(request, timeout=60):
            print(response.chunk.text, end="", flush=True)
            if response.HasField("finished"):
                reason = generate_pb2.FinishReason.Name(response.finished.finish_reason)
                print(f"\n({response.finished.usage.output_tokens} tokens, {reason})")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
