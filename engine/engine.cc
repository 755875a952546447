#include "engine/engine.h"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <exception>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/base/thread_annotations.h"
#include "absl/log/log.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "engine/attend/model_attend_job.h"
#include "engine/attend/tensor_attend_job.h"
#include "engine/attention_maps.h"
#include "engine/base/cpu_topology.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/encode_job.h"
#include "engine/generate_job.h"
#include "engine/kernels/kernel_context.h"
#include "engine/kernels/linear.h"
#include "engine/kernels/self_test.h"
#include "engine/loaded_model.h"
#include "engine/model/model_weights.h"
#include "engine/model_runner.h"
#include "engine/open_packed_cache.h"
#include "engine/readers/readers.h"
#include "engine/step_loop.h"
#include "engine/task_pool.h"
#include "engine/text_index.h"

namespace attendant::engine {
namespace {

// The step loop beats at least so often.
constexpr absl::Duration kHeartbeat = absl::Milliseconds(500);

absl::Status Stopping() { return absl::UnavailableError("the server is stopping"); }

absl::Status CheckOptions(const EngineOptions& options) {
  const auto check = [](absl::string_view name, int64_t value, int64_t least) {
    if (value >= least) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(name, " is ", value, "; at least ", least));
  };
  RETURN_IF_ERROR(check("num_threads", options.num_threads, 0));
  RETURN_IF_ERROR(check("num_tokenizer_threads", options.num_tokenizer_threads, 1));
  RETURN_IF_ERROR(check("max_batch_tokens", options.max_batch_tokens, 1));
  RETURN_IF_ERROR(check("max_running_sequences", options.max_running_sequences, 1));
  RETURN_IF_ERROR(check("kv_cache_bytes", options.kv_cache_bytes, 1));
  RETURN_IF_ERROR(check("kv_cache_block_size", options.kv_cache_block_size, 1));
  RETURN_IF_ERROR(check("max_new_tokens", options.max_new_tokens, 1));
  RETURN_IF_ERROR(check("max_image_pixels", options.max_image_pixels, 1));
  return absl::OkStatus();
}

absl::StatusOr<TokenizedText> TokenizeText(const LoadedModel& model, const std::string& text,
                                           const std::optional<std::string>& text_pair,
                                           bool add_special_tokens) {
  RETURN_IF_ERROR(CheckHasTokenizer(model));
  ASSIGN_OR_RETURN(const Encoding encoding,
                   text_pair.has_value()
                       ? model.tokenizer->EncodePair(text, *text_pair, add_special_tokens)
                       : model.tokenizer->Encode(text, add_special_tokens));
  const TextIndex indices[2] = {TextIndex(text), TextIndex(text_pair.value_or(""))};
  TokenizedText result{
      .ids = encoding.ids, .special = encoding.special_tokens_mask, .type_ids = encoding.type_ids};
  for (int32_t i = 0; i < encoding.num_tokens(); ++i) {
    result.tokens.push_back(TokenText(model, encoding.ids[i]));
    const TextIndex& index = indices[encoding.sequence_ids[i] == 1 ? 1 : 0];
    const TextSpan span = index.Span(encoding.offsets[i]);
    result.byte_offsets.emplace_back(span.byte_begin, span.byte_end);
    result.code_point_offsets.emplace_back(span.char_begin, span.char_end);
  }
  return result;
}

// The types of the kernels that a model needs.
std::vector<DataType> KernelTypes(const ModelSource& source, const Checkpoint& checkpoint) {
  std::vector<DataType> types = {source.dtype.value_or(DefaultDataType())};
  types.push_back(ActivationType(types.front()));
  if (!source.dtype && QuantizedType(checkpoint)) {
    types.insert(types.end(), {DataType::kInt8, DataType::kInt4});
  }
  return types;
}

// What can only go wrong by a defect, or for want of memory, ends one request.
template <typename Function>
auto WithoutExceptions(Function function) -> decltype(function()) {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("out of memory");
  } catch (const std::exception& error) {
    LOG(ERROR) << "an unexpected exception: " << error.what();
    return absl::InternalError("an unexpected exception; the log has it");
  }
}

bool IsImage(const EncodeInput& input) { return std::holds_alternative<ImageFile>(input); }

