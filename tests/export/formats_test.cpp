#include "ptq/export/formats.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "../base/expect_error.h"
#include "../support/toy_llama.h"
#include "../support/toy_source.h"
#include "write_artifact.h"

namespace ptq {

FormatEntry toy_format();

namespace {

namespace fs = std::filesystem;

Tensor logits_without_corrections(const OpenModel& open) {
  const at::InferenceMode inference;
  Tensor hidden = open.model->embed(testing::toy_ids());
  for (int64_t i = 0; i < open.model->num_blocks(); ++i) {
    const std::unique_ptr<Block> block = open.model->load_block(i);
    for (Linear* linear : block->linears()) linear->correction.reset();
    hidden = block->forward(hidden);
  }
  return open.model->logits(hidden);
}

// The rows of the table, and one that is not in it.
std::vector<FormatEntry> rows() {
  std::vector<FormatEntry> all = formats();
  all.push_back(toy_format());
  return all;
}

enum class Kind { kWeights, kCorrections, kActivations };

class Formats : public ::testing::Test {
 protected:
  Formats() {
    // Rows that blocks of 32 weights fit.
    const testing::ToyModel toy =
        testing::toy_llama({.hidden = 64, .heads = 4, .kv_heads = 2, .intermediate = 96});
    fs::create_directory(directory_ / "m");
    testing::write_safetensors(directory_ / "m/model.safetensors", toy.tensors);
    directory_.write("m/config.json", toy.config.dump());
    directory_.write("m/LICENSE", "free");
  }

  // Weights in 8 bits, and what else `kind` says.
  std::string artifact(Kind kind) const {
    return testing::write_artifact(directory_ / "m", directory_ / "q", [kind](Block& block) {
      for (Linear* linear : block.linears()) {
        const Tensor w = linear->weight.values();
        linear->weight.set(round_to_nearest(w, WeightScheme{}));
        if (kind == Kind::kCorrections) {
          linear->correction = make_low_rank(w.slice(0, 0, 2) * 0.01, w.slice(1, 0, 2) * 0.01, at::kBFloat16);
        }
      }
      if (kind == Kind::kActivations) block.sites().front()->quantizer = ActivationQuantizer::per_token(8);
    });
  }
  static ExportTarget target_of(const FormatEntry& format, const std::string& output) {
    return {output, export_options(format, {})};
  }

  // What a row wrote, and what it put beside it.
  static void remove(const std::string& output) {
    for (const std::string& path : {output, output + "-base", output + "-adapter",
                                    fs::path(output).replace_extension().string() + "-lora.gguf"})
      fs::remove_all(path);
  }

