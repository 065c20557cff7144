// Tensors that the model of an architecture does not read.
#include <algorithm>

#include "ptq/base/error.h"
#include "ptq/base/pattern.h"
#include "ptq/model/listed_source.h"
#include "ptq/model/model.h"

namespace ptq {
namespace {

constexpr size_t kMostListed = 6;

// What programs store beside weights and compute again themselves.
constexpr const char* kHarmless[] = {"*rotary_emb.inv_freq",   "*rotary_emb.original_inv_freq",
                                     "*rotary_emb.cos_cached", "*rotary_emb.sin_cached",
                                     "*attention.masked_bias", "*attn.masked_bias",
                                     "*position_ids",          "*_extra_state"};

// True if the tensor is stored once with one that is read, or is equal to the embedding or the head.
bool is_copy(const WeightSource& source, const ListedSource& listed, const std::string& name) {
  const std::vector<int64_t>& shape = source.find(name)->shape;
  for (const auto& [other, asked] : listed.asked()) {
    if (asked.shape != shape) continue;
    if (source.tied(name, other)) return true;
    const bool outer = asked.role == Role::kEmbedding || asked.role == Role::kHead;
    if (!outer || source.device().is_meta()) continue;
    if (at::equal(source.read(name, asked.role, shape).values(),
                  source.read(other, asked.role, shape).values()))
      return true;
  }
  return false;
}

}  // namespace

void expect_all_read(const ArchitectureEntry& entry, const WeightSource& source, const std::string& path) {
  const ListedSource listed(source);
  const std::unique_ptr<Model> model = entry.make(listed);
  for (int64_t i = 0; i < model->num_blocks(); ++i) model->load_block(i);
  std::string list;
  size_t count = 0;
  for (const std::string& name : source.names()) {
    const auto matches = [&](const char* pattern) { return matches_pattern(pattern, name); };
    const bool harmless = std::any_of(std::begin(kHarmless), std::end(kHarmless), matches) ||
                          std::any_of(entry.left_aside.begin(), entry.left_aside.end(), matches);
    if (harmless || listed.asked().contains(name) || is_copy(source, listed, name)) continue;
    if (++count <= kMostListed) list += (count == 1 ? "" : ", ") + name;
  }
  if (count == 0) return;
  if (count > kMostListed) list += ", ...";
  throw Error(path,
              std::to_string(count) + (count == 1 ? " tensor is" : " tensors are") + " not used by a " +
                  entry.name + " model, so this is another one: " + list,
              "--ignore-tensors PATTERN leaves out what is known not to matter, e.g. --ignore-tensors '" +
                  list.substr(0, list.find(',')) + "'");
}

}  // namespace ptq
