#include "server/metrics/metrics_endpoint.h"

#include <atomic>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "civetweb.h"

namespace attendant::server {
namespace {

std::function<std::pair<int, std::string>()> Probe(std::function<absl::Status()> check) {
  return [check = std::move(check)]() -> std::pair<int, std::string> {
    const absl::Status status = check();
    if (status.ok()) return {200, "ok\n"};
    return {503, absl::StrCat(status.message(), "\n")};
  };
}

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsEndpoint>> MetricsEndpoint::Start(const std::string& address,
                                                                        MetricsPages pages) {
  std::unique_ptr<MetricsEndpoint> endpoint(new MetricsEndpoint());
  endpoint->metrics_ = {"text/plain; version=0.0.4; charset=utf-8",
                        [metrics = std::move(pages.metrics)] { return std::pair(200, metrics()); }};
  endpoint->live_ = {"text/plain; charset=utf-8", Probe(std::move(pages.live))};
  endpoint->ready_ = {"text/plain; charset=utf-8", Probe(std::move(pages.ready))};

  mg_init_library(0);
  // A client that sends or reads slowly holds one thread for at most request_timeout_ms.
  const char* options[] = {"listening_ports",
                           address.c_str(),
                           "num_threads",
                           "4",
                           "request_timeout_ms",
                           "5000",
                           "enable_keep_alive",
                           "no",
                           nullptr};
  mg_callbacks callbacks = {};
  mg_init_data init = {
      .callbacks = &callbacks, .user_data = nullptr, .configuration_options = options};
  char text[256] = "";
  mg_error_data error = {};
  error.text = text;
  error.text_buffer_size = sizeof(text);
  endpoint->context_ = mg_start2(&init, &error);
  if (endpoint->context_ == nullptr) {
    mg_exit_library();
    return absl::UnavailableError(
        absl::StrCat("cannot listen for metrics on ", address, ": ", text));
  }
  mg_server_port port = {};
  mg_get_server_ports(endpoint->context_, 1, &port);
  endpoint->port_ = port.port;
  endpoint->host_ = address.substr(0, address.rfind(':'));
  mg_set_request_handler(endpoint->context_, "/metrics$", &HandleRequest, &endpoint->metrics_);
  mg_set_request_handler(endpoint->context_, "/livez$", &HandleRequest, &endpoint->live_);
  mg_set_request_handler(endpoint->context_, "/readyz$", &HandleRequest, &endpoint->ready_);
  return endpoint;
}

MetricsEndpoint::~MetricsEndpoint() {
  if (context_ == nullptr) return;
  // civetweb looks every two seconds whether it is to stop, or when somebody connects.
  std::atomic<bool> stopped = false;
  std::thread stop([&] {
    mg_stop(context_);
    stopped = true;
  });
  while (!stopped) {
    char error[64];
    if (mg_connection* connection =
            mg_connect_client(host_.c_str(), port_, /*use_ssl=*/0, error, sizeof(error))) {
      mg_close_connection(connection);
    }
    absl::SleepFor(absl::Milliseconds(5));
  }
  stop.join();
  mg_exit_library();
}

int MetricsEndpoint::HandleRequest(mg_connection* connection, void* data) {
  const Page& page = *static_cast<const Page*>(data);
  const absl::string_view method = mg_get_request_info(connection)->request_method;
  if (method != "GET" && method != "HEAD") {
    mg_send_http_error(connection, 405, "only GET and HEAD are answered here");
    return 405;
  }
  const auto [status, body] = page.content();
  mg_response_header_start(connection, status);
  mg_response_header_add(connection, "Content-Type", page.content_type, -1);
  mg_response_header_add(connection, "Content-Length", absl::StrCat(body.size()).c_str(), -1);
  mg_response_header_add(connection, "Connection", "close", -1);
  mg_response_header_send(connection);
  if (method == "GET") mg_write(connection, body.data(), body.size());
  return status;
}

}  // namespace attendant::server
