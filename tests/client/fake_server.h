#ifndef ATTENDANT_TESTS_CLIENT_FAKE_SERVER_H_
#define ATTENDANT_TESTS_CLIENT_FAKE_SERVER_H_

#include <atomic>
#include <memory>
#include <string>

#include "attendant/v1/inference.grpc.pb.h"
#include "attendant/v1/model.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/grpcpp.h"

namespace attendant::client {

// A server without an engine, on a free port of loopback, whose answers are fixed by these rules:
//
//   Encode      a text's vector is [number of its bytes, number of its vowels, 1], an image's too;
//               the text "bad" fails alone; the model "none" is NOT_FOUND; no inputs at all are
//               INVALID_ARGUMENT; all with google.rpc details
//   Generate    the words of the prompt, one chunk each. The prompt "overloaded" is
//               RESOURCE_EXHAUSTED, "break" fails with INTERNAL after its first chunk, "hang" sends
//               one chunk and then waits until it is cancelled; "busy" is RESOURCE_EXHAUSTED twice;
//               one that begins with "late" waits until one that begins with "early" is answered;
//               "bad." is INVALID_ARGUMENT, and the model "none" NOT_FOUND. Each word attends to
//               all bytes of the prompt alike
//   FillMask    for each [MASK], top_k candidates "word0", "word1", .. of 1/2, 1/4, ..; the targets
//               in place of these words, if there are any
//   Answer      the first word of the context, and then, if it is allowed, no answer
//   Classify    the labels "texts" (0.75) and "images" (0.25), the other way round for an image;
//               with an aggregation, each word labelled "word"
//   Rank        the shortest document is the best: 1 / bytes
//               In these four the input "bad" fails alone.
//   Attend      `tensors`: the query as output, in blocks of one head and one row, the last row
//               first; `layer`: twice the query
//               `model`: 3 layers of 2 heads on the words of the text, whose last layer and last
//               row come first; with a target, its words are the queries; an image has 2 x 3
//               patches after one other token; a mean of heads is head 0; top_k are the last keys
//   Tokenize    one token for each byte
//   models      "letters" and "words"
//   health      SERVING; NOT_SERVING for the service "draining"; else NOT_FOUND
class FakeServer {
 public:
  FakeServer();
  ~FakeServer();

  // "127.0.0.1:PORT".
  const std::string& address() const { return address_; }

  // Whether the last call that was cancelled, or ran past its deadline, was seen to be.
  bool saw_cancellation() const { return saw_cancellation_; }

  // What the last call of each kind asked for.
  const v1::GenerateRequest& last_generate() const { return last_generate_; }
  const v1::EncodeRequest& last_encode() const { return last_encode_; }
  const v1::FillMaskRequest& last_fill_mask() const { return last_fill_mask_; }
  const v1::AnswerRequest& last_answer() const { return last_answer_; }
  const v1::ClassifyRequest& last_classify() const { return last_classify_; }
  const v1::RankRequest& last_rank() const { return last_rank_; }
  const v1::ModelAttention& last_attend() const { return last_attend_; }

 private:
  class Inference;
  class Models;
  class Health;

  std::atomic<bool> saw_cancellation_ = false;
  v1::GenerateRequest last_generate_;
  v1::EncodeRequest last_encode_;
  v1::FillMaskRequest last_fill_mask_;
  v1::AnswerRequest last_answer_;
  v1::ClassifyRequest last_classify_;
  v1::RankRequest last_rank_;
  v1::ModelAttention last_attend_;
  std::unique_ptr<Inference> inference_;
  std::unique_ptr<Models> models_;
  std::unique_ptr<Health> health_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

}  // namespace attendant::client

#endif  // ATTENDANT_TESTS_CLIENT_FAKE_SERVER_H_
