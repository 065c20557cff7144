// What configurations say of attention, and how much of it shapes tell.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ptq/base/json.h"

namespace ptq {

// A count from 1 to 2^31. Throws Error for another, and if the key is missing.
int64_t read_count(JsonFields& fields, const char* key);

struct Heads {
  int64_t queries = 0;   // H
  int64_t keys = 0;      // K, divides H
  int64_t channels = 0;  // D of each, even
};

// From the configuration's num_attention_heads and the rows that the projections have. Throws Error where
// what is stated under num_key_value_heads or head_dim is not what the rows say.
Heads read_heads(JsonFields& fields, int64_t hidden, int64_t q_rows, int64_t kv_rows);

// The same, where one linear gives queries, keys and values: `rows` of them together. num_key_value_heads is
// read, or is that of the queries.
Heads read_joined_heads(JsonFields& fields, int64_t hidden, int64_t rows);

}  // namespace ptq
