#include "tests/engine/fakes.h"

#include <algorithm>

#include "absl/log/check.h"
#include "absl/log/log.h"
#include "gtest/gtest.h"

namespace attendant::engine {
namespace {

// The length of the longest prefix of `text` that ends with a whole character.
size_t WholeCharacters(absl::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xc0) == 0x80) continue;
    const size_t length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > back ? text.size() - back : text.size();
  }
  return text.size();
}

class FakeDecoding : public Decoding {
 public:
  FakeDecoding(const FakeTokenizer& tokenizer, bool skip_special_tokens)
      : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens) {}

  std::string Push(int32_t id) override {
    if (skip_special_tokens_ && tokenizer_.IsSpecial(id)) return "";
    held_ += *tokenizer_.IdToToken(id);
    std::string text = held_.substr(0, WholeCharacters(held_));
    held_.erase(0, text.size());
    return text;
  }
  std::string Finish() override { return held_.empty() ? "" : "\xEF\xBF\xBD"; }

 private:
  const FakeTokenizer& tokenizer_;
  const bool skip_special_tokens_;
  std::string held_;
};

void Append(Encoding& encoding, int32_t id, int8_t sequence, int32_t position) {
  encoding.ids.push_back(id);
  encoding.type_ids.push_back(sequence == 1 ? 1 : 0);
  encoding.offsets.push_back(sequence < 0 ? TextRange{} : TextRange{position, position + 1});
  encoding.sequence_ids.push_back(sequence);
  encoding.special_tokens_mask.push_back(sequence < 0);
}

void AppendText(Encoding& encoding, absl::string_view text, int8_t sequence) {
  for (size_t i = 0; i < text.size(); ++i) {
    Append(encoding, static_cast<unsigned char>(text[i]), sequence, static_cast<int32_t>(i));
  }
}

uint64_t Mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15u;
  return hash ^ (hash >> 29);
}

uint64_t HashPrefix(absl::Span<const int32_t> prefix) {
  uint64_t hash = prefix.size();
  for (const int32_t token : prefix) hash = Mix(hash, static_cast<uint64_t>(token) + 1);
  return hash;
}

}  // namespace

absl::StatusOr<Encoding> FakeTokenizer::Encode(absl::string_view text,
                                               bool add_special_tokens) const {
  Encoding encoding;
  const bool adds = add_special_tokens && adds_special_tokens_;
  if (adds) Append(encoding, kBos, -1, 0);
  AppendText(encoding, text, 0);
  if (adds) Append(encoding, kEos, -1, 0);
  return encoding;
}

absl::StatusOr<Encoding> FakeTokenizer::EncodePair(absl::string_view text,
                                                   absl::string_view text_pair,
                                                   bool add_special_tokens) const {
  Encoding encoding;
  const bool adds = add_special_tokens && adds_special_tokens_;
  if (adds) Append(encoding, kBos, -1, 0);
  AppendText(encoding, text, 0);
  if (adds) Append(encoding, kEos, -1, 0);
  AppendText(encoding, text_pair, 1);
  if (adds) Append(encoding, kEos, -1, 0);
  return encoding;
}

absl::StatusOr<std::string> FakeTokenizer::Decode(absl::Span<const int32_t> ids,
                                                  bool skip_special_tokens) const {
  FakeDecoding decoding(*this, skip_special_tokens);
  std::string text;
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab_size()) return absl::InvalidArgumentError("an id");
    text += decoding.Push(id);
  }
  return text + decoding.Finish();
}

std::unique_ptr<Decoding> FakeTokenizer::StartDecoding(bool skip_special_tokens) const {
  return std::make_unique<FakeDecoding>(*this, skip_special_tokens);
}

std::optional<std::string> FakeTokenizer::IdToToken(int32_t id) const {
  if (id < 0 || id >= vocab_size()) return std::nullopt;
  if (id < kBos) return std::string(1, static_cast<char>(id));
  if (id == kBos) return "<s>";
  if (id == kEos) return "</s>";
  return pieces_[id - kFirstPiece];
}

