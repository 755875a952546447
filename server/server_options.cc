#include "server/server_options.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/base/status_macros.h"

namespace attendant::server {
namespace {

constexpr char kUsage[] = R"(Serves transformers on the CPU over gRPC.

  attendant-server --model=minilm=/models/all-MiniLM-L6-v2 --model=/models/smollm2.gguf

Any flag can also come from a file (--flagfile=PATH, one flag a line) or from an environment variable:
--fromenv=listen,model reads FLAGS_listen and FLAGS_model. Bytes are written as 512MiB or 1GiB, times as 250ms or 30s.

SIGTERM or SIGINT drains: health turns to NOT_SERVING, running requests are finished, and the exit status is 0. A second
signal ends the server at once, with status 1.)";

struct Unit {
  absl::string_view suffix;
  int64_t bytes;
};
constexpr std::array<Unit, 4> kUnits = {{{"TiB", int64_t{1} << 40},
                                         {"GiB", int64_t{1} << 30},
                                         {"MiB", int64_t{1} << 20},
                                         {"KiB", int64_t{1} << 10}}};

// A flag in bytes.
struct Bytes {
  int64_t value = 0;
};
bool AbslParseFlag(absl::string_view text, Bytes* out, std::string* error) {
  absl::StatusOr<int64_t> bytes = ParseBytes(text);
  if (!bytes.ok()) {
    *error = std::string(bytes.status().message());
    return false;
  }
  out->value = *bytes;
  return true;
}
std::string AbslUnparseFlag(const Bytes& bytes) { return FormatBytes(bytes.value); }

// A flag that may be given several times: each adds to those before.
// What --model calls the types of weights.
constexpr std::pair<absl::string_view, engine::DataType> kWeightTypes[] = {
    {"f32", engine::DataType::kFloat32},
    {"bf16", engine::DataType::kBFloat16},
    {"int8", engine::DataType::kInt8},
    {"int4", engine::DataType::kInt4}};

struct Models {
  std::vector<engine::ModelSource> sources;
};
bool AbslParseFlag(absl::string_view text, Models* out, std::string* error) {
  static auto* const given = new std::vector<engine::ModelSource>();
  for (absl::string_view part : absl::StrSplit(text, ';', absl::SkipWhitespace())) {
    absl::StatusOr<engine::ModelSource> source = ParseModelSource(absl::StripAsciiWhitespace(part));
    if (!source.ok()) {
      *error = std::string(source.status().message());
      return false;
    }
    given->push_back(*std::move(source));
  }
  out->sources = *given;
  return true;
}
std::string AbslUnparseFlag(const Models& models) {
  return absl::StrJoin(models.sources, ";",
                       [](std::string* out, const engine::ModelSource& source) {
                         absl::StrAppend(out, source.name, "=", source.path);
                         for (const auto& [name, dtype] : kWeightTypes)
                           if (source.dtype == dtype) absl::StrAppend(out, ",dtype=", name);
                         if (source.max_tokens)
                           absl::StrAppend(out, ",max_tokens=", *source.max_tokens);
                       });
}

}  // namespace
}  // namespace attendant::server

// Defaults are those of the structs.
#define DEFAULT(field) (attendant::server::ServerOptions().field)
using attendant::server::Bytes;
using attendant::server::Models;

ABSL_FLAG(std::string, listen, DEFAULT(listen),
          "Address of the gRPC services, HOST:PORT. Port 0 takes a free one.");
ABSL_FLAG(std::string, metrics_listen, DEFAULT(metrics_listen),
          "Address of GET /metrics, /livez and /readyz, HOST:PORT. Port 0 takes a free one.");
ABSL_FLAG(bool, allow_insecure_bind, DEFAULT(allow_insecure_bind),
          "Listen on an address that other machines can reach, although connections are neither "
          "encrypted nor "
          "authenticated. For networks that are trusted, or a proxy that does both.");
