"""Calls the heads that checkpoints carry: words that fit a gap, answers in a text, labels of texts, the best document.

usage: python3 heads.py fill-mask TEXT            [--address ADDRESS] [--model MODEL]      after ./make_stubs
       python3 heads.py answer    QUESTION CONTEXT
       python3 heads.py classify  TEXT...
       python3 heads.py rank      QUERY DOCUMENT...
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "stubs"))

import grpc
from attendant.v1 import heads_pb2, inference_pb2_grpc


def good(answers):
    """The answers of inputs that did not fail; the others are named."""
    for number, answer in enumerate(answers, 1):
        if answer.status.code:
            print(f"input {number}: {answer.status.message}", file=sys.stderr)
        else:
            yield answer


def fill_mask(attendant, model, texts):
    request = heads_pb2.FillMaskRequest(model=model, inputs=[{"text": text} for text in texts], top_k=5)
    for filled in good(attendant.FillMask(request, timeout=60).inputs):
        for mask in filled.masks:
            for candidate in mask.candidates:
                print(f"{candidate.score:7.1%}  {candidate.token}")


def answer(attendant, model, texts):
    question, context = texts
    request = heads_pb2.AnswerRequest(model=model, inputs=[{"question": question, "context": context}])
    for answered in good(attendant.Answer(request, timeout=60).inputs):
        for found in answered.answers:
            print(f"{found.score:7.1%}  {found.text}  (characters {found.span.char_start} to {found.span.char_end})")


def classify(attendant, model, texts):
    request = heads_pb2.ClassifyRequest(model=model, inputs=[{"text": text} for text in texts])
    for classified in good(attendant.Classify(request, timeout=60).inputs):
        for label in classified.labels:
            print(f"{label.score:7.1%}  {label.label}")
        for span in classified.spans:  # of a model that labels tokens
            print(f"{span.labels[0].score:7.1%}  {span.labels[0].label}  {span.text}")


def rank(attendant, model, texts):
    query, *documents = texts
    request = heads_pb2.RankRequest(model=model, query=query, documents=documents)
    for ranked in good(attendant.Rank(request, timeout=60).documents):
        print(f"{ranked.score:8.4f}  {documents[ranked.index]}")


HEADS = {"fill-mask": fill_mask, "answer": answer, "classify": classify, "rank": rank}


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("head", choices=HEADS)
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--address", default="localhost:50051")
    parser.add_argument("--model", default="")
    options = parser.parse_args()
    if options.head == "answer" and len(options.texts) != 2:
        parser.error("answer takes a question and a context")
    with grpc.insecure_channel(options.address) as channel:
        HEADS[options.head](inference_pb2_grpc.InferenceServiceStub(channel), options.model, options.texts)


if __name__ == "__main__":
    try:
        main()
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
