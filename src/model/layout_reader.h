// What every architecture does to make a layout of a checkpoint and its configuration.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/attention_config.h"
#include "model/layout.h"
#include "model/reading.h"

namespace ptq {

// Reads what is asked for. Every key that was asked for is done; finish() refuses the others, or warns.
class LayoutReader {
 public:
  // `architecture` is what messages call it; `layers` begins the names of its blocks ("model.layers.").
  // Reads the sizes that every configuration states, the start token, and whether the head is the embedding
  // (`tied` if the configuration does not say). Throws Error if there is no configuration, a layer is
  // missing, or the embedding has other sizes than stated.
  LayoutReader(const WeightSource& source, std::string architecture, std::string embedding,
               std::string layers, bool tied);

  ModelLayout model;
  JsonFields fields;
  int64_t hidden = 0, num_layers = 0;

  const WeightSource& source() const { return source_; }
  bool stores(const std::string& tensor) const { return source_.find(tensor) != nullptr; }
  // "model.layers.3"
  std::string layer(int64_t index) const { return layers_ + std::to_string(index); }
  // How many rows the matrix `tensor` has. Throws Error if it is missing.
  int64_t rows(const std::string& tensor) const { return need(source_, tensor, 2).shape[0]; }

  // A count, or `fallback` if the key is missing.
  int64_t count(const char* key, int64_t fallback);
  // A number above 0, or `fallback` if the key is missing.
  double positive(const char* key, double fallback);
  // The same, but a null, a false and a 0 switch off what it is for: 0.
  double positive_or_off(const char* key, double fallback);
  // Between 0 and 1.
  double eps(const char* key, double fallback);
  // A list of `size` numbers; of ones if the key is missing.
  std::vector<double> numbers(const char* key, size_t size);
  // What the configuration says of a bias, or `fallback`. Throws Error if it says none and `bias` is stored.
  bool bias(const char* key, bool fallback, const std::string& tensor) {
    return reads_bias(source_, fields, key, fallback, tensor);
  }
  // See read_rope(). The context limit must have been read.
  Rope rope(int64_t head_dim, std::optional<double> partial = {});
  // The type of each layer under `key`, each one of `known`; empty if the key is missing. Older names of
  // types are given as the newer ones.
  std::vector<std::string> layer_types(const char* key, const std::vector<std::string>& known);

  // Whether each layer is in the list of indices under `key`; none is if the key is missing.
  std::vector<bool> listed_layers(const char* key);

  // `harmless`: keys that change nothing here; shell patterns.
  ModelLayout finish(const std::vector<const char*>& harmless = {});

 private:
  const WeightSource& source_;
  std::string architecture_, layers_;
};

}  // namespace ptq
