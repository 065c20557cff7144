#include "export/bitsandbytes_config.h"

#include "ptq/base/error.h"
#include "ptq/codec/scheme.h"

namespace ptq {
namespace {

constexpr int64_t kLargestSize = int64_t{1} << 31;  // of a dimension
constexpr size_t kMostStateBytes = 1 << 16;

void expect_value(JsonFields& fields, const char* key, const Json& expected) {
  if (!fields.has(key) || fields.at(key).is_null() || fields.at(key) == expected) return;
  throw Error(fields.path() + "." + key, "is " + fields.at(key).dump() + "; " + expected.dump() + " is read");
}

}  // namespace

void expect_nf4_config(const Json& quantization_config, const std::string& where) {
  JsonFields fields(quantization_config, where);
  const std::string method = fields.string("quant_method", "");
  if (method != kBitsandbytes) throw Error(where + ".quant_method", "is \"" + method + "\"");
  if (!fields.boolean("load_in_4bit", false)) {
    throw Error(where + ".load_in_4bit", "is not true: of bitsandbytes, NF4 in 4 bits is read",
                "the float checkpoint it was made from");
  }
  const std::string type = fields.string("bnb_4bit_quant_type", "fp4");
  if (type != "nf4") throw Error(where + ".bnb_4bit_quant_type", "\"" + type + "\" is not read; \"nf4\" is");
  expect_value(fields, "load_in_8bit", false);
  expect_value(fields, "_load_in_4bit", true);
  expect_value(fields, "_load_in_8bit", false);
  expect_value(fields, "bnb_4bit_quant_storage", "uint8");
  // How loaders compute, and what the tensors tell.
  for (const char* key :
       {"bnb_4bit_compute_dtype", "bnb_4bit_use_double_quant", "llm_int8_enable_fp32_cpu_offload",
        "llm_int8_has_fp16_weight", "llm_int8_skip_modules", "llm_int8_threshold"})
    fields.has(key);
  fields.finish(ExitCode::kFailed);
}

Json nf4_config_json(const std::vector<std::string>& in_float) {
  return {{"quant_method", kBitsandbytes},
          {"load_in_4bit", true},
          {"load_in_8bit", false},
          {"bnb_4bit_quant_type", "nf4"},
          {"bnb_4bit_compute_dtype", "float32"},
          {"bnb_4bit_use_double_quant", false},
          {"bnb_4bit_quant_storage", "uint8"},
          {"llm_int8_skip_modules", in_float}};
}

Nf4State read_nf4_state(std::string_view bytes, const std::string& where) {
  if (bytes.size() > kMostStateBytes) {
    throw Error(where, "has " + std::to_string(bytes.size()) + " bytes; at most " +
                           std::to_string(kMostStateBytes) + " are read");
  }
  const Json json = parse_json(bytes, where);
  JsonFields fields(json, where);
  const std::string type = fields.string("quant_type", "");
  if (type != "nf4") throw Error(where + ".quant_type", "\"" + type + "\" is not read; \"nf4\" is");
  const int64_t block = fields.integer("blocksize", 0);
  if (block != kNf4Group) {
    throw Error(where + ".blocksize", "blocks of " + std::to_string(block) + " are not read; of " +
                                          std::to_string(kNf4Group) + " are");
  }
  fields.has("dtype");
  Nf4State state;
  const Json& shape = fields.at("shape");
  if (!shape.is_array() || shape.size() != 2)
    throw Error(where + ".shape", "is " + shape.dump() + "; a weight has two dimensions");
  for (const Json& size : shape) {
    if (!size.is_number_integer() || size < 1 || size > kLargestSize)
      throw Error(where + ".shape", "is " + shape.dump());
    state.shape.push_back(size.get<int64_t>());
  }
  if (state.shape[1] % kNf4Group != 0) {
    throw Error(where, "rows of " + std::to_string(state.shape[1]) + " values, between which blocks of " +
                           std::to_string(kNf4Group) + " lie, are not read");
  }
  if (fields.has("nested_blocksize")) {
    state.nested_blocksize = fields.integer("nested_blocksize", 0);
    if (state.nested_blocksize < 1 || state.nested_blocksize > kLargestSize)
      throw Error(where + ".nested_blocksize", "is " + std::to_string(state.nested_blocksize));
    state.nested_offset = fields.number("nested_offset", 0);
    fields.has("nested_dtype");
  }
  fields.finish(ExitCode::kFailed);
  return state;
}

std::string nf4_state_text(int64_t out, int64_t in, const char* dtype) {
  const Json json = {{"quant_type", "nf4"}, {"blocksize", kNf4Group}, {"dtype", dtype}, {"shape", {out, in}}};
  return json.dump();
}

}  // namespace ptq
