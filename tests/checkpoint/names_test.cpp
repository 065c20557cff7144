// publish_names: what wrappers made of names, and what is left as it is.
#include "checkpoint/names.h"

#include <gtest/gtest.h>

#include "builders.h"

namespace ptq {
namespace {

using ::ptq::testing::has;

using Names = std::vector<std::string>;

struct Published {
  Names names, notes;
};

std::vector<TensorInfo> tensors_of(const Names& names) {
  std::vector<TensorInfo> tensors;
  for (const std::string& name : names) tensors.push_back({name, DType::kF32, {1}});
  return tensors;
}

Names names_of(const std::vector<TensorInfo>& tensors) {
  Names names;
  for (const TensorInfo& tensor : tensors) names.push_back(tensor.name);
  return names;
}

Published publish(const Names& names, bool in_training_checkpoint = false) {
  std::vector<TensorInfo> tensors = tensors_of(names);
  Published result;
  publish_names(tensors, in_training_checkpoint, result.notes);
  result.names = names_of(tensors);
  return result;
}

const Names kLlama = {"model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.norm.weight",
                      "lm_head.weight"};
const Names kMamba = {"backbone.embeddings.weight", "backbone.layers.0.mixer.D", "backbone.norm_f.weight",
                      "lm_head.weight"};

TEST(PublishNames, PublishedNamesStayWithoutANote) {
  for (const Names& names :
       {kLlama, kMamba, Names{"gpt_neox.layers.0.x", "gpt_neox.embed_in.weight"},
        Names{"model.decoder.layers.0.x", "model.decoder.embed_tokens.weight"},
        Names{"transformer.h.0.x", "transformer.wte.weight"},
        Names{"layers.0.attention.wq.weight", "tok_embeddings.weight"}, Names{"input_ids"}}) {
    const Published published = publish(names);
    EXPECT_EQ(published.names, names);
    EXPECT_TRUE(published.notes.empty()) << published.notes.front();
  }
}

TEST(PublishNames, WrappersBeforeTheStemAreLeftOut) {
  for (const Names& names : {kLlama, kMamba}) {
    for (const std::string wrapper :
         {"module.", "model.", "net.", "transformer.", "module.model.", "language_model."}) {
      Names wrapped;
      for (const std::string& name : names) wrapped.push_back(wrapper + name);
      const Published published = publish(wrapped);
      EXPECT_EQ(published.names, names) << wrapper;
      ASSERT_EQ(published.notes.size(), 1U);
      EXPECT_TRUE(has(published.notes[0], "\"" + wrapper)) << published.notes[0];
    }
  }
}

TEST(PublishNames, BaseModelsGetTheStemOfTheirKind) {
  EXPECT_EQ(
      publish({"embed_tokens.weight", "layers.0.mlp.up_proj.weight", "norm.weight", "lm_head.weight"}).names,
      kLlama);
  const Published mamba =
      publish({"embeddings.weight", "layers.0.mixer.D", "norm_f.weight", "lm_head.weight"});
  EXPECT_EQ(mamba.names, kMamba);
  ASSERT_EQ(mamba.notes.size(), 1U);
  EXPECT_TRUE(has(mamba.notes[0], "a base model, \"layers...\", are read as \"backbone.layers...\""));
}

TEST(PublishNames, WrappersInTheMiddleAreLeftOut) {
  const Published published = publish({"_orig_mod.model.embed_tokens.weight",
                                       "model.layers.0._fsdp_wrapped_module.mlp._orig_mod.up_proj.weight",
                                       "model.norm.weight", "lm_head.weight"});
  EXPECT_EQ(published.names, kLlama);
  EXPECT_EQ(published.notes.size(), 2U);
  EXPECT_EQ(publish({"model.layers.0.not_orig_mod.x"}).names, Names{"model.layers.0.not_orig_mod.x"});
}

TEST(PublishNames, OtherTowersOfAMultimodalModelKeepTheirNames) {
  EXPECT_EQ(
      publish({"model.language_model.embed_tokens.weight", "model.language_model.layers.0.mlp.up_proj.weight",
               "model.language_model.norm.weight", "lm_head.weight", "model.visual.blocks.0.x"})
          .names,
      (Names{kLlama[0], kLlama[1], kLlama[2], kLlama[3], "model.visual.blocks.0.x"}));
  EXPECT_EQ(publish({"language_model.model.layers.0.mlp.up_proj.weight", "language_model.lm_head.weight",
                     "vision_tower.vision_model.encoder.layers.0.x"})
                .names,
            (Names{kLlama[1], kLlama[3], "vision_tower.vision_model.encoder.layers.0.x"}));
}

TEST(PublishNames, TwoModelsAreLeftAloneAndNoted) {
  const Names names = {"student.model.layers.0.x", "teacher.model.layers.0.x"};
  const Published published = publish(names);
  EXPECT_EQ(published.names, names);
  ASSERT_EQ(published.notes.size(), 1U);
  EXPECT_TRUE(has(published.notes[0], "\"student.model.layers...\" and \"teacher.model.layers...\""));
}

TEST(PublishNames, WhatLiesBesideTheModelOfATrainingCheckpointIsDroppedAndNoted) {
  const Names names = {"model.model.layers.0.mlp.up_proj.weight", "model.lm_head.weight", "loss.weight"};
  const Published published = publish(names, /*in_training_checkpoint=*/true);
  EXPECT_EQ(published.names, (Names{kLlama[1], kLlama[3], ""}));
  ASSERT_EQ(published.notes.size(), 2U);
  EXPECT_TRUE(has(published.notes[0], "beside the model \"model.\": loss.weight"));
  EXPECT_EQ(publish(names).names[2], "loss.weight");
}

TEST(PublishTiedEmbedding, HeadAloneIsTheEmbeddingUnlessItIsStatedUntied) {
  const auto publish_tied = [](const Names& names, const Json& config) {
    std::vector<TensorInfo> tensors = tensors_of(names);
    std::vector<std::string> notes;
    publish_tied_embedding(tensors, config, notes);
    EXPECT_EQ(notes.empty(), names_of(tensors) == names);
    return names_of(tensors).back();
  };
  const Json tied = {{"tie_word_embeddings", true}}, untied = {{"tie_word_embeddings", false}};
  EXPECT_EQ(publish_tied({kLlama[1], "lm_head.weight"}, tied), kLlama[0]);
  EXPECT_EQ(publish_tied({kMamba[1], "lm_head.weight"}, nullptr), kMamba[0]);
  EXPECT_EQ(publish_tied({kLlama[1], "lm_head.weight"}, untied), "lm_head.weight");
  EXPECT_EQ(publish_tied(kLlama, tied), "lm_head.weight");
  EXPECT_EQ(publish_tied({"backbone.embedding.weight", kMamba[1], "lm_head.weight"}, tied), "lm_head.weight");
}

}  // namespace
}  // namespace ptq
