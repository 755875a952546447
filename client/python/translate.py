"""Translates the lines of a file, or of standard input, many at a time, and prints them in their order.

usage: python3 translate.py [FILE] [--source LANGUAGE] [--target LANGUAGE] [--beams N]
                            [--address ADDRESS] [--model MODEL]                       after ./make_stubs
"""

import argparse
import concurrent.futures
import fileinput
import itertools
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "stubs"))

import grpc
from attendant.v1 import generate_pb2, inference_pb2_grpc

AT_ONCE = 32


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("file", nargs="?", default="-")
    parser.add_argument("--source", default="", help="as the model names it: en, en_XX, eng_Latn")
    parser.add_argument("--target", default="", help="as the model names it: de, de_DE, deu_Latn")
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--address", default="localhost:50051")
    parser.add_argument("--model", default="")
    options = parser.parse_args()

    with (grpc.insecure_channel(options.address) as channel,
          concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool,
          fileinput.input(options.file, encoding="utf-8") as lines):
        stub = inference_pb2_grpc.InferenceServiceStub(channel)

        def translate(line):
            if not line.strip():
                return ""
            request = generate_pb2.GenerateRequest(
                model=options.model, text=line.strip(), source_language=options.source, target_language=options.target)
            if options.beams > 1:
                request.beam_search.num_beams = options.beams
            return "".join(response.chunk.text for response in stub.Generate(request, timeout=300)).strip()

        # A few hundred lines at a time, so that a file of any length is never held.
        while batch := list(itertools.islice(lines, 8 * AT_ONCE)):
            for translation in pool.map(translate, batch):
                print(translation, flush=True)


if __name__ == "__main__":
    try:
        main()
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