// Whether it has image files to decode.
template <typename Request>
bool HasImages(const Request& request) {
  if constexpr (std::is_same_v<Request, EncodeRequest> || std::is_same_v<Request, ClassifyRequest>)
    return absl::c_any_of(request.inputs, IsImage);
  return false;
}

bool HasImages(const AttendRequest& request) {
  const auto* source = std::get_if<AttendModel>(&request.source);
  return source != nullptr && IsImage(source->input);
}

}  // namespace

// Three kinds of threads meet here. Callers put tasks into the pool of tokenizer threads, or of
// those that decode images; they prepare requests and put them into the inbox of the engine's
// thread; that one runs the step loop, which owns everything that computes. The mutex is held for
// looking up models and for the inbox alone, never while anything computes or is called back.
class Engine::Impl {
 public:
  Impl(const EngineOptions& options, std::function<void(const StepReport&)> on_step)
      : options_(options),
        num_threads_(options.num_threads > 0 ? options.num_threads : DefaultNumThreads()),
        heartbeat_(absl::ToUnixNanos(absl::Now())),
        pool_(options.num_tokenizer_threads),
        image_pool_(options.num_tokenizer_threads),
        thread_([this, on_step = std::move(on_step)] { RunEngineThread(on_step); }) {}

  ~Impl() {
    stopping_.store(true);
    pool_.Stop();
    image_pool_.Stop();
    {
      absl::MutexLock lock(&mutex_);
      ending_ = true;
    }
    thread_.join();
  }

  // After the engine's thread began: whether its kernels compute rightly.
  absl::Status AwaitStart() {
    started_.WaitForNotification();
    return start_status_;
  }

  absl::Status LoadModel(const ModelSource& source, std::function<void(double)> progress);
  absl::Status UnloadModel(const std::string& name);
  std::vector<ModelDescription> ListModels() const;
  absl::StatusOr<InFlight> Find(const std::string& name) const;

  // Encode and the heads: prepares the request on a thread of the pool.
  template <typename Request, typename Callback>
  void RunEncoder(Request request, Callback done);
  void Generate(GenerateRequest request, std::shared_ptr<TokenSink> sink);
  void Attend(AttendRequest request, std::shared_ptr<AttendSink> sink);
  void Tokenize(const std::string& model, std::string text, std::optional<std::string> text_pair,
                bool add_special_tokens, TokenizeCallback done);
  void Detokenize(const std::string& model, std::vector<int32_t> ids, bool skip_special_tokens,
                  DetokenizeCallback done);
  void Wake();
  EngineStats Stats() const;

 private:
  using Task = absl::AnyInvocable<void() &&>;

  // A model to be loaded, while its caller waits.
  struct Load {
    const ModelSource& source;
    const Checkpoint& checkpoint;
    std::shared_ptr<LoadedModel> model;
    std::function<void(double)> progress;
    PackedCache* cache;  // or null
    absl::Status status;
    absl::Notification done;
  };

  TaskPool& PoolOf(bool has_images) { return has_images ? image_pool_ : pool_; }
  void Post(Task task);
  void RunEngineThread(const std::function<void(const StepReport&)>& on_step);
  void RunLoad(Load& load, KernelContext& context);
  absl::Status RunLoadChecked(Load& load, KernelContext& context);
  // Of the types that were not tested yet.
  absl::Status TestKernels(const std::vector<DataType>& types, KernelContext& context);
  void RunInbox();
  bool Round();
  absl::Status LoadReserved(const ModelSource& source, std::function<void(double)> progress);
  uint64_t RandomSeed();

  bool HasReasonToWake() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return woken_ || ending_ || !inbox_.empty() || !loads_.empty();
  }

  const EngineOptions options_;
  std::atomic<int> num_threads_;  // that were asked for; once started, that there are
  std::atomic<bool> stopping_{false};
  std::atomic<int64_t> heartbeat_;
  std::atomic<int64_t> num_steps_{0};
  std::atomic<int64_t> workspace_bytes_{0};
  std::atomic<int64_t> num_reference_kernels_{0};

  mutable absl::Mutex mutex_;
  std::map<std::string, std::shared_ptr<LoadedModel>> models_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> reserved_names_ ABSL_GUARDED_BY(mutex_);  // of models being loaded
  std::vector<Task> inbox_ ABSL_GUARDED_BY(mutex_);               // for the engine's thread
  std::deque<Load*> loads_ ABSL_GUARDED_BY(mutex_);
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::random_device random_ ABSL_GUARDED_BY(mutex_);

  absl::Notification started_;
  absl::Status start_status_;  // written before started_

  // The engine's thread's alone.
  StepLoop* loop_ = nullptr;
  KernelContext* context_ = nullptr;
  std::set<DataType> tested_types_;

  TaskPool pool_;
  TaskPool image_pool_;  // apart: decoding one takes longer than tokenizing a hundred texts
  std::thread thread_;   // last: it uses everything above
};