std::optional<int32_t> FakeTokenizer::TokenToId(absl::string_view token) const {
  for (int32_t id = 0; id < vocab_size(); ++id) {
    if (*IdToToken(id) == token) return id;
  }
  return std::nullopt;
}

FakeTranslatorTokenizer::FakeTranslatorTokenizer(Languages::Target target)
    : FakeTokenizer({"en", "fr", "xx"}) {
  languages_.ids = {{"en", kEnglish}, {"fr", kFrench}};
  languages_.target = target;
  if (target != Languages::Target::kInSource) languages_.default_source = "en";
}

absl::StatusOr<Encoding> FakeTranslatorTokenizer::EncodeSource(
    absl::string_view text, absl::string_view source_language,
    absl::string_view target_language) const {
  Encoding encoding;
  if (source_language.empty()) source_language = languages_.default_source;
  if (!source_language.empty())
    Append(encoding, languages_.ids.find(source_language)->second, -1, 0);
  if (languages_.target == Languages::Target::kInSource && !target_language.empty())
    Append(encoding, languages_.ids.find(target_language)->second, -1, 0);
  AppendText(encoding, text, 0);
  return encoding;
}

int32_t& FakeDecoder::Slot(absl::Span<const int32_t> blocks, int32_t token) {
  const auto index =
      static_cast<size_t>(blocks[token / block_size_]) * block_size_ + token % block_size_;
  if (slots_.size() <= index) slots_.resize(index + 1, -1);
  return slots_[index];
}

void FakeDecoder::EncodeSources(const Batch& sources) {
  for (const BatchSequence& source : sources.sequences) {
    CHECK_EQ(source.num_source_tokens, source.num_queries);
    for (int32_t i = 0; i < source.num_queries; ++i) {
      Slot(source.source_blocks, i) = sources.token_ids[source.query_start + i];
      ++num_encoded_tokens_;
    }
  }
}

ConstMatrix FakeDecoder::Forward(const Batch& batch, HiddenStateObserver) {
  if (before_forward != nullptr) before_forward();
  prefixes_.clear();
  hidden_.clear();
  for (const auto& [from, to] : batch.block_copies) {
    const size_t end = static_cast<size_t>(std::max(from, to) + 1) * block_size_;
    if (slots_.size() < end) slots_.resize(end, -1);
    std::copy_n(slots_.begin() + from * block_size_, block_size_,
                slots_.begin() + to * block_size_);
  }
  for (const BatchSequence& sequence : batch.sequences) {
    std::vector<int32_t> prefix;
    for (int32_t token = 0; token < sequence.num_source_tokens; ++token)
      prefix.push_back(Slot(sequence.source_blocks, token));
    for (int32_t token = 0; token < sequence.num_past_tokens; ++token)
      prefix.push_back(Slot(sequence.blocks, token));
    for (int32_t i = 0; i < sequence.num_queries; ++i) {
      const int32_t row = sequence.query_start + i;
      CHECK_EQ(batch.positions[row] + sequence.num_source_tokens,
               static_cast<int32_t>(prefix.size()));
      Slot(sequence.blocks, batch.positions[row]) = batch.token_ids[row];
      prefix.push_back(batch.token_ids[row]);
      hidden_.push_back(static_cast<float>(prefixes_.size()));
      prefixes_.push_back(prefix);
      ++num_computed_tokens_;
    }
  }
  return ConstMatrix(hidden_.data(), static_cast<int64_t>(hidden_.size()), 1);
}

Matrix FakeDecoder::Logits(ConstMatrix hidden, absl::Span<const int32_t> rows) {
  max_rows_asked_ = std::max(max_rows_asked_, static_cast<int32_t>(rows.size()));
  logits_.resize(rows.size() * vocab_size_);
  const Matrix logits(logits_.data(), static_cast<int64_t>(rows.size()), vocab_size_);
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto& prefix = prefixes_[static_cast<size_t>(*hidden.row(rows[i]))];
    const uint64_t hash = HashPrefix(prefix);
    float* row = logits.row(static_cast<int64_t>(i));
    for (int32_t id = 0; id < vocab_size_; ++id) {
      row[id] = static_cast<float>(Mix(hash, id) >> 40) * 0x1p-24f;
    }
    row[next_(prefix)] = 5;
    if (change_logits != nullptr) change_logits(prefix, absl::MakeSpan(row, vocab_size_));
  }
  return logits;
}

