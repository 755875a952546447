"""Encoding, whichever library runs the graph."""

import numpy

import loop

VOCABULARY = 30522


def inputs_of(lengths):
    """The three inputs of a BERT for texts of these lengths, padded to the longest."""
    longest = max(lengths)
    random = numpy.random.default_rng(1)
    ids = random.integers(1000, VOCABULARY, (len(lengths), longest), dtype=numpy.int64)
    mask = (numpy.arange(longest) < numpy.array(lengths)[:, None]).astype(numpy.int64)
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}


def measure(workload, seconds, infer, **more):
    """encode:LENGTHS, or sorted:N:LENGTHS, which sorts the texts by length and encodes them N at a time."""
    kind, _, text = workload.partition(":")
    if kind == "encode":
        inputs = inputs_of(loop.lengths_of(text))
        return loop.print_result(loop.repeat(seconds, loop.milliseconds(lambda: infer(inputs))), "ms", **more)
    if kind != "sorted":
        loop.not_served(f"there is no workload {workload}")
    size, _, text = text.partition(":")
    lengths = sorted(loop.lengths_of(text))
    batches = [inputs_of(lengths[i : i + int(size)]) for i in range(0, len(lengths), int(size))]

    def encode_all():
        for batch in batches:
            infer(batch)

    values = [sum(lengths) / ms * 1e3 for ms in loop.repeat(seconds, loop.milliseconds(encode_all))]
    return loop.print_result(values, "tokens/s", **more)