ABSL_FLAG(std::string, port_file, DEFAULT(port_file),
          "File to write once the models can be used: the lines grpc=PORT and metrics=PORT. It "
          "appears whole.");
ABSL_FLAG(Models, model, {},
          "A model to serve: NAME=PATH[,dtype=f32|bf16|int8|int4][,max_tokens=N], where PATH is a "
          "Hugging "
          "Face folder or a GGUF "
          "file. A path alone is named by its last part. Repeat the flag, or separate by ';', for "
          "several. dtype: bf16 "
          "takes half the memory, and half the time on CPUs that multiply it (the default there); "
          "f32 is exact; int8 and int4 take a quarter and an eighth, and less time for each token "
          "that is generated, and are less exact. A GGUF file that is quantized already is by "
          "default served as it is stored. "
          "max_tokens: a context shorter than the model's own.");
ABSL_FLAG(std::string, default_model, DEFAULT(default_model),
          "Name of the model that a request without one means. Without this flag such a request "
          "needs a model that is "
          "the only one able to serve it.");
ABSL_FLAG(int, threads, DEFAULT(engine.num_threads),
          "Threads that compute. 0: as many as the CPU affinity, the cgroup's quota and the "
          "physical cores allow; more "
          "are slower.");
ABSL_FLAG(
    bool, pin_threads, DEFAULT(engine.pin_threads),
    "Bind each computing thread to a core. Faster, unless other busy processes share these cores.");
ABSL_FLAG(int, tokenizer_threads, DEFAULT(engine.num_tokenizer_threads),
          "Threads that turn text into tokens, and as many others that turn images into patches, "
          "beside those that compute. More help with many long texts, and with photographs.");
ABSL_FLAG(int32_t, max_batch_tokens, DEFAULT(engine.max_batch_tokens),
          "Tokens computed in one step. More is throughput, fewer is latency; memory for "
          "activations grows with it.");
ABSL_FLAG(int32_t, max_running_sequences, DEFAULT(engine.max_running_sequences),
          "Sequences that generate at a time, for each model; others wait. More is throughput, "
          "fewer is speed for each.");
ABSL_FLAG(int32_t, max_beams, DEFAULT(engine.max_beams),
          "Beams of one beam search, at most. Each takes the place of a sequence "
          "(--max_running_sequences), and time and memory in each step.");
ABSL_FLAG(Bytes, kv_cache_bytes, Bytes{DEFAULT(engine.kv_cache_bytes)},
          "Memory for keys and values of past tokens, for each model that generates. It bounds how "
          "long sequences and "
          "how many at a time can be.");
ABSL_FLAG(std::string, packed_cache, "off",
          "Keep packed weights in a file, which the next start maps instead of packing them again: "
          "beside (the model), or a folder, written with a / in it, for models that lie where "
          "nothing can be written. Starts are faster, and servers on one machine share the memory; "
          "it takes as much room on disk as the weights in memory. A file that is for another "
          "checkpoint, machine or program is written anew. off keeps none.");
ABSL_FLAG(bool, strict_kernels, DEFAULT(engine.strict_kernels),
          "Refuse a model for which oneDNN has only slow reference code, instead of warning.");
ABSL_FLAG(int32_t, max_new_tokens, DEFAULT(engine.max_new_tokens),
          "The most tokens one request may generate.");
ABSL_FLAG(Bytes, max_attend_bytes, Bytes{DEFAULT(engine.max_attend_bytes)},
          "Results of one Attend on the caller's tensors.");
ABSL_FLAG(Bytes, max_map_bytes, Bytes{DEFAULT(engine.max_map_bytes)},
          "Attention maps of one Attend on a model. They are streamed, a few blocks in memory at a "
          "time; but a mean over layers and a rollout keep a map, which counts too.");
ABSL_FLAG(Bytes, max_encode_bytes, Bytes{DEFAULT(engine.max_encode_bytes)},
          "Vectors and hidden states of one Encode; they are in memory until the client has them.");
