#include "client/cli/flags.h"

#include <cstdint>
#include <fstream>

#include "absl/flags/flag.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

ABSL_FLAG(std::string, address, "localhost:50051",
          "Where the server listens; default $ATTENDANT_ADDRESS, else localhost:50051");
ABSL_FLAG(std::string, model, "", "The model to use; default: the server's");
ABSL_FLAG(absl::Duration, deadline, absl::Minutes(5),
          "The longest to wait for the whole answer; inf for no limit");
ABSL_FLAG(bool, json, false, "Print JSON");
ABSL_FLAG(std::string, color, "auto", "Colours: auto (on a terminal), always or never");
ABSL_FLAG(bool, tls, false, "Connect with TLS, trusting the system's authorities");
ABSL_FLAG(std::string, tls_ca, "", "Connect with TLS, trusting the authorities in this PEM file");
ABSL_FLAG(std::string, tls_certificate, "",
          "Connect with TLS and this certificate of our own, a PEM file");
ABSL_FLAG(std::string, tls_key, "", "The key of --tls_certificate, a PEM file");
ABSL_FLAG(std::string, tls_server_name, "",
          "The name in the server's certificate, if not that of --address");
ABSL_FLAG(std::string, token_file, "", "A file with a bearer token to send; needs TLS");
ABSL_FLAG(std::string, truncate, "none",
          "What to do with text that is too long: none (refuse it), right (cut its end), left (cut "
          "its beginning)");
ABSL_FLAG(std::optional<int32_t>, max_tokens, std::nullopt,
          "With --truncate, the most tokens to keep; default: what the model takes");
ABSL_FLAG(std::string, input, "",
          "Read the inputs from this file, one a line, - for standard input; from a .jsonl file as "
          "JSON, in the fields of the contract");
ABSL_FLAG(std::vector<std::string>, image, {}, "PNG or JPEG files, separated by commas");
ABSL_FLAG(std::optional<int32_t>, top_k, std::nullopt,
          "How many of the most likely to return, or, for generate, to choose among (0: all)");
ABSL_FLAG(bool, raw_scores, false, "Return scores before the model's activation");

namespace attendant::client {

std::vector<absl::string_view> CommonFlags() {
  return {"address",         "model",   "deadline",        "json",      "color", "tls", "tls_ca",
          "tls_certificate", "tls_key", "tls_server_name", "token_file"};
}

absl::StatusOr<Client> ConnectWithFlags() {
  ClientOptions options;
  options.deadline = absl::GetFlag(FLAGS_deadline);
  TlsOptions tls;
  tls.root_certificates_file = absl::GetFlag(FLAGS_tls_ca);
  tls.certificate_file = absl::GetFlag(FLAGS_tls_certificate);
  tls.private_key_file = absl::GetFlag(FLAGS_tls_key);
  tls.server_name = absl::GetFlag(FLAGS_tls_server_name);
  if (absl::GetFlag(FLAGS_tls) || !tls.root_certificates_file.empty() ||
      !tls.certificate_file.empty()) {
    options.tls = tls;
  }
  if (const std::string path = absl::GetFlag(FLAGS_token_file); !path.empty()) {
    std::ifstream file(path);
    if (!std::getline(file, options.bearer_token)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--token_file: cannot read a token from ", path));
    }
    absl::StripAsciiWhitespace(&options.bearer_token);
  }
  return Client::Connect(absl::GetFlag(FLAGS_address), options);
}

absl::StatusOr<std::optional<v1::Truncation>> TruncationFromFlags() {
  const std::string side = absl::GetFlag(FLAGS_truncate);
  const std::optional<int32_t> max_tokens = absl::GetFlag(FLAGS_max_tokens);
  v1::Truncation truncation;
  if (side == "none") {
    if (max_tokens)
      return absl::InvalidArgumentError("--max_tokens needs --truncate=right or --truncate=left");
    return std::nullopt;
  } else if (side == "right") {
    truncation.set_side(v1::Truncation::SIDE_RIGHT);
  } else if (side == "left") {
    truncation.set_side(v1::Truncation::SIDE_LEFT);
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("--truncate is '", side, "'; it is one of none, right, left"));
  }
  if (max_tokens) truncation.set_max_tokens(*max_tokens);
  return truncation;
}

}  // namespace attendant::client
