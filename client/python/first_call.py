"""The first call of the README: two sentences compared, and a question answered. After ./make_stubs."""

import array
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "stubs"))

import grpc
from attendant.v1 import encode_pb2, generate_pb2, inference_pb2_grpc

channel = grpc.insecure_channel(sys.argv[1] if len(sys.argv) > 1 else "localhost:50051")
attendant = inference_pb2_grpc.InferenceServiceStub(channel)

texts = ["A man is eating food.", "A man is eating a piece of bread."]
vectors = attendant.Encode(encode_pb2.EncodeRequest(inputs=[{"text": text} for text in texts])).embeddings
values, dim = array.array("f", vectors.data), vectors.shape[1]
print("similarity", sum(a * b for a, b in zip(values[:dim], values[dim:])))

question = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
request = generate_pb2.GenerateRequest(text=question)
request.sampling.temperature = 0
request.stopping.max_new_tokens = 24
for message in attendant.Generate(request):
    print(message.chunk.text, end="", flush=True)
print()
