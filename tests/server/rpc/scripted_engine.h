#ifndef ATTENDANT_TESTS_SERVER_RPC_SCRIPTED_ENGINE_H_
#define ATTENDANT_TESTS_SERVER_RPC_SCRIPTED_ENGINE_H_

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "engine/engine.h"

namespace attendant::server {

// engine::Engine without an engine: a program that links this does what the script says. Whatever
// is loaded takes its description from `models`, by name.
struct EngineScript {
  std::vector<engine::ModelDescription> models;
  std::function<void(engine::EncodeRequest, engine::Engine::EncodeCallback)> encode;
  std::function<void(engine::FillMaskRequest, engine::Engine::FillMaskCallback)> fill_mask;
  std::function<void(engine::ClassifyRequest, engine::Engine::ClassifyCallback)> classify;
  std::function<void(engine::RankRequest, engine::Engine::RankCallback)> rank;
  std::function<void(engine::AnswerRequest, engine::Engine::AnswerCallback)> answer;
  std::function<void(engine::GenerateRequest, std::shared_ptr<engine::TokenSink>)> generate;
  std::function<void(engine::AttendRequest, std::shared_ptr<engine::AttendSink>)> attend;
  std::function<void()> on_load;  // while a model is being loaded
  std::atomic<int> num_wakes = 0;
};
EngineScript& Script();

// "decoder" generates, "encoder" encodes into two values, and "reader" has all heads of an encoder,
// and does not encode; they have 100 tokens and take 16.
std::vector<engine::ModelDescription> ScriptedModels();

}  // namespace attendant::server

#endif  // ATTENDANT_TESTS_SERVER_RPC_SCRIPTED_ENGINE_H_
