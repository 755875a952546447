#include <iostream>

#include "absl/flags/flag.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "client/cli/command.h"
#include "client/cli/flags.h"
#include "client/cli/json.h"
#include "client/cli/terminal.h"

namespace attendant::client {
namespace {

// ENUM_PREFIX_SOME_VALUE -> "some value".
std::string Words(absl::string_view name, absl::string_view prefix) {
  const std::string lower = absl::AsciiStrToLower(name.substr(prefix.size()));
  return absl::StrReplaceAll(lower, {{"_", " "}});
}

std::string TypeName(v1::DataType dtype) { return Words(v1::DataType_Name(dtype), "DATA_TYPE_"); }

void PrintList(const v1::ListModelsResponse& list) {
  Table table("lllrrrl", {"name", "type", "dtype", "parameters", "memory", "max tokens", "serves"});
  for (const v1::Model& model : list.models()) {
    const bool is_default = model.name() == list.default_model();
    table.AddRow({absl::StrCat(Printable(model.name()), is_default ? " *" : ""),
                  Printable(model.architecture()), TypeName(model.dtype()),
                  InMillions(model.num_parameters()), InBytes(model.weights_bytes()),
                  WithSeparators(model.max_tokens()), absl::StrJoin(model.rpcs(), " ")});
  }
  table.Print();
  if (!list.default_model().empty()) std::cout << Dim("* used where no model is named") << "\n";
}

void PrintModel(const v1::Model& model) {
  std::vector<std::string> heads;
  for (const int head : model.heads()) {
    heads.push_back(Words(v1::ModelHead_Name(static_cast<v1::ModelHead>(head)), "MODEL_HEAD_"));
  }
  Table table("ll", {Printable(model.name()), ""});
  table.AddRow({"type", absl::StrCat(Printable(model.architecture()), ", ",
                                     Words(v1::ModelStack_Name(model.stack()), "MODEL_STACK_"))});
  table.AddRow({"parameters", WithSeparators(model.num_parameters())});
  table.AddRow(
      {"memory", absl::StrCat(InBytes(model.weights_bytes()), " in ", TypeName(model.dtype()))});
  std::string layers =
      absl::StrCat(model.num_layers(), " of ", model.num_attention_heads(), " heads");
  if (model.num_key_value_heads() > 0) {
    absl::StrAppend(&layers, ", ", model.num_key_value_heads(), " for keys and values");
  }
  table.AddRow({"layers", layers});
  if (model.hidden_size() > 0) table.AddRow({"hidden size", absl::StrCat(model.hidden_size())});
  table.AddRow({"max tokens", WithSeparators(model.max_tokens())});
  if (model.tokenizer() != v1::TOKENIZER_KIND_UNSPECIFIED) {
    table.AddRow({"tokenizer",
                  absl::StrCat(Words(v1::TokenizerKind_Name(model.tokenizer()), "TOKENIZER_KIND_"),
                               ", ", WithSeparators(model.vocab_size()), " tokens")});
  }
  if (model.embedding_size() > 0) {
    table.AddRow({"vectors", absl::StrCat(model.embedding_size(), " values, pooled by ",
                                          Words(v1::Pooling_Name(model.pooling()), "POOLING_"),
                                          model.normalize() ? ", normalized" : "")});
  }
  table.AddRow({"heads", absl::StrJoin(heads, ", ")});
  table.AddRow({"serves", absl::StrJoin(model.rpcs(), " ")});
  for (const auto& [name, prompt] : model.prompts()) {
    table.AddRow({absl::StrCat("prompt ", Printable(name)), Printable(prompt)});
  }
  table.Print();
}

absl::Status Run(const Arguments& arguments) {
  if (arguments.size() > 1) return absl::InvalidArgumentError("`models` takes at most one name");
  const auto client = ConnectWithFlags();
  if (!client.ok()) return client.status();
  const std::string name = arguments.empty() ? absl::GetFlag(FLAGS_model) : arguments[0];
  if (!name.empty()) {
    const auto model = client->GetModel(name);
    if (!model.ok()) return model.status();
    if (absl::GetFlag(FLAGS_json)) {
      std::cout << ToJson(*model) << "\n";
    } else {
      PrintModel(*model);
    }
    return absl::OkStatus();
  }
  const auto list = client->ListModels();
  if (!list.ok()) return list.status();
  if (absl::GetFlag(FLAGS_json)) {
    std::cout << ToJson(*list) << "\n";
  } else {
    PrintList(*list);
  }
  return absl::OkStatus();
}

}  // namespace

Command ModelsCommand() {
  return {.name = "models",
          .arguments = "[NAME]",
          .summary = "list the loaded models, or describe one",
          .description =
              "  attendant models\n"
              "  attendant models minilm",
          .flags = {},
          .run = Run};
}

}  // namespace attendant::client
