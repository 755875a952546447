// The first call of the README: two sentences compared, and a question answered.

#include <cstdint>
#include <iostream>
#include <numeric>

#include "client/client.h"

using attendant::client::Client;

int main() {
  const auto client = Client::Connect("localhost:50051");
  if (!client.ok()) return std::cerr << client.status() << '\n', 1;

  const auto vectors =
      client->Encode({"A man is eating food.", "A man is eating a piece of bread."});
  if (!vectors.ok()) return std::cerr << vectors.status() << '\n', 1;
  const int64_t dim = vectors->shape[1];
  const float* v = vectors->values.data();
  std::cout << "similarity " << std::inner_product(v, v + dim, v + dim, 0.0f) << '\n';

  attendant::v1::GenerateRequest request;
  request.set_text(
      "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n");
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_new_tokens(24);
  const absl::Status status = client->Generate(request, [](const auto& message) {
    std::cout << message.chunk().text() << std::flush;
    return true;
  });
  std::cout << '\n';
  if (!status.ok()) return std::cerr << status << '\n', 1;
}