ABSL_FLAG(
    int64_t, max_image_pixels, DEFAULT(engine.max_image_pixels),
    "Pixels of one image; a larger one is refused by its header. Decoding takes up to 11 bytes "
    "a pixel for each "
    "tokenizer thread.");
ABSL_FLAG(int32_t, max_inputs, DEFAULT(limits.max_inputs), "Inputs of one request.");
ABSL_FLAG(Bytes, max_stream_backlog_bytes, Bytes{DEFAULT(limits.max_stream_backlog_bytes)},
          "What a generation may hold for a client that reads slowly, before it is cut off with "
          "RESOURCE_EXHAUSTED.");
ABSL_FLAG(int64_t, max_requests, DEFAULT(max_requests),
          "Requests in flight, running and waiting; beyond it they are refused with "
          "RESOURCE_EXHAUSTED and the time "
          "after which to retry. More absorbs bursts, fewer keeps waiting short.");
ABSL_FLAG(int64_t, max_queued_tokens, DEFAULT(max_queued_tokens),
          "Input tokens of all requests in flight, refused beyond it as for --max_requests.");
ABSL_FLAG(Bytes, max_request_bytes, Bytes{DEFAULT(max_request_bytes)},
          "Size of one request message.");
ABSL_FLAG(Bytes, memory_quota_bytes, Bytes{DEFAULT(memory_quota_bytes)},
          "Memory for messages: of gRPC's buffers, and as much again for requests in flight.");
ABSL_FLAG(int, max_concurrent_streams, DEFAULT(max_concurrent_streams),
          "Calls at a time on one connection; the client holds back more.");
ABSL_FLAG(absl::Duration, drain_settle, DEFAULT(drain_settle),
          "How long after SIGTERM requests are still accepted while health already says "
          "NOT_SERVING, so that load "
          "balancers look elsewhere first.");
ABSL_FLAG(absl::Duration, drain_timeout, DEFAULT(drain_timeout),
          "How long after that running requests may take to finish; then they end with "
          "UNAVAILABLE. Kubernetes kills "
          "after terminationGracePeriodSeconds, which should be more than both together.");
ABSL_FLAG(std::string, request_log, DEFAULT(request_log),
          "Where one line of JSON for each finished request goes: stdout, stderr, off, or a file "
          "to append to.");

namespace attendant::server {
namespace {

// Collects faults, one a line.
class Faults {
 public:
  void Add(absl::string_view flag, absl::string_view problem) {
    lines_.push_back(absl::StrCat("--", flag, " ", problem));
  }
  void AtLeast(absl::string_view flag, int64_t value, int64_t lowest) {
    if (value < lowest) Add(flag, absl::StrCat("is ", value, "; must be at least ", lowest));
  }
  void Range(absl::string_view flag, int64_t value, int64_t lowest, int64_t highest) {
    if (value < lowest || value > highest) {
      Add(flag, absl::StrCat("is ", value, "; must be in [", lowest, ", ", highest, "]"));
    }
  }
  void ByteRange(absl::string_view flag, int64_t value, int64_t lowest, int64_t highest) {
    if (value < lowest || value > highest) {
      Add(flag, absl::StrCat("is ", FormatBytes(value), "; must be in [", FormatBytes(lowest), ", ",
                             FormatBytes(highest), "]"));
    }
  }
  void NotNegative(absl::string_view flag, absl::Duration value) {
    if (value < absl::ZeroDuration() || value > absl::Hours(24)) {
      Add(flag, absl::StrCat("is ", absl::FormatDuration(value), "; must be in [0s, 24h]"));
    }
  }
  absl::Status ToStatus() const {
    return lines_.empty() ? absl::OkStatus()
                          : absl::InvalidArgumentError(absl::StrJoin(lines_, "\n"));
  }

