// Whether an artifact is whole: quantization_config, the stored tensors and the architecture must name the
// same things. An entry that went missing would else be a transform that is not applied, and a model that
// runs and is wrong.
#include <algorithm>
#include <set>

#include "artifact/reader.h"
#include "artifact/transform_io.h"
#include "ptq/artifact/format.h"
#include "ptq/base/error.h"
#include "ptq/base/suggest.h"
#include "ptq/model/listed_source.h"

namespace ptq {
namespace {

constexpr size_t kMostNames = 5;  // in a message

std::string list_of(const std::set<std::string>& names) {
  std::string text;
  size_t count = 0;
  for (const std::string& name : names) {
    if (count++ == kMostNames) return text + " and " + std::to_string(names.size() - kMostNames) + " more";
    text += (text.empty() ? "" : ", ") + name;
  }
  return text;
}

// The first key that is none of the names.
std::string unknown_key(const Json& object, const std::set<std::string>& names) {
  for (const auto& [key, value] : object.items()) {
    if (!names.contains(key)) return key;
  }
  return "";
}

// Steps that rewrite or round activations leave an entry in each block; those that round or correct weights
// leave none.
bool recipe_leaves_entries(const Json& recipe) {
  const Json steps = recipe.value("steps", Json::array());
  return std::any_of(steps.begin(), steps.end(), [](const Json& step) {
    const Json name = step.is_object() ? step.value("step", Json()) : Json();
    return name != "rtn" && name != "gptq" && name != "low_rank";
  });
}

bool recipe_rewrites(const Json& recipe) {
  const Json steps = recipe.value("steps", Json::array());
  return std::any_of(steps.begin(), steps.end(), [](const Json& step) {
    const Json name = step.is_object() ? step.value("step", Json()) : Json();
    return name != "rtn" && name != "gptq" && name != "low_rank" && name != "activations";
  });
}

}  // namespace

void ArtifactSource::check_earlier_block(Block& block, BlockForm& first) const {
  BlockForm form;
  bool rewritten = false;
  for (const Site* site : block.sites()) {
    const std::string key = site_key(block.prefix(), site->name);
    if (!sites_.contains(key)) continue;
    const Json& entry = sites_.at(key);
    const size_t stages =
        entry.value("transform", Json::array()).size() + (entry.contains("hadamard") ? 1 : 0);
    const bool smoothed = checkpoint_.find(key + ".smooth") != nullptr;
    rewritten = rewritten || stages > 0 || smoothed;
    if (entry.value("quantizer", Json()) == "none" && stages == 0 && !smoothed)
      throw Error(key, "has an entry in quantization_config that does nothing: a part of it is missing");
    form[site->name] = {entry.value("quantizer", Json()).dump(), stages};
  }
  const bool missing =
      (form.empty() && recipe_leaves_entries(recipe_)) || (!rewritten && recipe_rewrites(recipe_));
  if (missing) {
    throw Error(block.prefix(), "has no entry in quantization_config's sites for what the recipe's steps did",
                "the artifact is damaged; quantize the model again");
  }
  if (first.empty()) first = form;
  if (form == first) return;
  throw Error(block.prefix(), "has other entries in quantization_config's sites than the first block",
              "the artifact is damaged; quantize the model again");
}

void ArtifactSource::check_complete() const {
  const std::string where = checkpoint_.path() + ": quantization_config";
  const ListedSource shapes(*this);
  const std::unique_ptr<Model> model = find_architecture(shapes, checkpoint_.path()).make(shapes);
  std::set<std::string> unnamed, layers, sites;
  for (const TensorInfo& info : checkpoint_.tensors()) unnamed.insert(info.name);
  BlockForm first;
  for (int64_t i = 0; i < model->num_blocks(); ++i) {
    const std::unique_ptr<Block> block = model->load_block(i);
    for (const Linear* linear : block->linears()) layers.insert(linear->name);
    for (const Site* site : block->sites()) {
      const std::string key = site_key(block->prefix(), site->name);
      sites.insert(key);
      if (sites_.contains(key)) {
        for (const std::string& name : site_tensors(key)) unnamed.erase(name);
      } else if (version_ >= kListsAll && site->kind != kStateSite) {
        throw Error(where + ".sites", "\"" + key + "\" is missing",
                    "the artifact is damaged; quantize the model again");
      }
    }
    if (version_ < kListsAll) check_earlier_block(*block, first);
  }
  const auto expect_known = [&](const char* list, const Json& entries, const std::set<std::string>& names) {
    const std::string key = unknown_key(entries, names);
    if (!key.empty())
      throw Error(where + "." + list, "the model has no \"" + key + "\"",
                  suggest(key, {names.begin(), names.end()}));
  };
  expect_known("sites", sites_, sites);
  expect_known("corrections", corrections_, layers);
  for (const auto& [name, scheme] : schemes_) {
    if (!shapes.asked().contains(name)) throw Error(where + ".weights", "the model has no \"" + name + "\"");
  }
  for (const auto& [name, asked] : shapes.asked()) {
    for (const std::string& stored : weight_tensors(name)) {
      if (checkpoint_.find(stored) == nullptr)
        throw Error(stored, "is missing from the artifact", "it is damaged; quantize the model again");
      unnamed.erase(stored);
    }
  }
  for (const auto& [layer, entry] : corrections_.items()) {
    for (const std::string& stored : correction_tensors(layer)) unnamed.erase(stored);
  }
  if (!unnamed.empty()) {
    throw Error(checkpoint_.path(),
                "stores what neither quantization_config nor the architecture names: " + list_of(unnamed),
                "the artifact is damaged; quantize the model again");
  }
  if (version_ < kListsAll) return;
  const std::string hash = config_hash(checkpoint_.config().at("quantization_config"));
  if (hash != sha256_) {
    throw Error(where,
                "has the SHA-256 " + hash + "; its entry \"sha256\" says " + sha256_ +
                    ": it was changed after it was written",
                "quantize the model again");
  }
}

std::vector<std::string> ArtifactSource::weight_tensors(const std::string& name) const {
  const auto scheme = schemes_.find(name);
  if (scheme == schemes_.end()) return {name};
  const bool mxint = scheme->second.format == NumberFormat::kMxint;
  std::vector<std::string> names = {scheme->second.is_packed() ? name + kPackedSuffix : name,
                                    name + (mxint ? kExponentSuffix : kScaleSuffix)};
  if (!scheme->second.symmetric) names.push_back(name + kZeroSuffix);
  return names;
}

std::vector<std::string> ArtifactSource::correction_tensors(const std::string& layer) const {
  std::vector<std::string> names;
  for (const std::string& factor : {layer + kLoraASuffix, layer + kLoraBSuffix}) {
    names.push_back(factor);
    const TensorInfo* info = checkpoint_.find(factor);
    if (info != nullptr && info->dtype == DType::kI8) names.push_back(factor + kScaleSuffix);
  }
  return names;
}

std::vector<std::string> ArtifactSource::site_tensors(const std::string& key) const {
  const Json& entry = sites_.at(key);
  if (!entry.is_object()) return {};
  std::vector<std::string> names = transform_tensors(entry.value("transform", Json::array()), key);
  if (entry.value("quantizer", Json()) == "static") names.push_back(key + ".scale");
  if (is_smooth(key)) names.push_back(key + ".smooth");
  return names;
}

bool ArtifactSource::is_smooth(const std::string& key) const {
  if (version_ < kListsAll) return checkpoint_.find(key + ".smooth") != nullptr;
  return sites_.at(key).value("smooth", Json()) == true;
}

}  // namespace ptq
