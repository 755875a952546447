#ifndef ATTENDANT_CLIENT_CLIENT_H_
#define ATTENDANT_CLIENT_CLIENT_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "attendant/v1/inference.pb.h"
#include "attendant/v1/model.pb.h"
#include "client/status.h"
#include "client/tensor.h"

namespace attendant::client {

// Files hold PEM. Each is read once, when connecting.
struct TlsOptions {
  // Certificates of the authorities to trust. Empty: those of the system.
  std::string root_certificates_file;
  // The client's own certificate and its key, for mutual TLS. Both or neither.
  std::string certificate_file;
  std::string private_key_file;
  // The name to expect in the server's certificate, where it is not the host of the address.
  std::string server_name;
};

struct ClientOptions {
  // The longest a call takes, streams included; then it ends with DEADLINE_EXCEEDED, and the
  // server's work stops. InfiniteDuration() for no limit.
  absl::Duration deadline = absl::Minutes(5);
  // Nothing: plain text, which suits loopback and private networks.
  std::optional<TlsOptions> tls;
  // Sent with each call as "authorization: Bearer ...". Empty: none. Only over TLS.
  std::string bearer_token;
  // The largest message that is taken from the server. gRPC's own default, 4 MiB, holds 2,700
  // vectors of 384 values.
  int max_receive_bytes = 256 << 20;
};

// The attention of one layer inside a model; after a reduction over layers, of all of them.
struct AttentionMap {
  v1::AttentionKind kind = v1::ATTENTION_KIND_UNSPECIFIED;
  // From 0; after a reduction over layers, the last of them.
  int32_t layer = 0;
  // The heads that the first axis of `weights` has, from 0. Empty: it has no such axis, after a
  // mean over heads.
  std::vector<int32_t> heads;
  // [heads, queries, keys] or [queries, keys] of the ranges that were asked for; for
  // ATTENTION_REDUCTION_TOP_K, the last axis has the largest weights of each query.
  FloatTensor weights;
  // For ATTENTION_REDUCTION_TOP_K, the key of each weight: as many as weights.values, and counted
  // from the first key of the input. Else empty.
  std::vector<int32_t> keys;
};

// What a server answered to Attend, put together again. A tensor that was not asked for is empty.
struct Attention {
  v1::AttendStarted started;
  // Of the sources `tensors` and `layer`.
  FloatTensor output;
  FloatTensor weights;
  FloatTensor lse;
  // Of the source `model`, in the order of the layers.
  std::vector<AttentionMap> maps;
  v1::AttendFinished finished;
};

// Calls an Attendant server. Requests and responses are the messages of the contract
// (proto/attendant/v1), which say what each field means.
//
// A failed call returns the server's code and message; the details that came with them are
// payloads, which DetailLines() and Describe() put into words (client/status.h). UNAVAILABLE if no
// server answers at the address.
//
// Thread-safe: one Client serves any number of threads over one connection. Calls block; callbacks
// run on the calling thread, and may use the client.
class Client {
 public:
  // `address` is a gRPC target: "localhost:50051", "dns:///name:50051", "unix:/run/attendant.sock".
  // The connection is made by the first call, and made again when it breaks; only a file in
  // `options` that cannot be read fails here.
  static absl::StatusOr<Client> Connect(const std::string& address,
                                        const ClientOptions& options = {});

  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  absl::StatusOr<v1::EncodeResponse> Encode(const v1::EncodeRequest& request) const;

  // The vectors of `texts`, [texts.size(), dim], with the defaults of `model`; an empty name is the
  // server's default. Fails if any of the texts does.
  absl::StatusOr<FloatTensor> Encode(const std::vector<std::string>& texts,
                                     absl::string_view model = "") const;

  // Calls `on_message` with each message as it comes. When it returns false the call is cancelled,
  // and so is its result. An error after the first message leaves what was received valid.
  absl::Status Generate(const v1::GenerateRequest& request,
                        absl::FunctionRef<bool(const v1::GenerateResponse&)> on_message) const;

  // The whole text that follows `prompt`, with the defaults of `model`.
  absl::StatusOr<std::string> Generate(absl::string_view prompt,
                                       absl::string_view model = "") const;

  // Calls `on_message` with each message as it comes, as Generate does.
  absl::Status Attend(const v1::AttendRequest& request,
                      absl::FunctionRef<bool(const v1::AttendResponse&)> on_message) const;

  // The same, put together in memory, which takes 4 bytes for each weight: 144 MiB for all maps of
  // 12 layers of 12 heads at 512 tokens. INTERNAL if the server's blocks do not fit together.
  absl::StatusOr<Attention> Attend(const v1::AttendRequest& request) const;

  // The heads that checkpoints carry beside their vectors. FAILED_PRECONDITION, which says what the
  // model can do, if it lacks the head. One bad input fails alone: see its `status`.
  absl::StatusOr<v1::FillMaskResponse> FillMask(const v1::FillMaskRequest& request) const;
  absl::StatusOr<v1::AnswerResponse> Answer(const v1::AnswerRequest& request) const;
  absl::StatusOr<v1::ClassifyResponse> Classify(const v1::ClassifyRequest& request) const;
  absl::StatusOr<v1::RankResponse> Rank(const v1::RankRequest& request) const;

  absl::StatusOr<v1::ListModelsResponse> ListModels() const;

  // NOT_FOUND if no model has the name; an empty one is the server's default.
  absl::StatusOr<v1::Model> GetModel(absl::string_view name) const;

  absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request) const;
  absl::StatusOr<v1::DetokenizeResponse> Detokenize(const v1::DetokenizeRequest& request) const;

  // OK if `service` ("attendant.v1.InferenceService"; empty: the server as a whole) serves.
  // UNAVAILABLE if it answers that it does not, because it loads or drains; NOT_FOUND if the server
  // has no such service.
  absl::Status Health(const std::string& service = "") const;

 private:
  struct Connection;
  explicit Client(std::unique_ptr<Connection> connection);

  std::unique_ptr<Connection> connection_;
};

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_CLIENT_H_