  const TempDirectory directory_;
};

TEST(FormatTable, EveryRowIsWhole) {
  std::set<std::string> names;
  for (const FormatEntry& row : rows()) {
    SCOPED_TRACE(row.name);
    EXPECT_TRUE(names.insert(row.name).second);
    EXPECT_GT(std::string(row.description).size(), 10U);
    ASSERT_NE(row.why_not, nullptr);
    EXPECT_EQ(row.write != nullptr, *row.output != '\0');
    EXPECT_EQ(row.write != nullptr, *row.suffix != '\0');
    EXPECT_EQ(row.open != nullptr, row.is_at != nullptr);
    EXPECT_EQ(row.open == nullptr, row.why_not_opened != nullptr);
    std::set<std::string> options;
    for (const FormatOption& option : row.options) {
      EXPECT_TRUE(options.insert(option.name).second) << option.name;
      EXPECT_FALSE(std::string(option.type).empty() || std::string(option.description).empty());
      EXPECT_FALSE(std::string(option.meaning).empty() && !option.values.empty());
    }
    if (row.name == std::string("toy")) continue;
    EXPECT_EQ(find_format(row.name).name, row.name);
  }
  for (const char* name : {"gguf", "peft", "ptq", "toy"}) EXPECT_TRUE(names.contains(name)) << name;
}

TEST_F(Formats, EachSaysWhyNotOrWritesWhatItOpens) {
  const at::InferenceMode inference;
  const Tensor ids = testing::toy_ids();
  std::multiset<std::string> written;
  for (const Kind kind : {Kind::kWeights, Kind::kCorrections, Kind::kActivations}) {
    const std::string path = artifact(kind);
    const OpenModel whole = open_model(path, {}, at::kCPU), shapes = open_model(path, {}, at::kMeta);
    for (const FormatEntry& row : rows()) {
      SCOPED_TRACE(row.name);
      const std::string output = directory_ / (std::string("out") + row.suffix);
      const ExportTarget target = target_of(row, output);
      const std::string reason = row.why_not(shapes, target);
      EXPECT_EQ(reason, row.why_not(whole, target));
      if (!reason.empty()) continue;
      written.insert(row.name);
      const ExportResult result = row.write(whole, target);
      EXPECT_TRUE(result.json.is_object());
      EXPECT_TRUE(result.text.ends_with("\n"));
      EXPECT_TRUE(fs::exists(output));
      EXPECT_FALSE(fs::exists(output + "/tensors.spool"));
      if (row.open != nullptr) {
        EXPECT_TRUE(row.is_at(output));
        const OpenModel again = row.open(output, {}, at::kCPU);
        EXPECT_TRUE(again.quantized);
        // Where an adapter goes beside the output, the output is what it belongs to.
        const bool base = result.json.value("adapter", Json()).is_string();
        const Tensor expected =
            base ? logits_without_corrections(whole) : testing::logits_of(*whole.model, ids);
        // Some have float16 scales, and a GGUF file weights alone.
        const bool is_gguf = row.name == std::string("gguf"), is_gptq = row.name == std::string("gptq");
        const double tolerance = is_gguf && kind != Kind::kWeights ? 1 : is_gguf || is_gptq ? 5e-3 : 1e-5;
        EXPECT_TRUE(at::allclose(testing::logits_of(*again.model, ids), expected, tolerance, tolerance));
      }
      remove(output);
    }
  }
  EXPECT_EQ(written.count("peft"), 1U);  // of the artifact with corrections
  EXPECT_EQ(written.count("compressed-tensors"), 3U);
  EXPECT_EQ(written.count("gptq"), 2U);  // of all but the one that rounds activations
  EXPECT_EQ(written.count("float"), 3U);
  EXPECT_EQ(written.count("pt"), 3U);
  EXPECT_EQ(written.count("toy"), 1U);   // of the one with weights alone
  EXPECT_EQ(written.count("gguf"), 3U);  // of all, and says what it leaves out
}

TEST_F(Formats, OwnFormatIsWrittenByRunsAndOpened) {
  const std::string path = artifact(Kind::kWeights);
  const FormatEntry& own = find_format("ptq");
  EXPECT_EQ(own.write, nullptr);
  const std::string reason = own.why_not(open_model(path, {}, at::kMeta), {});
  EXPECT_NE(reason.find("is in this format"), std::string::npos) << reason;
  EXPECT_TRUE(own.is_at(path));
  EXPECT_TRUE(own.is_at(path + "/model.safetensors"));
  EXPECT_FALSE(own.is_at(directory_ / "m"));
  EXPECT_FALSE(own.is_at(directory_ / "nowhere"));
  EXPECT_TRUE(open_any_model(path, {}, at::kCPU).quantized);
  EXPECT_FALSE(open_any_model(directory_ / "m", {}, at::kCPU).quantized);
  directory_.write("m/config.json", "{");
  EXPECT_FALSE(own.is_at(directory_ / "m"));
}

TEST_F(Formats, OnTheMetaDeviceSchemesAndSitesAreAsElsewhere) {
  const std::string path = artifact(Kind::kCorrections);
  const OpenModel whole = open_model(path, {}, at::kCPU), shapes = open_model(path, {}, at::kMeta);
  const std::unique_ptr<Block> a = whole.model->load_block(0), b = shapes.model->load_block(0);
  const std::vector<Linear*> expected = a->linears(), linears = b->linears();
  ASSERT_EQ(linears.size(), expected.size());
  for (size_t i = 0; i < linears.size(); ++i) {
    EXPECT_EQ(linears[i]->name, expected[i]->name);
    EXPECT_EQ(linears[i]->weight.quantized()->scheme, expected[i]->weight.quantized()->scheme);
    EXPECT_EQ(linears[i]->correction->rank(), expected[i]->correction->rank());
    EXPECT_TRUE(linears[i]->correction->A.is_meta());
  }
}

TEST(FormatOptions, UnknownNamesAndValuesAreUsageErrors) {
  const FormatEntry toy = toy_format();
  EXPECT_EQ(export_options(toy, {}).at("floats"), "f32");
  EXPECT_EQ(export_options(toy, {{"floats", "f16"}}).at("floats"), "f16");
  EXPECT_ERROR(export_options(toy, {{"floats", "f33"}}), ExitCode::kUsage,
               "--floats: \"f33\" is not a dtype of floats");
  EXPECT_ERROR(export_options(toy, {{"dtype", "f32"}}), ExitCode::kUsage,
               "--dtype: the format toy has no such option");
  EXPECT_ERROR(export_options(find_format("ptq"), {{"dtype", "f32"}}), ExitCode::kUsage, "without it");
  EXPECT_ERROR(find_format("pefd"), ExitCode::kUsage, "did you mean \"peft\"?");
}

}  // namespace
}  // namespace ptq