std::vector<int32_t> FakeDecoder::Continue(std::vector<int32_t> prompt, int num_tokens) const {
  const size_t num_prompt = prompt.size();
  for (int i = 0; i < num_tokens; ++i) prompt.push_back(next_(prompt));
  return {prompt.begin() + static_cast<ptrdiff_t>(num_prompt), prompt.end()};
}

int32_t HashNext(absl::Span<const int32_t> prefix, int32_t vocab_size) {
  return static_cast<int32_t>(HashPrefix(prefix) % vocab_size);
}

ConstMatrix FakeEncoder::Forward(const Batch& batch, HiddenStateObserver observer) {
  if (before_forward != nullptr) before_forward();
  batch_tokens.push_back(batch.num_tokens());
  hidden_.assign(static_cast<size_t>(batch.num_tokens()) * 4, 0);
  const Matrix hidden(hidden_.data(), batch.num_tokens(), 4);
  for (int32_t layer = 0; layer <= num_layers(); ++layer) {
    for (const BatchSequence& sequence : batch.sequences) {
      for (int32_t i = 0; i < sequence.num_queries; ++i) {
        const int32_t token = sequence.query_start + i;
        const int32_t type = batch.type_ids.empty() ? 0 : batch.type_ids[token];
        const float scale = static_cast<float>(layer + 1);
        hidden.row(token)[0] = scale * static_cast<float>(batch.token_ids[token]);
        hidden.row(token)[1] = scale * static_cast<float>(batch.positions[token]);
        hidden.row(token)[2] = scale * static_cast<float>(type);
        hidden.row(token)[3] = scale * static_cast<float>(sequence.num_queries);
      }
    }
    observer(layer, hidden);
  }
  return hidden;
}

void FakeEncoder::HeadLogits(HeadKind kind, ConstMatrix hidden, absl::Span<const int32_t> rows,
                             Head::LogitsVisitor visit) {
  const auto scale = static_cast<float>(num_layers() + 1);
  for (size_t first = 0; first < rows.size(); first += 2) {
    std::vector<float> values;
    const size_t count = std::min<size_t>(2, rows.size() - first);
    for (size_t i = first; i < first + count; ++i) {
      const float* row = hidden.row(rows[i]);
      const std::vector<float> logits = head_logits(kind, static_cast<int32_t>(row[0] / scale),
                                                    static_cast<int32_t>(row[1] / scale));
      values.insert(values.end(), logits.begin(), logits.end());
    }
    const auto num_rows = static_cast<int64_t>(count);
    visit(static_cast<int64_t>(first),
          ConstMatrix(values.data(), num_rows, static_cast<int64_t>(values.size()) / num_rows));
  }
}

std::shared_ptr<LoadedModel> FakeDecoderModel(std::unique_ptr<Tokenizer> tokenizer,
                                              int32_t vocab_size, int32_t max_tokens) {
  auto model = std::make_shared<LoadedModel>();
  model->description.name = "fake";
  model->description.kind = "decoder";
  model->description.vocab_size = vocab_size;
  model->description.max_tokens = max_tokens;
  model->description.can_generate = true;
  model->tokenizer = std::move(tokenizer);
  model->generation.eos_token_ids = {FakeTokenizer::kEos};
  model->generation_limits = {.vocab_size = vocab_size,
                              .context_tokens = max_tokens,
                              .cache_tokens = max_tokens,
                              .max_new_tokens = 500};
  return model;
}