// ---------------------------------------------------------------------------------------------------------------------
// The engine's thread.

void Engine::Impl::RunEngineThread(const std::function<void(const StepReport&)>& on_step) {
  KernelContext context(num_threads_, options_.pin_threads);
  num_threads_ = context.num_threads();
  StepLoop loop(context, on_step);
  loop_ = &loop;
  context_ = &context;
  start_status_ = TestKernels({DataType::kFloat32}, context);
  started_.Notify();

  while (true) {
    RunInbox();
    Load* load = nullptr;
    {
      absl::MutexLock lock(&mutex_);
      if (ending_ && inbox_.empty()) break;
      if (!loads_.empty()) {
        load = loads_.front();
        loads_.pop_front();
      }
    }
    if (load != nullptr) RunLoad(*load, context);
    if (Round()) continue;

    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithDeadline(absl::Condition(this, &Impl::HasReasonToWake),
                             std::min(absl::Now() + kHeartbeat, loop.next_deadline()));
    woken_ = false;
  }

  loop.EndAll(Stopping());
  absl::MutexLock lock(&mutex_);
  for (Load* load : loads_) {
    load->status = Stopping();
    load->done.Notify();
  }
}

bool Engine::Impl::Round() {
  const bool computed = loop_->Round();
  heartbeat_.store(absl::ToUnixNanos(absl::Now()));
  num_steps_.store(loop_->num_steps());
  workspace_bytes_.store(loop_->workspace_bytes());
  num_reference_kernels_.store(loop_->num_reference_kernels());
  return computed;
}

void Engine::Impl::RunInbox() {
  std::vector<Task> tasks;
  {
    absl::MutexLock lock(&mutex_);
    tasks.swap(inbox_);
  }
  for (Task& task : tasks) std::move(task)();
}

void Engine::Impl::RunLoad(Load& load, KernelContext& context) {
  load.status = WithoutExceptions([&] { return RunLoadChecked(load, context); });
  load.done.Notify();
}

// Packing needs the thread that owns the kernels. It comes in slices, a tensor each, and between
// those the loop makes a round for the models that are loaded already.
absl::Status Engine::Impl::RunLoadChecked(Load& load, KernelContext& context) {
  RETURN_IF_ERROR(TestKernels(KernelTypes(load.source, load.checkpoint), context));
  const auto between_tensors = [&](double fraction) {
    if (load.progress != nullptr) load.progress(fraction);
    RunInbox();
    Round();
  };
  ASSIGN_OR_RETURN(std::unique_ptr<ModelRunner> runner,
                   ModelRunner::Load(load.source, load.checkpoint, options_, context, load.model,
                                     between_tensors, load.cache));
  loop_->AddModel(std::move(runner));
  return absl::OkStatus();
}

absl::Status Engine::Impl::TestKernels(const std::vector<DataType>& types, KernelContext& context) {
  for (const DataType type : types) {
    if (tested_types_.contains(type)) continue;
    RETURN_IF_ERROR(RunKernelSelfTest(context, type));
    tested_types_.insert(type);
  }
  return absl::OkStatus();
}

void Engine::Impl::Post(Task task) {
  absl::MutexLock lock(&mutex_);
  inbox_.push_back(std::move(task));
}

void Engine::Impl::Wake() {
  absl::MutexLock lock(&mutex_);
  woken_ = true;
}

// ---------------------------------------------------------------------------------------------------------------------
// Models.

