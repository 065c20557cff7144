// An output whose quantization_config was changed: reader and verifier must notice whatever is missing from
// it. Most changes are signed, so that the check under test is the one that finds them.
#include <functional>

#include "../base/expect_error.h"
#include "ptq/artifact/format.h"
#include "ptq/base/hash.h"
#include "ptq/verify/verify.h"
#include "workbench.h"

namespace ptq {
namespace {

struct Form {
  const char* architecture;
  const char* method;
  const char* bits;
  std::vector<std::string> sets = {};

  friend void PrintTo(const Form& form, std::ostream* out) {
    *out << form.architecture << " " << form.method << " " << form.bits;
  }
};

// Together they have every kind of entry: static and dynamic scales, groups of heads, scales of smoothing,
// every stage of a transform, transforms without a quantizer, zero points, packed codes, corrections.
const Form kForms[] = {
    {"mamba", "quamba", "w8a8"},
    {"mamba", "smoothquant", "w8a8"},
    {"mamba", "qera", "mxint3"},
    {"mamba2", "quamba", "w8a8"},
    {"mamba2", "smoothquant", "w8a8"},
    {"llama", "duquant", "w4a4", {"duquant.rotation=greedy", "duquant.steps=4", "duquant.signs=random"}},
    {"llama", "duquant", "w4a16", {"duquant.smooth=false", "duquant.permute=false"}},
    {"llama", "rtn", "w4a16"},
    {"llama", "qera", "int4-g32-asym", {"qera.stored=int8"}},
    {"llama", "qera", "nf4"},
};

// Every place below `json`, objects and lists before what they hold.
void collect(const Json& json, const Json::json_pointer at, std::vector<Json::json_pointer>& places) {
  if (json.is_object()) {
    for (const auto& [key, value] : json.items()) {
      places.push_back(at / key);
      collect(value, at / key, places);
    }
  } else if (json.is_array()) {
    for (size_t i = 0; i < json.size(); ++i) {
      places.push_back(at / i);
      collect(json[i], at / i, places);
    }
  }
}

void remove(Json& json, const Json::json_pointer& place) {
  Json& parent = json.at(place.parent_pointer());
  if (parent.is_array()) {
    parent.erase(std::stoul(place.back()));
  } else {
    parent.erase(place.back());
  }
}

class Completeness : public ::testing::TestWithParam<Form> {
 protected:
  Completeness() : bench_(toy()) {
    const Form& form = GetParam();
    Recipe recipe = toy_recipe(form.method, form.bits);
    if (!form.sets.empty()) {
      RecipeOptions options;
      options.method = form.method;
      (find_method(form.method).by_base ? options.base : options.bits) = form.bits;
      options.sets = form.sets;
      options.sets.insert(options.sets.end(), {"samples=8", "seq_len=16"});
      recipe = resolve_recipe(options);
    }
    bench_.run("out", recipe);
    config_ = parse_json(bench_.read("out", "config.json"), "config");
  }

  static ToyModel toy() { return toy_for(GetParam().architecture).make(1); }

  Json quantization() const { return config_.at("quantization_config"); }
  // Writes the output with another quantization_config, and checksums that fit.
  void write(Json quantization, bool sign = true) const {
    if (sign) quantization["sha256"] = config_hash(quantization);
    Json config = config_;
    config["quantization_config"] = quantization;
    const std::string text = config.dump(1) + "\n";
    bench_.write("out", "config.json", text);
    Json report = parse_json(bench_.read("out", "report.json"), "report");
    report["output"]["files"]["config.json"] = text.size();
    bench_.write("out", "report.json", report.dump(1) + "\n");
    std::string sums;
    for (const char* file : {"config.json", "model.safetensors", "report.json"})
      sums += sha256_file(bench_.output("out/" + std::string(file))) + "  " + file + "\n";
    bench_.write("out", "SHA256SUMS", sums);
  }
  Tensor logits() const {
    const OpenModel open = open_model(bench_.output("out"), {}, at::kCPU);
    return logits_of(*open.model, at::arange(20).reshape({1, 20}));
  }
  bool is_read() const {
    try {
      logits();
      return true;
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kFailed) << error.what();
      return false;
    }
  }
  bool is_verified() const { return verify_artifact(bench_.output("out"), "", {}).findings.empty(); }