 private:
  std::vector<std::string> lines_;
};

void CheckAddress(absl::string_view flag, const std::string& address, bool allow_insecure,
                  Faults& faults) {
  const absl::StatusOr<HostPort> parsed = ParseHostPort(address);
  if (!parsed.ok()) {
    faults.Add(flag, parsed.status().message());
  } else if (!allow_insecure && !IsLoopback(parsed->host)) {
    faults.Add(flag,
               absl::StrCat("is ", address,
                            ", which other machines can reach, without encryption; use a loopback "
                            "address, or --allow_insecure_bind if that is what you want"));
  }
}

bool IsModelName(absl::string_view name) {
  return !name.empty() && name.size() <= 128 &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '.' || c == '-' || c == '_' || c == '/';
         });
}

}  // namespace

void DescribeFlags() {
  absl::SetProgramUsageMessage(kUsage);
  absl::FlagsUsageConfig config;
  // Ours, and of the libraries' flags those for logs.
  config.contains_help_flags = config.contains_helpshort_flags = [](absl::string_view file) {
    return absl::EndsWith(file, "server/server_options.cc") || absl::EndsWith(file, "log/flags.cc");
  };
  config.version_string = [] { return std::string("attendant-server " ATTENDANT_VERSION "\n"); };
  config.normalize_filename = [](absl::string_view file) {
    const size_t position = file.rfind("server/server_options.cc");
    return std::string(position == absl::string_view::npos ? file : file.substr(position));
  };
  absl::SetFlagsUsageConfig(std::move(config));
}

absl::StatusOr<ServerOptions> ServerOptionsFromFlags() {
  ServerOptions options;
  options.listen = absl::GetFlag(FLAGS_listen);
  options.metrics_listen = absl::GetFlag(FLAGS_metrics_listen);
  options.allow_insecure_bind = absl::GetFlag(FLAGS_allow_insecure_bind);
  options.port_file = absl::GetFlag(FLAGS_port_file);
  options.models = absl::GetFlag(FLAGS_model).sources;
  options.default_model = absl::GetFlag(FLAGS_default_model);
  options.engine.num_threads = absl::GetFlag(FLAGS_threads);
  options.engine.pin_threads = absl::GetFlag(FLAGS_pin_threads);
  options.engine.num_tokenizer_threads = absl::GetFlag(FLAGS_tokenizer_threads);
  options.engine.max_batch_tokens = absl::GetFlag(FLAGS_max_batch_tokens);
  options.engine.max_running_sequences = absl::GetFlag(FLAGS_max_running_sequences);
  options.engine.max_beams = absl::GetFlag(FLAGS_max_beams);
  options.engine.kv_cache_bytes = absl::GetFlag(FLAGS_kv_cache_bytes).value;
  ASSIGN_OR_RETURN(options.engine.packed_cache,
                   ParsePackedCache(absl::GetFlag(FLAGS_packed_cache)));
  options.engine.strict_kernels = absl::GetFlag(FLAGS_strict_kernels);
  options.engine.max_new_tokens = absl::GetFlag(FLAGS_max_new_tokens);
  options.engine.max_attend_bytes = absl::GetFlag(FLAGS_max_attend_bytes).value;
  options.engine.max_map_bytes = absl::GetFlag(FLAGS_max_map_bytes).value;
  options.limits.max_new_tokens = absl::GetFlag(FLAGS_max_new_tokens);
  options.engine.max_encode_bytes = absl::GetFlag(FLAGS_max_encode_bytes).value;
  options.engine.max_image_pixels = absl::GetFlag(FLAGS_max_image_pixels);
  options.limits.max_inputs = absl::GetFlag(FLAGS_max_inputs);
  options.limits.max_stream_backlog_bytes = absl::GetFlag(FLAGS_max_stream_backlog_bytes).value;
  options.max_requests = absl::GetFlag(FLAGS_max_requests);
  options.max_queued_tokens = absl::GetFlag(FLAGS_max_queued_tokens);
  options.max_request_bytes = absl::GetFlag(FLAGS_max_request_bytes).value;
  options.memory_quota_bytes = absl::GetFlag(FLAGS_memory_quota_bytes).value;
  options.max_concurrent_streams = absl::GetFlag(FLAGS_max_concurrent_streams);
  options.drain_settle = absl::GetFlag(FLAGS_drain_settle);
  options.drain_timeout = absl::GetFlag(FLAGS_drain_timeout);
  options.request_log = absl::GetFlag(FLAGS_request_log);
  RETURN_IF_ERROR(Validate(options));
  return options;
}

