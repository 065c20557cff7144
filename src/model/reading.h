// What the architectures share in reading a checkpoint and its configuration.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "ptq/base/error.h"
#include "ptq/base/json.h"
#include "ptq/model/block.h"

namespace ptq {

// The Error of a tensor that a model needs.
Error missing_tensor(const std::string& name);

// The tensor `name`, which must have so many dimensions, none of them empty. Throws Error otherwise.
const TensorInfo& need(const WeightSource& source, const std::string& name, size_t dimensions);

// "config.json: KEY" for a key of the whole configuration, "config.json: OBJECT.KEY" for one inside.
std::string config_place(const JsonFields& fields, const std::string& key);

// The configuration may say a size under any of these keys; if it does, it must be the shape's. Throws Error
// with both numbers otherwise.
void expect_equal(JsonFields& fields, std::initializer_list<const char*> keys, int64_t from_shapes);

// How many layers there are: tensors PREFIX0..., PREFIX1..., as many as the configuration says under one of
// the keys. Throws Error, with the layers there are, if one is missing or is more than the configuration
// says. A null `config` says nothing.
int64_t count_layers(const WeightSource& source, const std::string& prefix, const Json& config,
                     std::initializer_list<const char*> keys);

// "silu" and its other name. Throws Error for another activation.
void expect_silu(JsonFields& fields, const char* architecture);

// What `key` says of biases, or `fallback`. Throws Error if they are not to be read and the tensor `bias` is
// stored all the same: other programs leave it out.
bool reads_bias(const WeightSource& source, JsonFields& fields, const std::string& key, bool fallback,
                const std::string& bias);

// The token a text begins with.
class StartToken {
 public:
  StartToken() = default;
  // What the configuration says under bos_token_id, for a vocabulary of that size; 0 if it says nothing.
  StartToken(JsonFields& fields, int64_t vocab_size);
  // Throws Error if what the configuration says is no token of the vocabulary.
  int64_t id() const;
  // What the configuration says, whatever it is.
  const Json& stated() const { return stated_; }

 private:
  Json stated_ = 0;
  int64_t vocab_size_ = 1;
};

// The layer `name`, weight [out, in], with its bias [out] if it has one.
Linear read_linear(const WeightSource& source, const std::string& name, const std::string& site, int64_t out,
                   int64_t in, bool has_bias);

Site make_site(const std::string& name, const char* kind);

// The weights of the linears in turn, each followed by its bias if it has one.
std::vector<Weight*> weights_of(const std::vector<Linear*>& linears);

// Channel c of `site` is made by row c of `producer` and read by `reader`.
FoldEdge edge_between(const std::string& site, Linear& producer, Linear& reader);

// Elements of all tensors but `left_out`.
int64_t count_parameters(const WeightSource& source, const std::string& left_out);

}  // namespace ptq