  const Workbench bench_;
  Json config_;
};

TEST_P(Completeness, NothingCanBeTakenOut) {
  write(quantization());
  ASSERT_TRUE(is_read() && is_verified());
  std::vector<Json::json_pointer> places;
  const Json whole = quantization();
  for (const auto& [key, value] : whole.items()) {
    places.push_back(Json::json_pointer("") / key);
    // What a recipe was is told to people; its hash shows a change.
    if (key != "recipe") collect(value, places.back(), places);
  }
  for (const Json::json_pointer& place : places) {
    if (place.back() == "sha256") continue;
    Json changed = quantization();
    // A Hadamard stage has no tensor: the hash alone shows that there was one.
    const Json& there = changed.at(place);
    const bool hashed = there.is_object() && there.value("type", Json()) == "hadamard";
    remove(changed, place);
    write(changed, /*sign=*/!hashed);
    EXPECT_FALSE(is_read()) << place.to_string();
    EXPECT_FALSE(is_verified()) << place.to_string();
    changed = quantization();
    changed[place] = nullptr;
    write(changed);
    EXPECT_FALSE(is_read()) << place.to_string() << " is null";
    EXPECT_FALSE(is_verified()) << place.to_string() << " is null";
  }
  EXPECT_GT(places.size(), 60U);
}

TEST_P(Completeness, NothingCanBeAdded) {
  std::vector<Json::json_pointer> places = {Json::json_pointer("")};
  for (const char* key : {"weights", "corrections", "sites"}) {
    places.push_back(Json::json_pointer("") / key);
    collect(quantization()[key], places.back(), places);
  }
  for (const Json::json_pointer& place : places) {
    Json changed = quantization();
    if (!changed[place].is_object()) continue;
    changed[place]["surplus"] = changed[place].empty() ? Json::object() : changed[place].front();
    write(changed);
    EXPECT_FALSE(is_read()) << place.to_string();
    EXPECT_FALSE(is_verified()) << place.to_string();
  }
}

TEST_P(Completeness, NothingCanBeChangedUnsigned) {
  std::vector<Json::json_pointer> places;
  collect(quantization(), Json::json_pointer(""), places);
  for (const Json::json_pointer& place : places) {
    Json changed = quantization();
    Json& value = changed[place];
    if (value.is_boolean()) {
      value = !value.get<bool>();
    } else if (value.is_number()) {
      value = value == 0 ? 1 : value.get<double>() / 2;
    } else if (value.is_string()) {
      value = value.get<std::string>() + "x";
    } else {
      continue;
    }
    write(changed, /*sign=*/false);
    EXPECT_FALSE(is_read()) << place.to_string();
    EXPECT_FALSE(is_verified()) << place.to_string();
  }
}

// What version 3 of the format listed.
Json as_version_3(Json quantization) {
  quantization["format_version"] = 3;
  quantization.erase("sha256");
  Json sites = Json::object();
  for (auto& [key, entry] : quantization["sites"].items()) {
    const bool smooth = entry["smooth"].get<bool>(), moved = !entry["transform"].empty();
    if (entry["quantizer"] == "none" && !smooth && !moved) continue;
    Json earlier = entry;
    earlier.erase("smooth");
    if (!moved) earlier.erase("transform");
    sites[key] = earlier;
  }
  quantization["sites"] = sites;
  return quantization;
}

TEST_P(Completeness, VersionThreeIsReadIfItIsWhole) {
  const Tensor before = logits();
  const Json whole = as_version_3(quantization());
  write(whole, /*sign=*/false);
  EXPECT_TRUE(at::equal(logits(), before));
  EXPECT_TRUE(is_verified());
  for (const Json& value : {Json::array(), Json(), Json("none")}) {
    for (const char* list : {"sites", "weights", "corrections"}) {
      Json changed = whole;
      changed[list] = value;
      write(changed, /*sign=*/false);
      EXPECT_FALSE(is_read()) << list << " is " << value;
      EXPECT_FALSE(is_verified()) << list << " is " << value;
    }
  }
  for (const char* list : {"sites", "weights", "corrections"}) {
    Json changed = whole;
    if (changed[list].empty()) continue;
    changed[list] = Json::object();
    write(changed, /*sign=*/false);
    EXPECT_FALSE(is_read()) << list << " is empty";
    for (const auto& [key, entry] : whole[list].items()) {
      changed = whole;
      changed[list].erase(key);
      write(changed, /*sign=*/false);
      EXPECT_FALSE(is_read()) << key;
      EXPECT_FALSE(is_verified()) << key;
      if (!entry.contains("transform")) continue;
      changed = whole;
      changed[list][key].erase("transform");
      write(changed, /*sign=*/false);
      EXPECT_FALSE(is_read()) << key << " without its transform";
      EXPECT_FALSE(is_verified()) << key << " without its transform";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, Completeness, ::testing::ValuesIn(kForms), [](const auto& form) {
  return std::string(form.param.architecture) + "_" + form.param.method + "_" + std::to_string(form.index);
});

TEST(Completeness, StoredTensorThatNothingNamesIsAnError) {
  const Workbench bench(testing::toy_llama(kLlamaSizes[0]));
  bench.run("out", toy_recipe("rtn", "w8a16"));
  const auto checkpoint = open_checkpoint(bench.output("out"));
  TensorMap tensors;
  for (const TensorInfo& info : checkpoint->tensors())
    tensors[info.name] = as_tensor(checkpoint->read(info.name)).clone();
  tensors["model.layers.0.sites.qkv.input.smooth"] = at::ones({24});
  testing::write_safetensors(bench.output("out/model.safetensors"), tensors);
  EXPECT_ERROR(open_model(bench.output("out"), {}, at::kCPU), ExitCode::kFailed,
               "model.layers.0.sites.qkv.input.smooth");
}

}  // namespace
}  // namespace ptq
