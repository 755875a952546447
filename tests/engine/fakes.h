#ifndef ATTENDANT_TESTS_ENGINE_FAKES_H_
#define ATTENDANT_TESTS_ENGINE_FAKES_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "engine/loaded_model.h"
#include "engine/network.h"
#include "engine/request.h"
#include "engine/tokenizer/tokenizer.h"

namespace attendant::engine {

// Bytes are tokens 0 to 255; kBos and kEos are special; behind them come pieces of text. A text is
// its bytes, in kBos and kEos if special tokens are added and the tokenizer has a post-processor.
class FakeTokenizer : public Tokenizer {
 public:
  static constexpr int32_t kBos = 256;
  static constexpr int32_t kEos = 257;
  static constexpr int32_t kFirstPiece = 258;

  explicit FakeTokenizer(std::vector<std::string> pieces = {}, bool adds_special_tokens = false)
      : pieces_(std::move(pieces)), adds_special_tokens_(adds_special_tokens) {}

  absl::string_view kind() const override { return "Fake"; }
  int32_t vocab_size() const override { return kFirstPiece + static_cast<int32_t>(pieces_.size()); }
  absl::StatusOr<Encoding> Encode(absl::string_view text, bool add_special_tokens) const override;
  absl::StatusOr<Encoding> EncodePair(absl::string_view text, absl::string_view text_pair,
                                      bool add_special_tokens) const override;
  int32_t num_special_tokens(bool is_pair) const override {
    return adds_special_tokens_ ? (is_pair ? 3 : 2) : 0;
  }
  absl::StatusOr<std::string> Decode(absl::Span<const int32_t> ids,
                                     bool skip_special_tokens) const override;
  std::unique_ptr<Decoding> StartDecoding(bool skip_special_tokens) const override;
  std::optional<std::string> IdToToken(int32_t id) const override;
  std::optional<int32_t> TokenToId(absl::string_view token) const override;
  bool IsSpecial(int32_t id) const override { return id == kBos || id == kEos; }

 private:
  const std::vector<std::string> pieces_;
  const bool adds_special_tokens_;
};

// Takes languages: "en" and "fr", which are the first two pieces and special. A source has its
// language's token in front, and the target's too if the decoder is told by the source.
class FakeTranslatorTokenizer : public FakeTokenizer {
 public:
  static constexpr int32_t kEnglish = kFirstPiece;
  static constexpr int32_t kFrench = kFirstPiece + 1;

  explicit FakeTranslatorTokenizer(Languages::Target target);

  const Languages* languages() const override { return &languages_; }
  absl::StatusOr<Encoding> EncodeSource(absl::string_view text, absl::string_view source_language,
                                        absl::string_view target_language) const override;
  bool IsSpecial(int32_t id) const override {
    return FakeTokenizer::IsSpecial(id) || id == kEnglish || id == kFrench;
  }

 private:
  Languages languages_;
};

// A decoder whose next token is a function of all tokens before it, those of the source first. It
// remembers tokens by cache slot alone, so that a block that is not the sequence's own changes what
// it says.
class FakeDecoder : public Network {
 public:
  using Next = std::function<int32_t(absl::Span<const int32_t> prefix)>;

  FakeDecoder(int32_t vocab_size, int32_t block_size, Next next)
      : vocab_size_(vocab_size), block_size_(block_size), next_(std::move(next)) {}

  int32_t vocab_size() const override { return vocab_size_; }
  int32_t hidden_size() const override { return 1; }
  int32_t num_layers() const override { return 1; }
  ConstMatrix Forward(const Batch& batch, HiddenStateObserver observer) override;
  void EncodeSources(const Batch& sources) override;
  // The next token has 5, every other a value below 1 that depends on the prefix.
  Matrix Logits(ConstMatrix hidden, absl::Span<const int32_t> rows) override;
  void HeadLogits(HeadKind, ConstMatrix, absl::Span<const int32_t>, Head::LogitsVisitor) override {}

  // The continuation of `prompt`, as a sequence that runs alone has it.
  std::vector<int32_t> Continue(std::vector<int32_t> prompt, int num_tokens) const;

  int64_t num_computed_tokens() const { return num_computed_tokens_; }
  int64_t num_encoded_tokens() const { return num_encoded_tokens_; }  // of sources
  int32_t max_rows_asked() const { return max_rows_asked_; }

