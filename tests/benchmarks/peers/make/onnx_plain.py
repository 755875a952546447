"""make/onnx_plain.py BERT_FOLDER FILE: as torch exports it, of ONNX's own operators."""

import sys

import torch
import transformers

NAMES = ("input_ids", "attention_mask", "token_type_ids")


class Encoder(torch.nn.Module):
    def __init__(self, bert):
        super().__init__()
        self.bert = bert

    def forward(self, ids, mask, types):
        return self.bert(input_ids=ids, attention_mask=mask, token_type_ids=types, return_dict=False)[0]


bert = transformers.BertModel.from_pretrained(sys.argv[1], add_pooling_layer=False, attn_implementation="eager").eval()
ids = torch.randint(0, bert.config.vocab_size, (2, 16))
mask = torch.ones_like(ids)
mask[1, 10:] = 0
torch.onnx.export(
    Encoder(bert),
    (ids, mask, torch.zeros_like(ids)),
    sys.argv[2],
    input_names=list(NAMES),
    output_names=["last_hidden_state"],
    dynamic_axes={name: {0: "batch", 1: "tokens"} for name in (*NAMES, "last_hidden_state")},
    opset_version=17,
    dynamo=False,
)
