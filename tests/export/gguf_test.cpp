// Models as GGUF: what is written computes the same when it is read, codes stay codes, and what has no home
// is refused or said.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "../base/expect_error.h"
#include "../support/toy_llama.h"
#include "../support/toy_source.h"
#include "export/gguf/architectures.h"
#include "export/gguf/source.h"
#include "ptq/export/formats.h"
#include "write_artifact.h"

namespace ptq {
namespace {

namespace fs = std::filesystem;
using testing::ToyModel;

// Rows that blocks of 32 fit.
testing::ToyLlama even_llama() {
  return {.hidden = 64, .heads = 4, .kv_heads = 2, .intermediate = 96};
}

ToyModel even_mamba() {
  return {testing::toy_mamba({.d_model = 64, .d_inner = 128, .d_state = 8, .d_conv = 4, .dt_rank = 8}),
          Json()};
}

WeightScheme groups_of_4_bits(int64_t group) {
  WeightScheme scheme;
  scheme.bits = 4;
  scheme.granularity = Granularity::kGroup;
  scheme.group = group;
  scheme.half_scales = true;
  return scheme;
}

class Gguf : public ::testing::Test {
 protected:
  std::string write_model(const ToyModel& toy) const {
    fs::remove_all(directory_ / "m");
    fs::create_directory(directory_ / "m");
    testing::write_safetensors(directory_ / "m/model.safetensors", toy.tensors);
    if (!toy.config.is_null()) directory_.write("m/config.json", toy.config.dump());
    return directory_ / "m";
  }

  // A model of random weights of another architecture, with changes to its configuration.
  std::string family(const std::string& name, const Json& changed) const {
    const fs::path source = fs::path(PTQ_FAMILIES) / name;
    fs::remove_all(directory_ / "m");
    fs::create_directory(directory_ / "m");
    for (const auto& entry : fs::directory_iterator(source)) {
      const std::string file = entry.path().filename().string();
      if (file == "model.safetensors" || file == "pytorch_model.bin")
        fs::create_symlink(entry.path(), directory_ / ("m/" + file));
    }
    Json config = read_json_file((source / "config.json").string());
    if (changed.is_object()) config.update(changed);
    directory_.write("m/config.json", config.dump());
    return directory_ / "m";
  }

  // The model with `change` done to each block, as an artifact.
  std::string artifact(const ToyModel& toy, const std::function<void(Block&)>& change) const {
    return testing::write_artifact(write_model(toy), directory_ / "q", change);
  }

  static ExportTarget target(const std::string& output, const std::map<std::string, std::string>& options) {
    return {output, export_options(format(), options)};
  }
  static const FormatEntry& format() { return find_format("gguf"); }

  Json write(const std::string& model, const std::map<std::string, std::string>& options) const {
    for (const char* old : {"x.gguf", "x-lora.gguf"}) fs::remove(directory_ / old);
    const OpenModel open = open_model(model, {}, at::kCPU);
    const ExportTarget to = target(directory_ / "x.gguf", options);
    EXPECT_EQ(format().why_not(open, to), "");
    return format().write(open, to).json;
  }
  std::string why_not(const std::string& model,
                      const std::map<std::string, std::string>& options = {}) const {
    return format().why_not(open_model(model, {}, at::kMeta), target(directory_ / "x.gguf", options));
  }
  OpenModel read() const { return open_any_model(directory_ / "x.gguf", {}, at::kCPU); }
  static Tensor logits(const OpenModel& open) { return testing::logits_of(*open.model, testing::toy_ids()); }
  Tensor logits(const std::string& model) const { return logits(open_model(model, {}, at::kCPU)); }