  // What the next Forward does first: throw, for one.
  std::function<void()> before_forward;
  // Changes the logits of a prefix.
  std::function<void(absl::Span<const int32_t> prefix, absl::Span<float> logits)> change_logits;

 private:
  int32_t& Slot(absl::Span<const int32_t> blocks, int32_t token);

  const int32_t vocab_size_;
  const int32_t block_size_;
  const Next next_;
  std::vector<int32_t> slots_;
  std::vector<std::vector<int32_t>> prefixes_;  // of each row
  std::vector<float> hidden_;
  std::vector<float> logits_;
  int64_t num_computed_tokens_ = 0;
  int64_t num_encoded_tokens_ = 0;
  int32_t max_rows_asked_ = 0;
};

// The prefix's length and contents, mixed: a text that any mistake changes.
int32_t HashNext(absl::Span<const int32_t> prefix, int32_t vocab_size);

// An encoder of four values a token: its id, position, type and the length of its text. Layer l
// multiplies by l + 1.
class FakeEncoder : public Network {
 public:
  int32_t vocab_size() const override { return 1000; }
  int32_t hidden_size() const override { return 4; }
  int32_t num_layers() const override { return 2; }
  ConstMatrix Forward(const Batch& batch, HiddenStateObserver observer) override;
  Matrix Logits(ConstMatrix, absl::Span<const int32_t>) override { return {}; }
  // A row's logits are what `head_logits` makes of its id and its position; two rows at a time.
  void HeadLogits(HeadKind kind, ConstMatrix hidden, absl::Span<const int32_t> rows,
                  Head::LogitsVisitor visit) override;

  std::vector<int32_t> batch_tokens;  // of each step
  std::function<std::vector<float>(HeadKind kind, int32_t id, int32_t position)> head_logits;
  std::function<void()> before_forward;

 private:
  std::vector<float> hidden_;
};

// A model that a runner is tested with, as LoadModel would have made it.
std::shared_ptr<LoadedModel> FakeDecoderModel(std::unique_ptr<Tokenizer> tokenizer,
                                              int32_t vocab_size, int32_t max_tokens = 1000);
// Reads and writes one vocabulary; what it writes begins after kBos.
std::shared_ptr<LoadedModel> FakeEncoderDecoderModel(std::unique_ptr<Tokenizer> tokenizer,
                                                     int32_t vocab_size, int32_t max_tokens = 1000);
std::shared_ptr<LoadedModel> FakeEncoderModel(std::unique_ptr<Tokenizer> tokenizer,
                                              int32_t max_tokens = 20);

// Keeps what it gets.
class RecordingSink : public TokenSink {
 public:
  void OnStarted(GenerateStarted s) override;
  void OnChunk(GenerateChunk chunk) override;
  void OnFinished(GenerateFinished f) override;
  void OnDone(absl::Status s) override;

  // Blocks until OnDone, at most a minute; then everything below may be read.
  absl::Status Wait();
  bool is_done() const { return done_.HasBeenNotified(); }
  int num_chunks() const;
  int num_finished() const;
  // Blocks until so many chunks came, or OnDone.
  void WaitForChunks(int count);

  // Once done, or where the runner is called by the test itself. Of `sequence`:
  std::string text(int sequence = 0) const;
  std::vector<int32_t> ids(int sequence = 0) const;
  std::vector<GeneratedToken> tokens(int sequence = 0) const;
  const GenerateFinished& finished(int sequence = 0) const;
  const GenerateStarted& started() const;
  bool has_started() const;
  const absl::Status& status() const { return status_; }

 private:
  bool HasChunks() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return static_cast<int>(chunks_.size()) >= wanted_chunks_ || done_.HasBeenNotified();
  }

  mutable absl::Mutex mutex_;
  std::optional<GenerateStarted> started_ ABSL_GUARDED_BY(mutex_);
  std::vector<GenerateChunk> chunks_ ABSL_GUARDED_BY(mutex_);
  std::vector<GenerateFinished> finished_ ABSL_GUARDED_BY(mutex_);
  int wanted_chunks_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status status_;
  absl::Notification done_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_TESTS_ENGINE_FAKES_H_