absl::Status Validate(const ServerOptions& options) {
  constexpr int64_t kMaxMessageBytes = std::numeric_limits<int32_t>::max();
  constexpr int64_t kMaxBytes = int64_t{1} << 50;
  Faults faults;
  CheckAddress("listen", options.listen, options.allow_insecure_bind, faults);
  CheckAddress("metrics_listen", options.metrics_listen, options.allow_insecure_bind, faults);
  if (options.models.empty()) faults.Add("model", "is not set; there is nothing to serve");
  std::set<std::string> names;
  for (const engine::ModelSource& model : options.models) {
    if (!names.insert(model.name).second) {
      faults.Add("model", absl::StrCat("has the name ", model.name,
                                       " twice; choose another with NAME=PATH"));
    }
  }
  if (!options.default_model.empty() && !names.contains(options.default_model)) {
    faults.Add("default_model",
               absl::StrCat("is ", options.default_model,
                            ", which no --model has as its name: ", absl::StrJoin(names, ", ")));
  }
  faults.Range("threads", options.engine.num_threads, 0, 1024);
  faults.Range("tokenizer_threads", options.engine.num_tokenizer_threads, 1, 64);
  faults.Range("max_batch_tokens", options.engine.max_batch_tokens, 16, 1 << 20);
  faults.Range("max_running_sequences", options.engine.max_running_sequences, 1, 4096);
  faults.Range("max_beams", options.engine.max_beams, 1, 64);
  faults.ByteRange("kv_cache_bytes", options.engine.kv_cache_bytes, 1 << 16, kMaxBytes);
  faults.Range("max_new_tokens", options.engine.max_new_tokens, 1, 1 << 24);
  faults.ByteRange("max_attend_bytes", options.engine.max_attend_bytes, 1, kMaxBytes);
  faults.ByteRange("max_map_bytes", options.engine.max_map_bytes, 1, kMaxBytes);
  faults.ByteRange("max_encode_bytes", options.engine.max_encode_bytes, 1, int64_t{1} << 30);
  faults.Range("max_image_pixels", options.engine.max_image_pixels, 1, int64_t{1} << 32);
  faults.Range("max_inputs", options.limits.max_inputs, 1, 1 << 20);
  faults.ByteRange("max_stream_backlog_bytes", options.limits.max_stream_backlog_bytes, 1 << 10,
                   int64_t{1} << 30);
  faults.AtLeast("max_requests", options.max_requests, 1);
  faults.AtLeast("max_queued_tokens", options.max_queued_tokens, 1);
  faults.ByteRange("max_request_bytes", options.max_request_bytes, 1 << 10, kMaxMessageBytes);
  faults.ByteRange("memory_quota_bytes", options.memory_quota_bytes, options.max_request_bytes,
                   kMaxBytes);
  faults.Range("max_concurrent_streams", options.max_concurrent_streams, 1, 1 << 20);
  faults.NotNegative("drain_settle", options.drain_settle);
  faults.NotNegative("drain_timeout", options.drain_timeout);
  return faults.ToStatus();
}