  const TempDirectory directory_;
  const at::InferenceMode inference_;
};

TEST_F(Gguf, FloatModelsComputeTheSameToTheBit) {
  std::vector<ToyModel> models = {
      testing::toy_llama({}), testing::toy_llama(even_llama()), even_mamba(),
      testing::toy_llama({.biases = true, .tied = false}),
      testing::toy_llama({.hidden = 36, .heads = 4, .kv_heads = 2, .head_dim = 10})};
  models.push_back(
      testing::toy_llama({.hidden = 36, .heads = 4, .kv_heads = 2, .head_dim = 10, .qk_norm = true}));
  models.push_back(testing::toy_llama(even_llama()));
  testing::make_qwen2(models.back());
  for (const char* type : {"llama3", "linear"}) {
    models.push_back(testing::toy_llama({.hidden = 64, .heads = 2}));
    models.back().config["rope_parameters"] = {{"rope_type", type}, {"rope_theta", 5e5}, {"factor", 4.0}};
    if (type == std::string("linear")) continue;
    models.back().config["rope_parameters"].update(
        {{"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 8192}});
  }
  for (size_t i = 0; i < models.size(); ++i) {
    SCOPED_TRACE(i);
    const std::string model = write_model(models[i]);
    const Json done = write(model, {{"type", "f32"}});
    EXPECT_EQ(done["types"].size(), 1U);
    EXPECT_EQ(done["types"]["F32"]["exact"], done["types"]["F32"]["tensors"]);
    EXPECT_FALSE(read().quantized);
    EXPECT_TRUE(at::equal(logits(read()), logits(model)));
  }
}

// Random models of other architectures, in float, with what llama.cpp computes otherwise set to what it does.
TEST_F(Gguf, ArchitecturesComputeTheSameWhenTheyAreReadBack) {
  const Json plain_rope = {{"rope_type", "default"}, {"rope_theta", 1e4}, {"partial_rotary_factor", 0.75}};
  const std::vector<std::pair<std::string, Json>> models = {{"granite", {}},
                                                            {"olmo2", {}},
                                                            {"phi3", {{"rope_parameters", plain_rope}}},
                                                            {"gemma2", {{"query_pre_attn_scalar", 12}}},
                                                            {"stablelm", {}},
                                                            {"gpt-neox", {}},
                                                            {"falcon-mamba", {{"mixer_rms_eps", 1e-5}}},
                                                            {"mamba2", {}},
                                                            {"mamba2-state-spaces", {}}};
  for (const auto& [name, changed] : models) {
    SCOPED_TRACE(name);
    const std::string model = family(name, changed);
    write(model, {{"type", "f32"}, {"tokenizer", "none"}});
    const Tensor expected = logits(model), again = logits(read());
    // The gains of a Gemma lie about 1 there, and about 0 here.
    EXPECT_TRUE(name == "gemma2" ? at::allclose(again, expected, 1e-5, 1e-5) : at::equal(again, expected));
    EXPECT_EQ(read().architecture->name, open_model(model, {}, at::kMeta).architecture->name);
  }
}

TEST_F(Gguf, WhatLlamaCppComputesOtherwiseIsRefused) {
  const auto refusal = [&](const std::string& name, const Json& changed) {
    return why_not(family(name, changed), {{"tokenizer", "none"}});
  };
  const auto expect = [](const std::string& reason, const std::string& part) {
    EXPECT_NE(reason.find(part), std::string::npos) << reason;
  };
  expect(refusal("gemma2", Json::object()), "query_pre_attn_scalar is 20");
  expect(refusal("gemma2", {{"query_pre_attn_scalar", 12}, {"attn_logit_softcapping", nullptr}}),
         "attn_logit_softcapping is off");
  expect(refusal("mamba2", {{"time_step_limit", {0.03, 0.3}}}), "time_step_limit");
  expect(refusal("phi3", Json::object()), "longrope");
  expect(refusal("mixtral", Json::object()), "llama.cpp's names for mixtral are not known");
}

TEST_F(Gguf, CodesThatMapComputeTheSameToTheBit) {
  for (const ToyModel& toy : {testing::toy_llama(even_llama()), even_mamba()}) {
    const std::string model = artifact(toy, [](Block& block) {
      for (Linear* linear : block.linears()) {
        if (linear->weight.size(1) % 32 != 0) continue;
        linear->weight.set(round_to_nearest(linear->weight.values(), groups_of_4_bits(32)));
      }
    });
    const Json done = write(model, {});
    EXPECT_GT(done["types"]["Q4_0"]["exact"], 0);
    for (const auto& [name, type] : done["types"].items()) EXPECT_EQ(type["exact"], type["tensors"]) << name;
    const OpenModel again = read();
    EXPECT_TRUE(again.quantized);
    EXPECT_TRUE(at::equal(logits(again), logits(model)));
    const std::unique_ptr<Block> block = again.model->load_block(0);
    EXPECT_EQ(block->linears().front()->weight.quantized()->scheme.bits, 4);
  }
}

TEST_F(Gguf, OtherTypesAreRoundedAndSayWhatItCost) {
  const std::string model = write_model(testing::toy_llama(even_llama()));
  double previous = 100;
  for (const char* type : {"q8_0", "q5_0", "q4_0"}) {
    const Json done = write(model, {{"type", type}, {"outtype", "f32"}});
    const GgmlTypeEntry* entry = find_ggml_type(std::string_view(type));
    const double db = done["types"][entry->name]["sqnr_db"].get<double>();
    EXPECT_LT(db, previous - 5) << type;
    EXPECT_GT(db, 15) << type;
    previous = db;
  }
  // Rows of 64 and 96 fit no block of 256.
  const Json done = write(model, {{"type", "q4_k"}});
  EXPECT_EQ(done["types"]["Q5_0"]["other_rows"], 14);
  EXPECT_EQ(done["types"]["Q8_0"]["tensors"], 1);  // the embedding, as llama-quantize has it
}

TEST_F(Gguf, RowsThatFitNoBlockStayFloat) {
  const std::string model = write_model(testing::toy_llama({}));
  const Json done = write(model, {{"type", "q8_0"}});
  EXPECT_FALSE(done["types"].contains("Q8_0"));
  EXPECT_EQ(done["types"]["F16"]["other_rows"], 15);  // 24 and 40 columns
}

TEST_F(Gguf, WhatLlamaCppTakesInFloat32Only) {
  write(write_model(even_mamba()), {{"type", "q8_0"}, {"outtype", "f16"}});
  const GgufCheckpoint file(directory_ / "x.gguf", {});
  for (const GgufTensor& tensor : file.file().tensors) {
    const bool is_vector = tensor.shape.size() == 1;
    const bool is_named = tensor.name.ends_with("ssm_a") || tensor.name.ends_with("ssm_conv1d.weight");
    if (is_vector || is_named) {
      EXPECT_EQ(tensor.type, GgmlType::kF32) << tensor.name;
    }
  }
  EXPECT_EQ(file.tensor("blk.0.ssm_conv1d.weight").shape, (std::vector<int64_t>{128, 4}));
  EXPECT_EQ(file.tensor("blk.1.ssm_in.weight").type, GgmlType::kQ8_0);
  EXPECT_EQ(file.tensor("token_embd.weight").type, GgmlType::kF16);
  EXPECT_TRUE((as_tensor(file.read("blk.0.ssm_a")) < 0).all().item<bool>());
}

TEST_F(Gguf, RowsOfQueriesAndKeysAreThosePairsThatAreRotated) {
  const ToyModel toy = testing::toy_llama(even_llama());  // 4 and 2 heads of 16
  write(write_model(toy), {{"type", "f32"}});
  const GgufCheckpoint file(directory_ / "x.gguf", {});
  for (const auto& [own, name, heads] :
       {std::tuple("q_proj", "attn_q", 4), std::tuple("k_proj", "attn_k", 2)}) {
    const Tensor w = toy.tensors.at("model.layers.0.self_attn." + std::string(own) + ".weight");
    const Tensor stored = as_tensor(file.read("blk.0." + std::string(name) + ".weight"));
    const Tensor expected = w.reshape({heads, 2, 8, 64}).transpose(1, 2).reshape({heads * 16, 64});
    EXPECT_TRUE(at::equal(stored, expected)) << own;
  }
}

TEST_F(Gguf, CorrectionsBecomeAnAdapter) {
  const std::string model = artifact(testing::toy_llama(even_llama()), [](Block& block) {
    for (Linear* linear : block.linears()) {
      const Tensor w = linear->weight.values();
      const int64_t rank = linear == block.linears().front() ? 3 : 2;
      linear->correction = make_low_rank(w.slice(0, 0, rank) * 0.1, w.slice(1, 0, rank) * 0.1, at::kBFloat16);
      linear->weight.set(round_to_nearest(w, groups_of_4_bits(32)));
    }
  });
  const Json done = write(model, {});
  EXPECT_EQ(done["adapter"], directory_ / "x-lora.gguf");
  const std::string bytes = directory_.read("x-lora.gguf");
  const GgufFile adapter = parse_gguf(std::as_bytes(std::span(bytes)), bytes.size(), "x-lora.gguf");
  EXPECT_EQ(std::get<std::string>(adapter.metadata.at("adapter.type")), "lora");
  EXPECT_EQ(std::get<double>(adapter.metadata.at("adapter.lora.alpha")), 3);
  EXPECT_EQ(adapter.tensors.size(), 28U);
  // Base and adapter together are the artifact: W + B A, with the rows of q as its weight has them.
  const OpenModel base = read(), whole = open_model(model, {}, at::kCPU);
  const auto values = [&](const std::string& name) {
    for (const GgufTensor& tensor : adapter.tensors) {
      if (tensor.name == name)
        return at::from_blob(const_cast<char*>(bytes.data()) + tensor.offset, tensor.shape, at::kFloat)
            .clone();
    }
    return Tensor();
  };
  const Tensor A = values("blk.0.attn_q.weight.lora_a"), B = values("blk.0.attn_q.weight.lora_b");
  ASSERT_EQ(A.size(0), 3);
  const Json config = base.model->config();
  const Tensor rows = gguf_rows(GgufChange::kQueryRows, config, B.size(0), /*inverse=*/true);
  const std::unique_ptr<Block> block = whole.model->load_block(0);
  EXPECT_TRUE(
      at::allclose(B.index_select(0, rows).matmul(A), block->linears().front()->correction->product()));
  directory_.write("y-lora.gguf", "mine");
  EXPECT_ERROR(format().write(whole, target(directory_ / "y.gguf", {})), ExitCode::kFailed, "already exists");
  EXPECT_FALSE(fs::exists(directory_ / "y.gguf"));
}

TEST_F(Gguf, HadamardTransformsAreUndoneInTheWeights) {
  const ToyModel toy = even_mamba();
  const std::string plain = write_model(toy);
  const Tensor expected = logits(plain);
  const std::string model = artifact(toy, [](Block& block) {
    Linear* out_proj = block.linears().back();
    Site& site = block.site(out_proj->site);
    site.transform.stages = {make_hadamard(out_proj->weight.size(1))};
    const Tensor rotated = site.transform.apply(out_proj->weight.values());
    WeightScheme scheme;
    scheme.granularity = Granularity::kChannel;
    out_proj->weight.set(round_to_nearest(rotated, scheme));
    site.quantizer = ActivationQuantizer::per_token(8);
  });
  const OpenModel open = open_model(model, {}, at::kCPU);
  const ExportResult done = [&] {
    fs::remove(directory_ / "x.gguf");
    return format().write(open, target(directory_ / "x.gguf", {}));
  }();
  EXPECT_EQ(done.json["undone_transforms"], 2);
  EXPECT_EQ(done.json["sites_not_rounded"], 2);
  EXPECT_GT(done.json["types"]["Q8_0"]["sqnr_db"].get<double>(), 40);
  EXPECT_NE(done.text.find("activations are not rounded"), std::string::npos);
  EXPECT_NE(done.text.find("Hadamard"), std::string::npos);
  EXPECT_GT(sqnr_db(expected, logits(read())), 25);
}

TEST_F(Gguf, WhatHasNoHomeIsRefused) {
  const std::string rotated = artifact(testing::toy_llama(even_llama()), [](Block& block) {
    block.sites().front()->transform.stages = {BlockRotation{at::eye(16), 0}};
  });
  EXPECT_NE(why_not(rotated).find("--method gptq or smoothquant"), std::string::npos) << why_not(rotated);
  ToyModel yarn = testing::toy_llama({});
  yarn.config["rope_parameters"] = {
      {"rope_type", "yarn"}, {"factor", 4}, {"original_max_position_embeddings", 8}};
  EXPECT_NE(why_not(write_model(yarn)).find("the rope type \"yarn\""), std::string::npos);
  ToyModel biased = testing::toy_llama({.biases = true, .qk_norm = true});
  biased.config.erase("mlp_bias");
  for (int i = 0; i < 2; ++i) {
    for (const char* linear : {"gate_proj", "up_proj", "down_proj"})
      biased.tensors.erase("model.layers." + std::to_string(i) + ".mlp." + linear + ".bias");
  }
  EXPECT_NE(why_not(write_model(biased)).find("o_proj.bias: has no place"), std::string::npos);
}

TEST_F(Gguf, ValuesThatFloat16ScalesDoNotHoldAreAnError) {
  ToyModel toy = testing::toy_llama(even_llama());
  toy.tensors.at("model.layers.1.mlp.up_proj.weight")[0][0] = 1e8F;
  const OpenModel open = open_model(write_model(toy), {}, at::kCPU);
  EXPECT_ERROR(format().write(open, target(directory_ / "x.gguf", {{"type", "q4_0"}})), ExitCode::kFailed,
               "up_proj.weight: has values that Q4_0 does not hold");
  EXPECT_FALSE(fs::exists(directory_ / "x.gguf"));
  EXPECT_EQ(directory_.list(), (std::vector<std::string>{"m"})) << "an unfinished file is left";
}

TEST_F(Gguf, SlidingWindowsLimitTheContext) {
  ToyModel mistral = testing::toy_llama(even_llama());
  testing::declare(mistral, "mistral");
  mistral.config["sliding_window"] = 16;
  const Json done = write(write_model(mistral), {});
  EXPECT_NE(done["notes"].dump().find("sliding window"), std::string::npos);
  EXPECT_EQ(read().model->context_limit(), 16);
}

TEST_F(Gguf, FilesWithOtherTensorsOrKeysAreErrors) {
  write(write_model(testing::toy_llama(even_llama())), {{"type", "f32"}});
  const std::string whole = directory_.read("x.gguf");
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = whole;
    text.replace(text.find(from), from.size(), to);
    directory_.write("x.gguf", text);
  };
  with("blk.1.ffn_up.weight", "blk.1.ffn_uq.weight");
  EXPECT_ERROR(read(), ExitCode::kFailed, "the tensor blk.1.ffn_uq.weight is not one of llama");
  with("llama.block_count", "llama.clock_count");
  EXPECT_ERROR(read(), ExitCode::kFailed, "the key llama.clock_count is not known");
  std::string other = whole;
  other.replace(other.find("llama"), 5, "gemma");
  directory_.write("x.gguf", other);
  EXPECT_ERROR(read(), ExitCode::kFailed, "the architecture \"gemma\" is not read");
  EXPECT_FALSE(format().is_at(directory_ / "m"));
  EXPECT_TRUE(format().is_at(directory_ / "x.gguf"));
}

}  // namespace
}  // namespace ptq