absl::Status Engine::Impl::LoadModel(const ModelSource& source,
                                     std::function<void(double)> progress) {
  if (source.name.empty()) return absl::InvalidArgumentError("a model needs a name");
  constexpr DataType kWeightTypes[] = {DataType::kFloat32, DataType::kBFloat16, DataType::kInt8,
                                       DataType::kInt4};
  if (source.dtype && absl::c_find(kWeightTypes, *source.dtype) == std::end(kWeightTypes)) {
    return absl::InvalidArgumentError(absl::StrCat("model \"", source.name, "\": dtype is ",
                                                   DataTypeName(*source.dtype),
                                                   "; expected f32, bf16, int8 or int4"));
  }
  {
    absl::MutexLock lock(&mutex_);
    if (models_.contains(source.name) || !reserved_names_.insert(source.name).second) {
      return absl::AlreadyExistsError(
          absl::StrCat("model \"", source.name, "\" is loaded already"));
    }
  }
  const absl::Status status =
      WithoutExceptions([&] { return LoadReserved(source, std::move(progress)); });
  absl::MutexLock lock(&mutex_);
  reserved_names_.erase(source.name);
  return status;
}

absl::Status Engine::Impl::LoadReserved(const ModelSource& source,
                                        std::function<void(double)> progress) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint, Checkpoint::Open(source.path));
  // While this thread reads the tokenizer. What fails is tested again, and told, by RunLoad.
  Post([this, types = KernelTypes(source, *checkpoint)] {
    WithoutExceptions([&] { return TestKernels(types, *context_); }).IgnoreError();
  });
  auto model = std::make_shared<LoadedModel>();
  ASSIGN_OR_RETURN(model->tokenizer, ReadTokenizer(*checkpoint));
  ASSIGN_OR_RETURN(model->target_tokenizer, ReadTargetTokenizer(*checkpoint));
  if (model->tokenizer != nullptr) {
    ASSIGN_OR_RETURN(model->mask_token_id, ReadMaskToken(*checkpoint, *model->tokenizer));
  }
  ASSIGN_OR_RETURN(model->sentence, ReadSentenceConfig(*checkpoint));
  ASSIGN_OR_RETURN(const std::optional<std::string> generation_config,
                   checkpoint->ReadFile("generation_config.json"));
  ASSIGN_OR_RETURN(
      model->generation,
      ReadGenerationConfig(generation_config.has_value() ? &*generation_config : nullptr,
                           checkpoint->config_json()));

  const std::unique_ptr<PackedCache> cache = OpenPackedCache(source, *checkpoint, options_);
  Load load{.source = source,
            .checkpoint = *checkpoint,
            .model = model,
            .progress = std::move(progress),
            .cache = cache.get()};
  {
    absl::MutexLock lock(&mutex_);
    loads_.push_back(&load);
  }
  load.done.WaitForNotification();
  RETURN_IF_ERROR(load.status);
  {
    absl::MutexLock lock(&mutex_);
    models_[source.name] = std::move(model);
  }
  if (cache != nullptr) cache->Finish();
  // What was read to be packed, and is freed now, goes back to the system.
  malloc_trim(0);
  return absl::OkStatus();
}

absl::Status Engine::Impl::UnloadModel(const std::string& name) {
  ASSIGN_OR_RETURN(std::optional<InFlight> found, Find(name));
  const LoadedModel& model = found->model();
  absl::Notification freed;
  {
    absl::MutexLock lock(&mutex_);
    if (models_.erase(model.description.name) == 0) {
      return absl::NotFoundError(absl::StrCat("model \"", name, "\" is being unloaded already"));
    }
    inbox_.push_back(
        [this, &model, &freed] { loop_->RetireModel(model, [&freed] { freed.Notify(); }); });
  }
  found.reset();
  freed.WaitForNotification();
  return absl::OkStatus();
}

std::vector<ModelDescription> Engine::Impl::ListModels() const {
  absl::MutexLock lock(&mutex_);
  std::vector<ModelDescription> descriptions;
  for (const auto& [name, model] : models_) descriptions.push_back(model->description);
  return descriptions;
}

absl::StatusOr<InFlight> Engine::Impl::Find(const std::string& name) const {
  absl::MutexLock lock(&mutex_);
  auto it = models_.find(name);
  if (name.empty() && models_.size() == 1) it = models_.begin();
  if (it != models_.end()) return InFlight(it->second);

  const std::string loaded =
      models_.empty()
          ? "none is loaded"
          : absl::StrCat("loaded: ",
                         absl::StrJoin(models_, ", ", [](std::string* out, const auto& model) {
                           absl::StrAppend(out, model.first);
                         }));
  if (name.empty() && !models_.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("the request names no model; ", loaded));
  }
  return absl::NotFoundError(absl::StrCat("there is no model \"", name, "\"; ", loaded));
}

