#include "model/reading.h"

#include <charconv>
#include <cmath>
#include <set>

namespace ptq {
namespace {

constexpr int64_t kMostLayers = 1'000'000;

// The i of every tensor "PREFIX<i>....".
std::set<int64_t> layer_indices(const WeightSource& source, const std::string& prefix) {
  std::set<int64_t> indices;
  for (const std::string& name : source.names()) {
    if (!name.starts_with(prefix)) continue;
    int64_t index = -1;
    const char* const begin = name.data() + prefix.size();
    const auto [end, failed] = std::from_chars(begin, name.data() + name.size(), index);
    if (failed == std::errc() && *end == '.' && index >= 0 && index < kMostLayers) indices.insert(index);
  }
  return indices;
}

// "0 to 2, 4 to 7"; the first few ranges of a hostile file.
std::string ranges_text(const std::set<int64_t>& indices) {
  constexpr size_t kMostRanges = 8;
  std::string text;
  size_t ranges = 0;
  for (auto first = indices.begin(); first != indices.end();) {
    auto last = first;
    auto next = std::next(first);
    while (next != indices.end() && *next == *last + 1) last = next++;
    if (++ranges > kMostRanges) return text + ", ...";
    text += (text.empty() ? "" : ", ") + std::to_string(*first);
    if (last != first) text += " to " + std::to_string(*last);
    first = next;
  }
  return text;
}

}  // namespace

Error missing_tensor(const std::string& name) {
  return Error(name, "the tensor is missing from the checkpoint",
               "the whole checkpoint: a file of several is named alone, or one is missing or cut short");
}

const TensorInfo& need(const WeightSource& source, const std::string& name, size_t dimensions) {
  const TensorInfo* info = source.find(name);
  if (info == nullptr) throw missing_tensor(name);
  if (info->shape.size() != dimensions) {
    throw Error(name, "has shape " + shape_text(info->shape) + "; " + std::to_string(dimensions) +
                          " dimensions are needed");
  }
  for (const int64_t size : info->shape) {
    if (size <= 0) throw Error(name, "has shape " + shape_text(info->shape) + " with an empty dimension");
  }
  return *info;
}

std::string config_place(const JsonFields& fields, const std::string& key) {
  return fields.path() + (fields.path().find(':') == std::string::npos ? ": " : ".") + key;
}

void expect_equal(JsonFields& fields, std::initializer_list<const char*> keys, int64_t from_shapes) {
  for (const char* key : keys) {
    if (!fields.has(key) || fields.at(key) == "auto") continue;
    const int64_t stated = fields.integer(key, 0);
    if (stated != from_shapes) {
      throw Error(
          config_place(fields, key),
          "is " + std::to_string(stated) + ", but the tensors' shapes say " + std::to_string(from_shapes),
          "the configuration belongs to another checkpoint; --config names the right one");
    }
  }
}

int64_t count_layers(const WeightSource& source, const std::string& prefix, const Json& config,
                     std::initializer_list<const char*> keys) {
  const std::set<int64_t> there = layer_indices(source, prefix);
  if (there.empty()) throw missing_tensor(prefix + "0");
  static const Json nothing = Json::object();
  JsonFields fields(config.is_object() ? config : nothing, "config.json");
  int64_t count = *there.rbegin() + 1;
  for (const char* key : keys) {
    if (!fields.has(key)) continue;
    count = fields.integer(key, 0);
    if (static_cast<int64_t>(there.size()) == count && *there.rbegin() == count - 1) continue;
    const bool too_many = *there.rbegin() >= count;
    throw Error(config_place(fields, key),
                "is " + std::to_string(count) + ", but the checkpoint has the layers " + ranges_text(there) +
                    " (" + prefix + "*)",
                too_many
                    ? "--config names the configuration of this checkpoint; --ignore-tensors \"" + prefix +
                          std::to_string(std::max<int64_t>(count, 0)) + ".*\" leaves out a layer"
                    : "the whole checkpoint: a file of several is named alone, or one is missing");
  }
  if (static_cast<int64_t>(there.size()) != count)
    throw Error(prefix + "*", "the checkpoint has the layers " + ranges_text(there) + ", and none between",
                "the whole checkpoint: a file of several is missing");
  return count;
}

void expect_silu(JsonFields& fields, const char* architecture) {
  const std::string act = fields.string("hidden_act", "silu");
  if (act == "silu" || act == "swish") return;
  throw Error(config_place(fields, "hidden_act"),
              Json(act).dump() + " is not supported; " + architecture + " uses silu");
}

bool reads_bias(const WeightSource& source, JsonFields& fields, const std::string& key, bool fallback,
                const std::string& bias) {
  const bool reads = fields.boolean(key, fallback);
  if (reads || source.find(bias) == nullptr) return reads;
  throw Error(config_place(fields, key),
              std::string(fields.has(key) ? "is false" : "is not stated, which means false") + ", but " +
                  bias + " is stored, and other programs would leave it out",
              "a configuration with \"" + key +
                  "\": true if the model was trained with biases (--config), or "
                  "--ignore-tensors \"*.bias\" to run it without");
}

StartToken::StartToken(JsonFields& fields, int64_t vocab_size) : vocab_size_(vocab_size) {
  if (fields.has("bos_token_id")) stated_ = fields.at("bos_token_id");
}

int64_t StartToken::id() const {
  const Json& first = stated_.is_array() && !stated_.empty() ? stated_[0] : stated_;
  const double number = first.is_number() ? first.get<double>() : -1;
  if (number >= 0 && number < static_cast<double>(vocab_size_) && number == std::floor(number))
    return static_cast<int64_t>(number);
  throw Error("config.json: bos_token_id",
              "is " + stated_.dump() + ", outside the vocabulary of " + std::to_string(vocab_size_) +
                  ", and a text that the model writes itself begins with it",
              "--calib with a text");
}

Linear read_linear(const WeightSource& source, const std::string& name, const std::string& site, int64_t out,
                   int64_t in, bool has_bias) {
  Linear linear;
  linear.name = name;
  linear.site = site;
  linear.weight = source.read(name + ".weight", Role::kLinear, {out, in});
  if (has_bias) linear.bias = source.read(name + ".bias", Role::kBias, {out});
  return linear;
}

Site make_site(const std::string& name, const char* kind) {
  Site site;
  site.name = name;
  site.kind = kind;
  return site;
}

std::vector<Weight*> weights_of(const std::vector<Linear*>& linears) {
  std::vector<Weight*> all;
  for (Linear* linear : linears) {
    all.push_back(&linear->weight);
    if (linear->bias) all.push_back(&*linear->bias);
  }
  return all;
}

FoldEdge edge_between(const std::string& site, Linear& producer, Linear& reader) {
  FoldEdge edge{{site}, {{&producer.weight}}, {&reader}};
  if (producer.bias) edge.producers.push_back({&*producer.bias});
  return edge;
}

int64_t count_parameters(const WeightSource& source, const std::string& left_out) {
  int64_t count = 0;
  for (const std::string& name : source.names()) {
    if (name == left_out) continue;
    count += source.find(name)->num_elements();
  }
  return count;
}

}  // namespace ptq
