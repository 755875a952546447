"""CTranslate2: translate:SOURCExTOKENSxSOURCESxBEAMS. MODEL is FOLDER,dtype=f32 or int8."""

import loop

options = loop.arguments()
loop.pin_openmp(options)

import random  # noqa: E402

import ctranslate2  # noqa: E402

kind, _, text = options.workload.partition(":")
if kind != "translate":
    loop.not_served(f"there is no workload {options.workload}")
source_tokens, num_tokens, num_sources, num_beams = loop.numbers_of(text, 4)
folder, _, dtype = options.model.partition(",dtype=")
translator = ctranslate2.Translator(
    folder,
    device="cpu",
    compute_type={"f32": "float32", "int8": "int8"}[dtype],
    inter_threads=1,
    intra_threads=options.threads,
)
words = random.Random(1)
sources = [[f"t{words.randrange(300, 32000)}" for _ in range(source_tokens)] for _ in range(num_sources)]


def translate():
    results = translator.translate_batch(
        sources,
        beam_size=num_beams,
        min_decoding_length=num_tokens,
        max_decoding_length=num_tokens,
        max_input_length=0,
    )
    for result in results:
        if len(result.hypotheses[0]) != num_tokens:
            raise SystemExit(f"{len(result.hypotheses[0])} tokens came instead of {num_tokens}")


values = [num_sources * num_tokens / ms * 1e3 for ms in loop.repeat(options.seconds, loop.milliseconds(translate))]
loop.print_result(values, "tokens/s", version=f"ctranslate2 {ctranslate2.__version__}")