// ---------------------------------------------------------------------------------------------------------------------
// Requests. Whatever is wrong with one is answered from the pool's thread; what is right goes on to
// the engine's.

template <typename Request, typename Callback>
void Engine::Impl::RunEncoder(Request request, Callback done) {
  if (request.control == nullptr) request.control = std::make_shared<RequestControl>();
  TaskPool& pool = PoolOf(HasImages(request));
  pool.Post([this, request = std::move(request), done = std::move(done),
             submitted = absl::Now()]() mutable {
    auto job = WithoutExceptions([&]() -> absl::StatusOr<std::unique_ptr<EncodeJob>> {
      if (stopping_.load()) return Stopping();
      RETURN_IF_ERROR(request.control->Check(absl::Now()));
      ASSIGN_OR_RETURN(InFlight in_flight, Find(request.model));
      return Prepare(std::move(request), std::move(in_flight), submitted, done);
    });
    if (!job.ok()) {
      std::move(done)(job.status());
      return;
    }
    Post([this, job = *std::move(job)]() mutable { loop_->AddEncode(std::move(job)); });
  });
}

void Engine::Impl::Generate(GenerateRequest request, std::shared_ptr<TokenSink> sink) {
  if (request.control == nullptr) request.control = std::make_shared<RequestControl>();
  pool_.Post([this, request = std::move(request), sink = std::move(sink),
              submitted = absl::Now()]() mutable {
    auto job = WithoutExceptions([&]() -> absl::StatusOr<std::unique_ptr<GenerateJob>> {
      if (stopping_.load()) return Stopping();
      RETURN_IF_ERROR(request.control->Check(absl::Now()));
      ASSIGN_OR_RETURN(InFlight in_flight, Find(request.model));
      return PrepareGenerate(std::move(request), sink, std::move(in_flight), submitted,
                             RandomSeed());
    });
    if (!job.ok()) {
      sink->OnDone(job.status());
      return;
    }
    Post([this, job = *std::move(job)]() mutable { loop_->AddGenerate(std::move(job)); });
  });
}

void Engine::Impl::Attend(AttendRequest request, std::shared_ptr<AttendSink> sink) {
  if (request.control == nullptr) request.control = std::make_shared<RequestControl>();
  TaskPool& pool = PoolOf(HasImages(request));
  pool.Post([this, request = std::move(request), sink = std::move(sink),
             submitted = absl::Now()]() mutable {
    auto attending = std::make_unique<StepLoop::Attending>();
    ModelAttendJob* of_model = nullptr;
    const absl::Status status = WithoutExceptions([&]() -> absl::Status {
      if (stopping_.load()) return Stopping();
      RETURN_IF_ERROR(request.control->Check(absl::Now()));
      if (auto* source = std::get_if<AttendModel>(&request.source)) {
        ASSIGN_OR_RETURN(InFlight in_flight, Find(source->model));
        ASSIGN_OR_RETURN(auto job,
                         PrepareAttentionMaps(std::move(*source), in_flight.model(),
                                              std::move(request.control), options_.max_map_bytes));
        of_model = job.get();
        attending->job = std::move(job);
        attending->in_flight.emplace(std::move(in_flight));
      } else {
        ASSIGN_OR_RETURN(attending->job,
                         TensorAttendJob::Create(std::move(request), options_.max_attend_bytes));
      }
      return absl::OkStatus();
    });
    const absl::Time now = absl::Now();
    if (!status.ok()) {
      attending.reset();
      sink->OnDone(status, {.total = now - submitted});
      return;
    }
    attending->sink = std::move(sink);
    attending->submitted = submitted;
    attending->prepared = now;
    Post([this, of_model, attending = std::move(attending)]() mutable {
      if (of_model != nullptr) {
        loop_->AddAttend(std::move(attending), *of_model);
      } else {
        loop_->AddAttend(std::move(attending));
      }
    });
  });
}

void Engine::Impl::Tokenize(const std::string& model, std::string text,
                            std::optional<std::string> text_pair, bool add_special_tokens,
                            TokenizeCallback done) {
  pool_.Post([this, model, text = std::move(text), text_pair = std::move(text_pair),
              add_special_tokens, done = std::move(done)]() mutable {
    std::move(done)(WithoutExceptions([&]() -> absl::StatusOr<TokenizedText> {
      if (stopping_.load()) return Stopping();
      ASSIGN_OR_RETURN(const InFlight in_flight, Find(model));
      return TokenizeText(in_flight.model(), text, text_pair, add_special_tokens);
    }));
  });
}