absl::StatusOr<engine::ModelSource> ParseModelSource(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ',');
  engine::ModelSource source;
  const size_t equals = parts[0].find('=');
  if (equals != absl::string_view::npos && parts[0].substr(0, equals).find('/') != 0) {
    source.name = std::string(parts[0].substr(0, equals));
    source.path = std::string(parts[0].substr(equals + 1));
  } else {
    source.path = std::string(parts[0]);
    absl::string_view path = absl::StripSuffix(parts[0], "/");
    source.name = std::string(absl::StripSuffix(path.substr(path.rfind('/') + 1), ".gguf"));
  }
  if (source.path.empty())
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" has no path"));
  if (!IsModelName(source.name)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the name \"", source.name, "\" is not 1 to 128 letters, digits, '.', '-', '_' and '/'"));
  }
  for (size_t i = 1; i < parts.size(); ++i) {
    const std::pair<absl::string_view, absl::string_view> option =
        absl::StrSplit(parts[i], absl::MaxSplits('=', 1));
    int32_t number;
    const auto* const type =
        std::find_if(std::begin(kWeightTypes), std::end(kWeightTypes),
                     [&](const auto& known) { return known.first == option.second; });
    if (option.first == "dtype" && type != std::end(kWeightTypes)) {
      source.dtype = type->second;
    } else if (option.first == "max_tokens" && absl::SimpleAtoi(option.second, &number) &&
               number >= 1) {
      source.max_tokens = number;
    } else {
      return absl::InvalidArgumentError(absl::StrCat(
          "\"", parts[i],
          "\" is not dtype=f32, bf16, int8 or int4, or max_tokens=N with N at least 1"));
    }
  }
  return source;
}

absl::StatusOr<std::optional<std::string>> ParsePackedCache(absl::string_view text) {
  if (text == "off") return std::nullopt;
  if (text == "beside") return "";
  if (absl::StrContains(text, '/')) return std::string(text);
  return absl::InvalidArgumentError(absl::StrCat(
      "--packed_cache is ", text, "; expected off, beside, or a folder, with a / in it"));
}

absl::StatusOr<int64_t> ParseBytes(absl::string_view text) {
  absl::string_view number = absl::StripAsciiWhitespace(text);
  int64_t unit = 1;
  for (const Unit& candidate : kUnits) {
    if (absl::ConsumeSuffix(&number, candidate.suffix)) {
      unit = candidate.bytes;
      break;
    }
  }
  double value;
  if (!absl::SimpleAtod(number, &value) || !std::isfinite(value) || value < 0 ||
      value * unit > 9e18 || value * unit != std::floor(value * unit)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not a number of bytes, such as 65536, 512MiB or 1.5GiB"));
  }
  return static_cast<int64_t>(value * unit);
}

std::string FormatBytes(int64_t bytes) {
  for (const Unit& unit : kUnits) {
    if (bytes >= unit.bytes && bytes % unit.bytes == 0)
      return absl::StrCat(bytes / unit.bytes, unit.suffix);
  }
  return absl::StrCat(bytes);
}

absl::StatusOr<HostPort> ParseHostPort(absl::string_view address) {
  const size_t colon = address.rfind(':');
  HostPort result;
  if (colon == absl::string_view::npos || colon == 0 ||
      !absl::SimpleAtoi(address.substr(colon + 1), &result.port) || result.port < 0 ||
      result.port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("is \"", address, "\"; must be HOST:PORT, such as 127.0.0.1:50051"));
  }
  result.host = std::string(address.substr(0, colon));
  if (absl::StrContains(result.host, ':') &&
      (result.host.front() != '[' || result.host.back() != ']')) {
    return absl::InvalidArgumentError(
        absl::StrCat("is \"", address, "\"; an IPv6 host is in brackets: [::1]:50051"));
  }
  return result;
}

bool IsLoopback(absl::string_view host) {
  return host == "localhost" || host == "[::1]" ||
         (absl::StartsWith(host, "127.") && absl::StrContains(host, '.') &&
          std::all_of(host.begin(), host.end(),
                      [](unsigned char c) { return absl::ascii_isdigit(c) || c == '.'; }));
}

}  // namespace attendant::server
