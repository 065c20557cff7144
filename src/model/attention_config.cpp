#include "model/attention_config.h"

#include "model/reading.h"

namespace ptq {
namespace {

constexpr int64_t kMaxCount = int64_t{1} << 31;

Error does_not_divide(const std::string& what, int64_t number, const char* by, int64_t divisor) {
  return Error("config.json", what + " is " + std::to_string(number) + ", which is no multiple of " + by +
                                  ", " + std::to_string(divisor));
}

// Of the queries, and of the keys where the configuration says so; 0 where it does not.
Heads stated_heads(JsonFields& fields, int64_t hidden) {
  Heads heads;
  heads.queries = read_count(fields, "num_attention_heads");
  if (fields.has("num_key_value_heads")) {
    heads.keys = read_count(fields, "num_key_value_heads");
    if (heads.queries % heads.keys != 0)
      throw does_not_divide("num_attention_heads", heads.queries, "num_key_value_heads", heads.keys);
  }
  if (!fields.has("head_dim") && hidden % heads.queries != 0)
    throw does_not_divide("hidden_size", hidden, "num_attention_heads", heads.queries);
  return heads;
}

void expect_channels(JsonFields& fields, const Heads& heads, const std::string& linear, int64_t rows) {
  const int64_t stated = fields.has("head_dim") ? read_count(fields, "head_dim") : heads.channels;
  if (stated != heads.channels) {
    throw Error(config_place(fields, "head_dim"), "is " + std::to_string(stated) + ", but " + linear +
                                                      " has " + std::to_string(rows) + " rows for " +
                                                      std::to_string(heads.queries) + " heads");
  }
  if (heads.channels % 2 != 0)
    throw Error("config.json", "heads of " + std::to_string(heads.channels) + " channels cannot be rotated");
}

}  // namespace

int64_t read_count(JsonFields& fields, const char* key) {
  if (!fields.has(key)) fields.at(key);  // throws
  const int64_t value = fields.integer(key, 0);
  if (value >= 1 && value <= kMaxCount) return value;
  throw Error(config_place(fields, key),
              "is " + std::to_string(value) + "; it must lie between 1 and " + std::to_string(kMaxCount));
}

Heads read_heads(JsonFields& fields, int64_t hidden, int64_t q_rows, int64_t kv_rows) {
  Heads heads = stated_heads(fields, hidden);
  if (q_rows % heads.queries != 0)
    throw does_not_divide("the number of q_proj's rows", q_rows, "num_attention_heads", heads.queries);
  heads.channels = q_rows / heads.queries;
  expect_channels(fields, heads, "q_proj", q_rows);
  if (kv_rows % heads.channels != 0)
    throw does_not_divide("the number of k_proj's rows", kv_rows, "head_dim", heads.channels);
  expect_equal(fields, {"num_key_value_heads"}, kv_rows / heads.channels);
  heads.keys = kv_rows / heads.channels;
  if (heads.queries % heads.keys != 0)
    throw does_not_divide("num_attention_heads", heads.queries, "num_key_value_heads", heads.keys);
  return heads;
}

Heads read_joined_heads(JsonFields& fields, int64_t hidden, int64_t rows) {
  Heads heads = stated_heads(fields, hidden);
  if (heads.keys == 0) heads.keys = heads.queries;
  const int64_t all = heads.queries + 2 * heads.keys;
  if (rows % all != 0)
    throw does_not_divide("the number of rows for queries, keys and values", rows, "all their heads", all);
  heads.channels = rows / all;
  expect_channels(fields, heads, "the linear of queries, keys and values", rows);
  return heads;
}

}  // namespace ptq