std::shared_ptr<LoadedModel> FakeEncoderDecoderModel(std::unique_ptr<Tokenizer> tokenizer,
                                                     int32_t vocab_size, int32_t max_tokens) {
  auto model = FakeDecoderModel(std::move(tokenizer), vocab_size, max_tokens);
  model->description.kind = "encoder-decoder";
  model->description.target_vocab_size = vocab_size;
  model->description.max_source_tokens = max_tokens;
  model->generation.decoder_start_token_id = FakeTokenizer::kBos;
  model->generation_limits.source_tokens = max_tokens;
  return model;
}

std::shared_ptr<LoadedModel> FakeEncoderModel(std::unique_ptr<Tokenizer> tokenizer,
                                              int32_t max_tokens) {
  auto model = std::make_shared<LoadedModel>();
  model->description.name = "fake";
  model->description.kind = "encoder";
  model->description.vocab_size = 1000;
  model->description.max_tokens = max_tokens;
  model->description.num_layers = 2;
  model->description.can_encode = true;
  model->tokenizer = std::move(tokenizer);
  model->hidden_size = 4;
  model->type_vocab_size = 2;
  model->max_encode_bytes = 10000;
  return model;
}

void RecordingSink::OnStarted(GenerateStarted s) {
  absl::MutexLock lock(&mutex_);
  EXPECT_FALSE(started_.has_value()) << "started twice";
  EXPECT_FALSE(is_done());
  started_ = std::move(s);
}

void RecordingSink::OnChunk(GenerateChunk chunk) {
  absl::MutexLock lock(&mutex_);
  EXPECT_TRUE(started_.has_value()) << "a chunk before the start";
  EXPECT_FALSE(is_done());
  chunks_.push_back(std::move(chunk));
}

void RecordingSink::OnFinished(GenerateFinished f) {
  absl::MutexLock lock(&mutex_);
  EXPECT_FALSE(is_done());
  finished_.push_back(std::move(f));
}

void RecordingSink::OnDone(absl::Status s) {
  ASSERT_FALSE(is_done()) << "done twice";
  absl::MutexLock lock(&mutex_);
  status_ = std::move(s);
  done_.Notify();
}

absl::Status RecordingSink::Wait() {
  if (!done_.WaitForNotificationWithTimeout(absl::Minutes(1))) {
    return absl::DeadlineExceededError("the test waited for a minute");
  }
  return status_;
}

int RecordingSink::num_chunks() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int>(chunks_.size());
}

int RecordingSink::num_finished() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int>(finished_.size());
}

void RecordingSink::WaitForChunks(int count) {
  absl::MutexLock lock(&mutex_);
  wanted_chunks_ = count;
  mutex_.Await(absl::Condition(this, &RecordingSink::HasChunks));
}

std::string RecordingSink::text(int sequence) const {
  absl::MutexLock lock(&mutex_);
  std::string text;
  for (const GenerateChunk& chunk : chunks_) {
    if (chunk.sequence == sequence) text += chunk.text;
  }
  return text;
}

std::vector<GeneratedToken> RecordingSink::tokens(int sequence) const {
  absl::MutexLock lock(&mutex_);
  std::vector<GeneratedToken> tokens;
  for (const GenerateChunk& chunk : chunks_) {
    if (chunk.sequence == sequence) {
      tokens.insert(tokens.end(), chunk.tokens.begin(), chunk.tokens.end());
    }
  }
  return tokens;
}

std::vector<int32_t> RecordingSink::ids(int sequence) const {
  std::vector<int32_t> ids;
  for (const GeneratedToken& token : tokens(sequence)) ids.push_back(token.id);
  return ids;
}

const GenerateFinished& RecordingSink::finished(int sequence) const {
  absl::MutexLock lock(&mutex_);
  for (const GenerateFinished& finished : finished_) {
    if (finished.sequence == sequence) return finished;
  }
  LOG(FATAL) << "sequence " << sequence << " did not finish: " << status_;
}

const GenerateStarted& RecordingSink::started() const {
  absl::MutexLock lock(&mutex_);
  CHECK(started_.has_value()) << status_;
  return *started_;
}

bool RecordingSink::has_started() const {
  absl::MutexLock lock(&mutex_);
  return started_.has_value();
}

}  // namespace attendant::engine
