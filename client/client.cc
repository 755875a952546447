#include "client/client.h"

#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "attendant/v1/inference.grpc.pb.h"
#include "attendant/v1/model.grpc.pb.h"
#include "client/attention_blocks.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/grpcpp.h"

namespace attendant::client {

struct Client::Connection {
  Connection(const std::shared_ptr<grpc::Channel>& channel, absl::Duration deadline)
      : deadline(deadline),
        inference(v1::InferenceService::NewStub(channel)),
        models(v1::ModelService::NewStub(channel)),
        health(grpc::health::v1::Health::NewStub(channel)) {}

  absl::Duration deadline;
  std::unique_ptr<v1::InferenceService::Stub> inference;
  std::unique_ptr<v1::ModelService::Stub> models;
  std::unique_ptr<grpc::health::v1::Health::Stub> health;
};

namespace {

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  return text;
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeTlsCredentials(
    const TlsOptions& options) {
  if (options.certificate_file.empty() != options.private_key_file.empty()) {
    return absl::InvalidArgumentError(
        "certificate_file and private_key_file are set together or not at all");
  }
  grpc::SslCredentialsOptions pem;
  for (const auto& [path, text] : {std::pair(options.root_certificates_file, &pem.pem_root_certs),
                                   std::pair(options.certificate_file, &pem.pem_cert_chain),
                                   std::pair(options.private_key_file, &pem.pem_private_key)}) {
    if (path.empty()) continue;
    absl::StatusOr<std::string> content = ReadFile(path);
    if (!content.ok()) return content.status();
    *text = *std::move(content);
  }
  return grpc::SslCredentials(pem);
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(
    const ClientOptions& options) {
  if (!options.tls) {
    if (options.bearer_token.empty()) return grpc::InsecureChannelCredentials();
    return absl::InvalidArgumentError("a bearer token is sent over TLS only: set `tls`");
  }
  auto credentials = MakeTlsCredentials(*options.tls);
  if (!credentials.ok() || options.bearer_token.empty()) return credentials;
  return grpc::CompositeChannelCredentials(*credentials,
                                           grpc::AccessTokenCredentials(options.bearer_token));
}

void SetDeadline(grpc::ClientContext& context, absl::Duration deadline) {
  if (deadline < absl::InfiniteDuration())
    context.set_deadline(absl::ToChronoTime(absl::Now() + deadline));
}

// Makes a call with one answer: `method` is a member of `stub`.
template <typename Stub, typename Request, typename Response>
absl::StatusOr<Response> Call(Stub& stub,
                              grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                           Response*),
                              const Request& request, absl::Duration deadline) {
  grpc::ClientContext context;
  SetDeadline(context, deadline);
  Response response;
  const grpc::Status status = (stub.*method)(&context, request, &response);
  if (!status.ok()) return FromGrpcStatus(status);
  return response;
}

// Makes a call whose answer is a stream.
template <typename Stub, typename Request, typename Response>
absl::Status CallStreaming(Stub& stub,
                           std::unique_ptr<grpc::ClientReader<Response>> (Stub::*method)(
                               grpc::ClientContext*, const Request&),
                           const Request& request, absl::Duration deadline,
                           absl::FunctionRef<bool(const Response&)> on_message) {
  grpc::ClientContext context;
  SetDeadline(context, deadline);
  const auto reader = (stub.*method)(&context, request);
  Response response;
  while (reader->Read(&response)) {
    if (on_message(response)) continue;
    context.TryCancel();
    while (reader->Read(&response)) {
    }
    reader->Finish();
    return absl::CancelledError("stopped by the caller");
  }
  return FromGrpcStatus(reader->Finish());
}

}  // namespace

Client::Client(std::unique_ptr<Connection> connection) : connection_(std::move(connection)) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

absl::StatusOr<Client> Client::Connect(const std::string& address, const ClientOptions& options) {
  auto credentials = MakeCredentials(options);
  if (!credentials.ok()) return credentials.status();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(options.max_receive_bytes);
  if (options.tls && !options.tls->server_name.empty()) {
    arguments.SetSslTargetNameOverride(options.tls->server_name);
  }
  const auto channel = grpc::CreateCustomChannel(address, *credentials, arguments);
  return Client(std::make_unique<Connection>(channel, options.deadline));
}

absl::StatusOr<v1::EncodeResponse> Client::Encode(const v1::EncodeRequest& request) const {
  return Call(*connection_->inference, &v1::InferenceService::Stub::Encode, request,
              connection_->deadline);
}

absl::StatusOr<FloatTensor> Client::Encode(const std::vector<std::string>& texts,
                                           absl::string_view model) const {
  v1::EncodeRequest request;
  request.set_model(std::string(model));
  for (const std::string& text : texts) request.add_inputs()->set_text(text);
  const auto response = Encode(request);
  if (!response.ok()) return response.status();
  for (int i = 0; i < response->inputs_size(); ++i) {
    const google::rpc::Status& status = response->inputs(i).status();
    if (status.code() == 0) continue;
    return absl::Status(static_cast<absl::StatusCode>(status.code()),
                        absl::StrCat("text ", i, ": ", status.message()));
  }
  return FromMessage(response->embeddings());
}

absl::Status Client::Generate(
    const v1::GenerateRequest& request,
    absl::FunctionRef<bool(const v1::GenerateResponse&)> on_message) const {
  return CallStreaming(*connection_->inference, &v1::InferenceService::Stub::Generate, request,
                       connection_->deadline, on_message);
}

absl::StatusOr<std::string> Client::Generate(absl::string_view prompt,
                                             absl::string_view model) const {
  v1::GenerateRequest request;
  request.set_model(std::string(model));
  request.set_text(std::string(prompt));
  std::string text;
  absl::Status status = Generate(request, [&text](const v1::GenerateResponse& response) {
    if (response.chunk().sequence() == 0) text += response.chunk().text();
    return true;
  });
  if (!status.ok()) return status;
  return text;
}

absl::Status Client::Attend(const v1::AttendRequest& request,
                            absl::FunctionRef<bool(const v1::AttendResponse&)> on_message) const {
  return CallStreaming(*connection_->inference, &v1::InferenceService::Stub::Attend, request,
                       connection_->deadline, on_message);
}

absl::StatusOr<Attention> Client::Attend(const v1::AttendRequest& request) const {
  AttentionBlocks blocks(request);
  absl::Status fit;
  absl::Status status = Attend(request, [&](const v1::AttendResponse& response) {
    fit = blocks.Add(response);
    return fit.ok();
  });
  if (!fit.ok()) return fit;
  if (!status.ok()) return status;
  return std::move(blocks).Finish();
}

absl::StatusOr<v1::FillMaskResponse> Client::FillMask(const v1::FillMaskRequest& request) const {
  return Call(*connection_->inference, &v1::InferenceService::Stub::FillMask, request,
              connection_->deadline);
}

absl::StatusOr<v1::AnswerResponse> Client::Answer(const v1::AnswerRequest& request) const {
  return Call(*connection_->inference, &v1::InferenceService::Stub::Answer, request,
              connection_->deadline);
}

absl::StatusOr<v1::ClassifyResponse> Client::Classify(const v1::ClassifyRequest& request) const {
  return Call(*connection_->inference, &v1::InferenceService::Stub::Classify, request,
              connection_->deadline);
}

absl::StatusOr<v1::RankResponse> Client::Rank(const v1::RankRequest& request) const {
  return Call(*connection_->inference, &v1::InferenceService::Stub::Rank, request,
              connection_->deadline);
}

absl::StatusOr<v1::ListModelsResponse> Client::ListModels() const {
  return Call(*connection_->models, &v1::ModelService::Stub::ListModels, v1::ListModelsRequest(),
              connection_->deadline);
}

absl::StatusOr<v1::Model> Client::GetModel(absl::string_view name) const {
  v1::GetModelRequest request;
  request.set_model(std::string(name));
  auto response =
      Call(*connection_->models, &v1::ModelService::Stub::GetModel, request, connection_->deadline);
  if (!response.ok()) return response.status();
  return std::move(*response->mutable_model());
}

absl::StatusOr<v1::TokenizeResponse> Client::Tokenize(const v1::TokenizeRequest& request) const {
  return Call(*connection_->models, &v1::ModelService::Stub::Tokenize, request,
              connection_->deadline);
}

absl::StatusOr<v1::DetokenizeResponse> Client::Detokenize(
    const v1::DetokenizeRequest& request) const {
  return Call(*connection_->models, &v1::ModelService::Stub::Detokenize, request,
              connection_->deadline);
}

absl::Status Client::Health(const std::string& service) const {
  using grpc::health::v1::HealthCheckResponse;
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  const auto response = Call(*connection_->health, &grpc::health::v1::Health::Stub::Check, request,
                             connection_->deadline);
  if (!response.ok()) return response.status();
  if (response->status() == HealthCheckResponse::SERVING) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(
      service.empty() ? "the server" : service, " is ",
      HealthCheckResponse::ServingStatus_Name(response->status()), ": it loads, or it drains"));
}

}  // namespace attendant::client
