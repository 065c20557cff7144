#include "checkpoint/names.h"

#include <algorithm>
#include <array>
#include <set>

#include "checkpoint/bytes.h"

namespace ptq {
namespace {

constexpr std::string_view kHead = "lm_head.weight";
constexpr std::string_view kLayers = "layers.";
// Components that wrappers put anywhere in a name.
constexpr std::array<std::string_view, 5> kInnerWrappers = {
    "_fsdp_wrapped_module.", "_orig_mod.", "_checkpoint_wrapped_module.", "_forward_module.", "_fpw_module."};
constexpr std::string_view kModel = "model.", kBackbone = "backbone.", kLanguageModel = "language_model.",
                           kModule = "module.", kDecoder = "decoder.", kModelDecoder = "model.decoder.";
constexpr std::array<std::string_view, 3> kEmbeddings = {"embed_tokens.weight", "embeddings.weight",
                                                         "embedding.weight"};
constexpr size_t kMaxStems = 16;  // more than any checkpoint has; they bound the work on a hostile one

// "a." of "x.a.", "" of "".
std::string_view last_component(std::string_view stem) {
  if (stem.empty()) return stem;
  const size_t dot = stem.find_last_of('.', stem.size() - 2);
  return dot == std::string_view::npos ? stem : stem.substr(dot + 1);
}

// Removes `component` wherever it stands at the begin of one.
bool remove_component(std::string& name, std::string_view component) {
  bool removed = false;
  for (size_t at = name.find(component); at != std::string::npos; at = name.find(component, at)) {
    if (at > 0 && name[at - 1] != '.') {
      ++at;
      continue;
    }
    name.erase(at, component.size());
    removed = true;
  }
  return removed;
}

void remove_inner_wrappers(std::vector<TensorInfo>& tensors, std::vector<std::string>& notes) {
  for (const std::string_view wrapper : kInnerWrappers) {
    size_t count = 0;
    for (TensorInfo& tensor : tensors) count += remove_component(tensor.name, wrapper) ? 1 : 0;
    if (count == 0) continue;
    notes.push_back("\"" + std::string(wrapper) + "\" is left out of the names of " + std::to_string(count) +
                    " of " + std::to_string(tensors.size()) + " tensors");
  }
}

// Where "layers.N." begins in a name; npos if it does not.
size_t layers_at(std::string_view name) {
  for (size_t at = name.find(kLayers); at != std::string_view::npos; at = name.find(kLayers, at + 1)) {
    const size_t number = at + kLayers.size();
    const size_t end = name.find_first_not_of("0123456789", number);
    const bool numbered = end != std::string_view::npos && end > number && name[end] == '.';
    if (numbered && (at == 0 || name[at - 1] == '.')) return at;
  }
  return std::string_view::npos;
}

// How the names of a model's parts begin here, and how they are published.
struct Stem {
  std::string stored;     // of the layers: "module.model."
  std::string outer;      // of what lies beside the decoder, the head: "module."
  std::string published;  // "model."
};

bool has_embedding(const std::vector<TensorInfo>& tensors, const std::string& stem) {
  return std::ranges::any_of(tensors, [&](const TensorInfo& tensor) {
    return std::ranges::any_of(kEmbeddings, [&](std::string_view embedding) {
      return tensor.name.size() == stem.size() + embedding.size() && tensor.name.starts_with(stem) &&
             tensor.name.ends_with(embedding);
    });
  });
}

bool can_be_decoder(const std::vector<TensorInfo>& tensors, const std::string& stem) {
  const std::string_view last = last_component(stem);
  if (last == kModel || last == kBackbone || last == kLanguageModel || last == kDecoder) return true;
  const bool is_bare = stem.empty() || last == kModule;
  return is_bare && has_embedding(tensors, stem);
}

// The stems of everything that could be the decoder.
std::vector<std::string> decoder_stems(const std::vector<TensorInfo>& tensors) {
  std::set<std::string> stems;
  for (const TensorInfo& tensor : tensors) {
    const size_t at = layers_at(tensor.name);
    if (at != std::string::npos && stems.size() < kMaxStems) stems.insert(tensor.name.substr(0, at));
  }
  std::vector<std::string> decoders;
  for (const std::string& stem : stems) {
    if (can_be_decoder(tensors, stem)) decoders.push_back(stem);
  }
  return decoders;
}

// Layers of state-space models have a mixer and lie in a backbone.
bool has_mixers(const std::vector<TensorInfo>& tensors, const std::string& stem) {
  return std::ranges::any_of(tensors, [&](const TensorInfo& tensor) {
    const size_t at = layers_at(tensor.name);
    if (at != stem.size() || !tensor.name.starts_with(stem)) return false;
    const size_t part = tensor.name.find('.', at + kLayers.size()) + 1;
    return std::string_view(tensor.name).substr(part).starts_with("mixer.");
  });
}

Stem published_stem(const std::vector<TensorInfo>& tensors, const std::string& stored) {
  const std::string_view last = last_component(stored);
  if (last == kDecoder) {  // OPT's
    const bool whole = stored.ends_with(kModelDecoder);
    return {stored, stored.substr(0, stored.size() - (whole ? kModelDecoder : kDecoder).size()),
            std::string(kModelDecoder)};
  }
  if (last == kModel || last == kBackbone)
    return {stored, stored.substr(0, stored.size() - last.size()), std::string(last)};
  return {stored, stored, std::string(has_mixers(tensors, stored) ? kBackbone : kModel)};
}

std::string published_name(const std::string& name, const Stem& stem) {
  const bool in_outer = name.starts_with(stem.outer);
  if (in_outer && std::string_view(name).substr(stem.outer.size()).starts_with("lm_head."))
    return name.substr(stem.outer.size());
  if (name.starts_with(stem.stored)) return stem.published + name.substr(stem.stored.size());
  return in_outer ? name.substr(stem.outer.size()) : name;
}

std::string_view first_component(std::string_view name) {
  return name.substr(0, name.find('.'));
}

void drop_what_lies_beside(std::vector<TensorInfo>& tensors, const Stem& stem,
                           std::vector<std::string>& notes) {
  constexpr size_t kShown = 5;
  size_t count = 0;
  std::string list;
  for (TensorInfo& tensor : tensors) {
    if (first_component(tensor.name) == first_component(stem.outer) || tensor.name == kHead) continue;
    if (count++ < kShown) list += (list.empty() ? "" : ", ") + printable(tensor.name);
    tensor.name.clear();
  }
  if (count == 0) return;
  notes.push_back("not read, because they lie beside the model \"" + printable(stem.outer) + "\": " + list +
                  (count > kShown ? ", ..." : ""));
}

void publish_stem(std::vector<TensorInfo>& tensors, const Stem& stem, bool in_training_checkpoint,
                  std::vector<std::string>& notes) {
  if (in_training_checkpoint && !stem.outer.empty()) drop_what_lies_beside(tensors, stem, notes);
  for (TensorInfo& tensor : tensors) {
    if (!tensor.name.empty()) tensor.name = published_name(tensor.name, stem);
  }
  notes.push_back("the names of " + std::string(stem.stored.empty() ? "a base model, " : "the layers, ") +
                  "\"" + printable(stem.stored) + "layers...\", are read as \"" + stem.published +
                  "layers...\"");
}

bool states_untied(const Json& config) {
  if (!config.is_object()) return false;
  for (const char* key : {"tie_word_embeddings", "tie_embeddings"}) {
    if (config.contains(key)) return config.at(key) == false;
  }
  return false;
}

}  // namespace

void publish_names(std::vector<TensorInfo>& tensors, bool in_training_checkpoint,
                   std::vector<std::string>& notes) {
  remove_inner_wrappers(tensors, notes);
  const std::vector<std::string> stems = decoder_stems(tensors);
  if (stems.size() > 1) {
    std::string list;
    for (const std::string& stem : stems)
      list += (list.empty() ? "\"" : " and \"") + printable(stem) + "layers...\"";
    notes.push_back("the names " + list + " could each be a model's; they are read as they are");
  }
  if (stems.size() != 1) return;
  const Stem stem = published_stem(tensors, stems.front());
  if (stem.stored != stem.published) publish_stem(tensors, stem, in_training_checkpoint, notes);
}

void publish_tied_embedding(std::vector<TensorInfo>& tensors, const Json& config,
                            std::vector<std::string>& notes) {
  if (states_untied(config)) return;
  const auto head =
      std::ranges::find_if(tensors, [](const TensorInfo& tensor) { return tensor.name == kHead; });
  if (head == tensors.end()) return;
  const std::vector<std::string> stems = decoder_stems(tensors);
  if (stems.size() != 1 || has_embedding(tensors, stems.front())) return;
  std::string embedding;
  if (stems.front() == kModel) embedding = "model.embed_tokens.weight";
  if (stems.front() == kBackbone) embedding = "backbone.embeddings.weight";
  if (embedding.empty()) return;
  head->name = embedding;
  notes.push_back(std::string(kHead) + " is read as " + embedding +
                  ", which is not stored: the two are tied");
}

bool may_be_absent(std::string_view name) {
  constexpr std::array<std::string_view, 6> kEnds = {"lm_head.weight", ".inv_freq",       ".masked_bias",
                                                     ".attn.bias",     ".attention.bias", "._extra_state"};
  return std::ranges::any_of(kEnds, [&](std::string_view end) { return name.ends_with(end); });
}

bool holds_experts(const TensorInfo& tensor) {
  constexpr std::array<std::string_view, 2> kEnds = {".block_sparse_moe.input_linear.weight",
                                                     ".block_sparse_moe.output_linear.weight"};
  constexpr int64_t kMostExperts = 4096;
  const std::vector<int64_t>& shape = tensor.shape;
  return shape.size() == 3 && shape[0] <= kMostExperts && tensor.num_elements() > 0 &&
         std::ranges::any_of(kEnds, [&](std::string_view end) { return tensor.name.ends_with(end); });
}

std::string expert_name(const std::string& name, int64_t expert) {
  constexpr std::string_view kWeight = ".weight";
  return name.substr(0, name.size() - kWeight.size()) + "." + std::to_string(expert) + std::string(kWeight);
}

}  // namespace ptq
