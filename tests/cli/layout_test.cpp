// The forms in which people have one and the same model on disk: each is read as the sample model, with its
// perplexity, or the message says what lies there.
#include <bit>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>

#include "cli/cli.h"

namespace ptq {
namespace {

struct StoredBytes {
  std::string dtype;
  Json shape;
  std::string bytes;
};
using Tensors = std::map<std::string, StoredBytes>;

Tensors tensors_of(const std::string& file) {
  uint64_t length = 0;
  for (size_t i = 0; i < 8; ++i) length |= uint64_t{static_cast<uint8_t>(file[i])} << (8 * i);
  const Json header = parse_json(file.substr(8, length), "header");
  Tensors tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    const auto begin = entry["data_offsets"][0].get<size_t>(), end = entry["data_offsets"][1].get<size_t>();
    tensors[name] = {entry["dtype"].get<std::string>(), entry["shape"],
                     file.substr(8 + length + begin, end - begin)};
  }
  return tensors;
}

std::string file_of(const Tensors& tensors, const std::string& metadata = "") {
  std::string data, header;
  for (const auto& [name, tensor] : tensors) {
    const Json entry = {{"dtype", tensor.dtype},
                        {"shape", tensor.shape},
                        {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    header += (header.empty() ? "" : ",") + Json(name).dump() + ":" + entry.dump();
    data += tensor.bytes;
  }
  return testing::safetensors("{" + metadata + header + "}", data);
}

class Layout : public Cli {
 protected:
  const std::string llama_ = PTQ_TEST_DATA "/llama-1m";
  const Tensors tensors_ = [this] {
    std::ostringstream text;
    text << std::ifstream(llama_ + "/model.safetensors", std::ios::binary).rdbuf();
    return tensors_of(text.str());
  }();
  const Words text_ = {"--text", eval_, "--seq-len", "64", "--max-tokens", "128"};

  Layout() {
    std::filesystem::create_directory(directory_ / "m");
    for (const char* name : {"config.json", "tokenizer.json"}) {
      std::ostringstream text;
      text << std::ifstream(llama_ + "/" + name).rdbuf();
      directory_.write(std::string("m/") + name, text.str());
    }
  }

  Tensors renamed(const std::function<std::string(const std::string&)>& name_of) const {
    Tensors result;
    for (const auto& [name, tensor] : tensors_) result[name_of(name)] = tensor;
    return result;
  }
  // The tensors up to and after the middle.
  std::pair<Tensors, Tensors> halves() const {
    Tensors first, second;
    for (const auto& [name, tensor] : tensors_)
      (first.size() < tensors_.size() / 2 ? first : second)[name] = tensor;
    return {first, second};
  }
  // The two as shards in m/, and an index of them that `change` has changed.
  void write_shards(
      const Tensors& first, const Tensors& second,
      const std::function<void(Json&)>& change = [](Json&) {}) const {
    Json map = Json::object();
    for (const auto& [name, tensor] : first) map[name] = "model-00001-of-00002.safetensors";
    for (const auto& [name, tensor] : second) map[name] = "model-00002-of-00002.safetensors";
    change(map);
    directory_.write("m/model-00001-of-00002.safetensors", file_of(first));
    directory_.write("m/model-00002-of-00002.safetensors", file_of(second));
    directory_.write("m/model.safetensors.index.json", Json({{"weight_map", map}}).dump());
  }
  Json perplexity(const std::string& model) const {
    return run_json(Words{"eval", model} + text_)["perplexity"];
  }
  void expect_sample_model(const std::string& model) const {
    EXPECT_EQ(perplexity(model), perplexity(llama_)) << model;
  }
  std::string notes(const std::string& model) const {
    return run_json({"inspect", model, "--no-scan"})["notes"].dump();
  }
  void expect_eval_refused(const std::string& model, const Words& words) const {
    expect_error(Words{"eval", model} + text_, 1, words);
  }
};

TEST_F(Layout, SingleFileWinsOverOtherShardsWithAWarning) {
  Tensors noise = tensors_;
  for (auto& [name, tensor] : noise) std::fill(tensor.bytes.begin(), tensor.bytes.end(), '\x11');
  Tensors second;
  second.insert(noise.extract("model.norm.weight"));
  write_shards(noise, second);
  directory_.write("m/model.safetensors", file_of(tensors_));
  expect_sample_model("m");
  const ProcessResult result = run_well(Words{"m", "--method", "rtn", "-o", "q"} + small_);
  EXPECT_NE(result.err.find("warning: model.safetensors is read; model.safetensors.index.json"),
            std::string::npos)
      << result.err;
  EXPECT_NE(report("q")["warnings"].dump().find("model.safetensors.index.json"), std::string::npos);
  const Json plan = run_json(Words{"plan", "m", "--method", "rtn", "-o", "r"} + small_);
  EXPECT_NE(plan["warnings"].dump().find("model.safetensors.index.json"), std::string::npos);
}

TEST_F(Layout, OtherTensorsInTwoFormsAreAnErrorThatNamesBoth) {
  const auto [first, second] = halves();
  write_shards(first, second);
  Tensors fewer = tensors_;
  fewer.erase("model.layers.3.mlp.up_proj.weight");
  directory_.write("m/model.safetensors", file_of(fewer));
  expect_eval_refused("m", {"model.safetensors and model.safetensors.index.json hold different tensors",
                            "model.layers.3.mlp.up_proj.weight is only in model.safetensors.index.json"});
  Tensors reshaped = tensors_;
  reshaped["model.norm.weight"].shape = {2, 64};
  directory_.write("m/model.safetensors", file_of(reshaped));
  expect_eval_refused("m", {"model.norm.weight is [2,64] in model.safetensors and [128] in"});
}

TEST_F(Layout, FormsOfTwoFormatsWithTheSameTensorsAreNoWarning) {
  directory_.write("m/model.safetensors", file_of(tensors_));
  directory_.write("m/pytorch_model.bin", file_of(tensors_));
  const ProcessResult result = run_well(Words{"eval", "m"} + text_);
  EXPECT_EQ(result.err.find("warning"), std::string::npos) << result.err;
  EXPECT_NE(notes("m").find("pytorch_model.bin"), std::string::npos);
}

TEST_F(Layout, IndexThatOmitsAStoredTensorOrListsABufferIsRead) {
  const auto [first, second] = halves();
  Tensors more = second;
  more["extra.inv_freq"] = {"F32", {1}, std::string(4, '\0')};
  write_shards(first, more, [](Json& map) {
    map.erase("extra.inv_freq");
    map.erase("model.norm.weight");
  });
  EXPECT_NE(notes("m").find("2 tensors are stored that the index does not list: extra.inv_freq, model.norm"),
            std::string::npos)
      << notes("m");
  write_shards(first, second, [](Json& map) {
    map["lm_head.weight"] = "model-00002-of-00002.safetensors";
    map["model.layers.0.self_attn.rotary_emb.inv_freq"] = "model-00001-of-00002.safetensors";
  });
  expect_sample_model("m");
  EXPECT_NE(notes("m").find("2 tensors that the index lists are not stored"), std::string::npos)
      << notes("m");
}

TEST_F(Layout, IndexThatListsALayerThatIsNotStoredIsAnError) {
  auto [first, second] = halves();
  const auto taken = second.extract("model.layers.3.mlp.up_proj.weight");
  write_shards(first, second, [](Json& map) {
    map["model.layers.3.mlp.up_proj.weight"] = "model-00002-of-00002.safetensors";
  });
  expect_eval_refused("m",
                      {"\"model.layers.3.mlp.up_proj.weight\" is not in model-00002-of-00002.safetensors"});
}

TEST_F(Layout, TiedHeadInTwoShardsIsReadOnceIfItsBytesAreEqual) {
  auto [first, second] = halves();
  first["lm_head.weight"] = second["lm_head.weight"] = tensors_.at("model.embed_tokens.weight");
  write_shards(first, second);
  expect_sample_model("m");
  EXPECT_NE(notes("m").find("lm_head.weight\\\": is a copy of the one in m/model-0000"), std::string::npos)
      << notes("m");
  second["lm_head.weight"].bytes[0] ^= 1;
  write_shards(first, second);
  expect_eval_refused("m", {"lm_head.weight", "is also in m/model-0000", "with other values"});
}

TEST_F(Layout, NamesOfBaseModelsAndWrappersAreReadAsThePublishedOnes) {
  const auto without_model = [](const std::string& name) { return name.substr(sizeof "model." - 1); };
  const std::pair<const char*, std::function<std::string(const std::string&)>> forms[] = {
      {"base model", without_model},
      {"module.model.layers", [](const std::string& name) { return "module." + name; }},
      {"module.layers", [&](const std::string& name) { return "module." + without_model(name); }},
      {"model.language_model.layers",
       [&](const std::string& name) { return "model.language_model." + without_model(name); }},
      {"language_model.model.layers", [](const std::string& name) { return "language_model." + name; }},
      {"_fsdp_wrapped_module.",
       [](std::string name) {
         const size_t number = name.find("layers.");
         if (number != std::string::npos) name.insert(number + sizeof "layers.0", "_fsdp_wrapped_module.");
         return "_fsdp_wrapped_module." + name;
       }},
      {"_orig_mod.", [](std::string name) { return name.insert(sizeof "model." - 1, "_orig_mod."); }},
  };
  for (const auto& [note, name_of] : forms) {
    directory_.write("m/model.safetensors", file_of(renamed(name_of)));
    expect_sample_model("m");
    EXPECT_NE(notes("m").find(note), std::string::npos) << notes("m");
  }
}

TEST_F(Layout, OutputOfABaseModelHasThePublishedNames) {
  directory_.write(
      "m/model.safetensors",
      file_of(renamed([](const std::string& name) { return name.substr(sizeof "model." - 1); })));
  run_well(Words{"m", "--method", "rtn", "--bits", "w8a16", "-o", "q"} + small_);
  run_well(Words{llama_, "--method", "rtn", "--bits", "w8a16", "-o", "r"} + small_);
  EXPECT_EQ(weights("q"), weights("r"));
  run_well({"verify", "q", "--source", "m"});
}

TEST_F(Layout, TiedModelWithTheHeadAloneIsReadAndWrittenAsUsual) {
  directory_.write("m/model.safetensors", file_of(renamed([](const std::string& name) {
                     return name == "model.embed_tokens.weight" ? "lm_head.weight" : name;
                   })));
  expect_sample_model("m");
  run_well(Words{"m", "--method", "rtn", "--bits", "w8a16", "-o", "q"} + small_);
  run_well(Words{llama_, "--method", "rtn", "--bits", "w8a16", "-o", "r"} + small_);
  EXPECT_EQ(weights("q"), weights("r"));
  Json config = read_json_file(directory_ / "m/config.json");
  config["tie_word_embeddings"] = false;
  directory_.write("m/config.json", config.dump());
  expect_eval_refused("m", {"model.embed_tokens.weight"});
}

TEST_F(Layout, OneFileOfAnyNameOrShardsWithoutAnIndexAreRead) {
  for (const char* name : {"m/model.fp16.safetensors", "m/weights.pth", "m/last.ckpt"}) {
    directory_.write(name, file_of(tensors_));
    directory_.write("m/optimizer.pt", "none of ours");
    expect_sample_model("m");
    std::filesystem::remove(directory_ / name);
  }
  const auto [first, second] = halves();
  write_shards(first, second);
  std::filesystem::remove(directory_ / "m/model.safetensors.index.json");
  expect_sample_model("m");
  std::filesystem::remove(directory_ / "m/model-00001-of-00002.safetensors");
  expect_eval_refused("m", {"1 of 2 shards model-N-of-2.safetensors are there", "number 1"});
}

TEST_F(Layout, FolderWithoutACheckpointIsDescribed) {
  directory_.write("m/model.gguf", "GGUF");
  expect_eval_refused("m",
                      {"no checkpoint in the directory", "there is config.json, model.gguf, tokenizer.json"});
  directory_.write("m/a.pth", file_of(tensors_));
  directory_.write("m/b.safetensors", file_of(tensors_));
  expect_eval_refused("m", {"2 files could be the checkpoint: a.pth, b.safetensors", "name one of them"});
}

TEST_F(Layout, OneShardNamedAloneNamesTheIndex) {
  const auto [first, second] = halves();
  write_shards(first, second);
  const std::string shard = "m/model-00001-of-00002.safetensors";
  expect_eval_refused(shard, {shard, "is shard 1 of 2", "m/model.safetensors.index.json"});
  run_well({"inspect", shard});  // a look at a part is no mistake
}

TEST_F(Layout, AdapterAloneNamesItsBase) {
  directory_.write("a/adapter_config.json", R"({"base_model_name_or_path": "org/base"})");
  Tensors adapter;
  adapter["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"] = {"F32", {1, 1}, "abcd"};
  directory_.write("a/adapter_model.safetensors", file_of(adapter));
  expect_eval_refused("a", {"a LoRA adapter alone", "its base org/base"});
  expect_eval_refused("a/adapter_model.safetensors", {"a LoRA adapter alone"});
}

TEST_F(Layout, PlacesWithoutAModelAreNamedForWhatTheyAre) {
  expect_eval_refused("some-org/some-model",
                      {"no such file", "Hugging Face hub", "hf download some-org/some-model"});
  std::filesystem::create_directories(directory_ / "models--org--name/snapshots");
  expect_eval_refused("models--org--name", {"Hugging Face cache into which nothing was downloaded"});
  std::filesystem::create_directories(directory_ / "models--org--name/snapshots/0abc");
  expect_eval_refused("models--org--name", {"the model lies in models--org--name/snapshots/0abc"});
  std::filesystem::create_symlink("../../blobs/1234",
                                  directory_ / "models--org--name/snapshots/0abc/model.safetensors");
  expect_eval_refused("models--org--name/snapshots/0abc",
                      {"snapshots/0abc/model.safetensors: is a symbolic link to ../../blobs/1234"});
}

TEST_F(Layout, DownloadsThatAreNotTheFileAreNamedForWhatTheyAre) {
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
  directory_.write("m/model.safetensors", pointer);
  expect_eval_refused("m", {"model.safetensors: a Git LFS pointer", "git lfs pull"});
  directory_.write("m/model.safetensors", "<!DOCTYPE html><html><body>Sign in</body></html>");
  expect_eval_refused("m", {"model.safetensors: an HTML page", "download the file again"});
  directory_.write("m/model.safetensors", R"({"error": "Access to model org/name is restricted"})");
  expect_eval_refused("m", {"a server's message", "Access to model org/name is restricted"});
  directory_.write("m/model.safetensors", R"({"a": 1, "b": {"c": 2}})");
  expect_eval_refused("m", {"a JSON document with the keys \"a\", \"b\" and no weight_map"});
  directory_.write("m/model.safetensors", "Invalid username or password.");
  expect_eval_refused("m", {"is text that begins with \"Invalid username or password.\""});
  directory_.write("m/model.safetensors", file_of(tensors_));
  directory_.write("m/tokenizer.json", pointer);
  expect_eval_refused("m", {"tokenizer.json: a Git LFS pointer"});
  directory_.write("m/config.json", pointer);
  expect_eval_refused("m", {"config.json: a Git LFS pointer"});
}

TEST_F(Layout, NullMetadataIsRead) {
  directory_.write("m/model.safetensors", file_of(tensors_, R"("__metadata__":null,)"));
  expect_sample_model("m");
}

TEST_F(Layout, DoublePrecisionIsReadAndWrittenAsSingle) {
  Tensors wide = tensors_;
  StoredBytes& norm = wide["model.norm.weight"];
  norm.dtype = "F64";
  norm.bytes.clear();
  for (int i = 0; i < 128; ++i) norm.bytes += testing::le(std::bit_cast<uint64_t>(1.0 + i / 1024.0));
  directory_.write("m/model.safetensors", file_of(wide));
  norm.dtype = "F32";
  norm.bytes.clear();
  for (int i = 0; i < 128; ++i)
    norm.bytes += testing::le(std::bit_cast<uint32_t>(1.0F + static_cast<float>(i) / 1024.0F));
  std::filesystem::copy(directory_ / "m", directory_ / "single");
  directory_.write("single/model.safetensors", file_of(wide));
  EXPECT_EQ(perplexity("m"), perplexity("single"));
  const Words run_of_m = Words{"m", "--method", "rtn", "--bits", "w8a16", "-o", "q"} + small_;
  const Json planned = run_json(Words{"plan"} + run_of_m);
  run_well(run_of_m);
  run_well(Words{"single", "--method", "rtn", "--bits", "w8a16", "-o", "r"} + small_);
  EXPECT_EQ(weights("q"), weights("r"));
  EXPECT_EQ(planned["output"]["bytes"], report("q")["output"]["bytes"]);
  run_well({"verify", "q", "--source", "m"});
}

TEST_F(Layout, InfinityInAConfigurationIsWrittenBackAsItWasRead) {
  directory_.write("m/model.safetensors", file_of(tensors_));
  std::string config = directory_.read("m/config.json");
  config.insert(1,
                R"("time_step_limit": [0.0, Infinity, -Infinity, NaN], "other": {"__float__": "Infinity"},)");
  directory_.write("m/config.json", config);
  expect_sample_model("m");
  run_well(Words{"m", "--method", "rtn", "-o", "q"} + small_);
  const std::string written = directory_.read("q/config.json");
  EXPECT_NE(written.find("0.0,\n  Infinity,\n  -Infinity,\n  NaN\n"), std::string::npos) << written;
  EXPECT_NE(written.find("\"__float__\": \"Infinity\""), std::string::npos) << written;
  run_well({"verify", "q", "--source", "m"});
  run_well(Words{"eval", "q"} + text_);
  run_well(Words{"m", "--method", "rtn", "-o", "q", "--force"} + small_);
}

TEST_F(Layout, RepeatedKeyInAConfigurationCountsLastWithAWarning) {
  directory_.write("m/model.safetensors", file_of(tensors_));
  std::string config = directory_.read("m/config.json");
  config.insert(1, R"("rms_norm_eps": 0.5,)");
  directory_.write("m/config.json", config);
  expect_sample_model("m");
  run_well(Words{"m", "--method", "rtn", "-o", "q"} + small_);
  EXPECT_NE(report("q")["warnings"].dump().find("rms_norm_eps\\\" occurs twice"), std::string::npos);
  EXPECT_EQ(read_json_file(directory_ / "q/config.json")["rms_norm_eps"], 1e-5);
}

// Long enough for the file to be cut off before the last block is read.
const Words kSlowRun = {"--method", "gptq", "--samples", "64", "--seq-len", "256"};

TEST_F(Layout, WeightsThatShrinkWhileTheyAreReadAreNamed) {
  directory_.write("m/model.safetensors",
                   file_of(renamed([](const std::string& name) { return "module." + name; })));
  ProcessOptions options;
  options.truncate_file = directory_ / "m/model.safetensors";
  options.truncate_after = "are read as";  // the note on the names, before any weight is read
  const ProcessResult result = run(Words{"m"} + kSlowRun + Words{"--calib", calib_, "-o", "q"}, options);
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_NE(result.err.find("error: m/model.safetensors: the file shrank from "), std::string::npos)
      << result.err;
  EXPECT_EQ(directory_.list(), Words{"m"});
}

TEST_F(Layout, RunWhoseWeightsShrankGoesOnWhenTheyAreBack) {
  const std::string path = directory_.write("m/model.safetensors", file_of(tensors_));
  const Words arguments = Words{"m"} + kSlowRun + Words{"--calib", calib_, "-v", "--save-every", "0"};
  ProcessOptions options;
  options.truncate_file = path;
  options.truncate_after = "block 1 of 4 is kept";
  const ProcessResult result = run(arguments + Words{"-o", "q"}, options);
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_EQ(directory_.list(), (Words{".q.partial", "m"}));
  directory_.write("m/model.safetensors", file_of(tensors_));
  const ProcessResult last = run_well(arguments + Words{"-o", "q", "--resume"});
  EXPECT_NE(last.err.find("going on after block "), std::string::npos) << last.err;
  run_well(arguments + Words{"-o", "r"});
  EXPECT_EQ(weights("q"), weights("r"));
}

}  // namespace
}  // namespace ptq
