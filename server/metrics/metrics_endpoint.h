#ifndef ATTENDANT_SERVER_METRICS_METRICS_ENDPOINT_H_
#define ATTENDANT_SERVER_METRICS_METRICS_ENDPOINT_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

struct mg_context;
struct mg_connection;

namespace attendant::server {

// What is asked of the server over plain HTTP, by Prometheus and by Kubernetes' probes. Each is
// called on one of the endpoint's own threads, several at a time, and must not wait for the engine.
struct MetricsPages {
  std::function<std::string()> metrics;  // GET /metrics
  std::function<absl::Status()> live;    // GET /livez: 200 if OK, else 503 with the message
  std::function<absl::Status()> ready;   // GET /readyz: the same
};

// A small HTTP server, on threads of its own.
class MetricsEndpoint {
 public:
  // `address` is "HOST:PORT", with an IPv6 host in brackets; port 0 takes a free one.
  static absl::StatusOr<std::unique_ptr<MetricsEndpoint>> Start(const std::string& address,
                                                                MetricsPages pages);

  ~MetricsEndpoint();

  int port() const { return port_; }

 private:
  MetricsEndpoint() = default;

  // One page; answers GET and HEAD.
  struct Page {
    const char* content_type;
    std::function<std::pair<int, std::string>()> content;  // HTTP status and body
  };
  static int HandleRequest(mg_connection* connection, void* page);

  Page metrics_, live_, ready_;
  mg_context* context_ = nullptr;
  std::string host_;
  int port_ = 0;
};

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_METRICS_METRICS_ENDPOINT_H_