void Engine::Impl::Detokenize(const std::string& model, std::vector<int32_t> ids,
                              bool skip_special_tokens, DetokenizeCallback done) {
  pool_.Post(
      [this, model, ids = std::move(ids), skip_special_tokens, done = std::move(done)]() mutable {
        std::move(done)(WithoutExceptions([&]() -> absl::StatusOr<std::string> {
          if (stopping_.load()) return Stopping();
          ASSIGN_OR_RETURN(const InFlight in_flight, Find(model));
          RETURN_IF_ERROR(CheckHasTokenizer(in_flight.model()));
          return in_flight.model().tokenizer->Decode(ids, skip_special_tokens);
        }));
      });
}

uint64_t Engine::Impl::RandomSeed() {
  absl::MutexLock lock(&mutex_);
  return uint64_t{random_()} << 32 | random_();
}

EngineStats Engine::Impl::Stats() const {
  EngineStats stats;
  stats.workspace_bytes = workspace_bytes_.load();
  stats.num_threads = num_threads_.load();
  stats.steps = num_steps_.load();
  stats.reference_kernels = num_reference_kernels_.load();
  stats.last_heartbeat = absl::FromUnixNanos(heartbeat_.load());
  absl::MutexLock lock(&mutex_);
  for (const auto& [name, model] : models_) {
    absl::MutexLock model_lock(&model->mutex);
    ModelStats& model_stats = stats.models.emplace_back(model->stats);
    // Those at the tokenizer wait, too.
    model_stats.requests_waiting =
        std::max<int64_t>(0, model->num_in_flight.load() - model_stats.requests_running);
  }
  return stats;
}

// ---------------------------------------------------------------------------------------------------------------------

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    const EngineOptions& options, std::function<void(const StepReport&)> on_step) {
  RETURN_IF_ERROR(CheckOptions(options));
  auto impl = std::make_unique<Impl>(options, std::move(on_step));
  RETURN_IF_ERROR(impl->AwaitStart());
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

absl::Status Engine::LoadModel(const ModelSource& source, std::function<void(double)> progress) {
  return impl_->LoadModel(source, std::move(progress));
}

absl::Status Engine::UnloadModel(const std::string& name) { return impl_->UnloadModel(name); }

std::vector<ModelDescription> Engine::ListModels() const { return impl_->ListModels(); }

absl::StatusOr<ModelDescription> Engine::GetModel(const std::string& name) const {
  ASSIGN_OR_RETURN(const InFlight in_flight, impl_->Find(name));
  return in_flight.model().description;
}

void Engine::Encode(EncodeRequest request, EncodeCallback done) {
  impl_->RunEncoder(std::move(request), std::move(done));
}

void Engine::FillMask(FillMaskRequest request, FillMaskCallback done) {
  impl_->RunEncoder(std::move(request), std::move(done));
}

void Engine::Classify(ClassifyRequest request, ClassifyCallback done) {
  impl_->RunEncoder(std::move(request), std::move(done));
}

void Engine::Rank(RankRequest request, RankCallback done) {
  impl_->RunEncoder(std::move(request), std::move(done));
}

void Engine::Answer(AnswerRequest request, AnswerCallback done) {
  impl_->RunEncoder(std::move(request), std::move(done));
}

void Engine::Generate(GenerateRequest request, std::shared_ptr<TokenSink> sink) {
  impl_->Generate(std::move(request), std::move(sink));
}

void Engine::Attend(AttendRequest request, std::shared_ptr<AttendSink> sink) {
  impl_->Attend(std::move(request), std::move(sink));
}

void Engine::Tokenize(const std::string& model, std::string text,
                      std::optional<std::string> text_pair, bool add_special_tokens,
                      TokenizeCallback done) {
  impl_->Tokenize(model, std::move(text), std::move(text_pair), add_special_tokens,
                  std::move(done));
}

void Engine::Detokenize(const std::string& model, std::vector<int32_t> ids,
                        bool skip_special_tokens, DetokenizeCallback done) {
  impl_->Detokenize(model, std::move(ids), skip_special_tokens, std::move(done));
}

void Engine::Wake() { impl_->Wake(); }

EngineStats Engine::Stats() const { return impl_->Stats(); }

}  // namespace attendant::engine
