#include "export/gptq_config.h"

#include "ptq/base/error.h"

namespace ptq {
namespace {

constexpr int64_t kLargestGroup = int64_t{1} << 40;

bool has_value(JsonFields& fields, const std::string& key) {
  return fields.has(key) && !fields.at(key).is_null();
}

// What may be there if it asks for nothing.
void expect_nothing(JsonFields& fields, const std::string& key) {
  if (!has_value(fields, key)) return;
  const Json& value = fields.at(key);
  if (value == false || ((value.is_object() || value.is_array()) && value.empty())) return;
  throw Error(fields.path() + "." + key, "what it asks for is not computed by this program",
              "a checkpoint without it");
}

// How codes were found, how loaders compute, and which layers are left in float, which the tensors tell.
void pass_over(JsonFields& fields) {
  for (const char* key : {"act_group_aware",
                          "backend",
                          "batch_size",
                          "block_name_to_quantize",
                          "cache_block_outputs",
                          "cache_examples_on_gpu",
                          "damp_auto_increment",
                          "damp_percent",
                          "dataset",
                          "desc_act",
                          "device",
                          "disable_exllama",
                          "do_fuse",
                          "exllama_config",
                          "fuse_max_seq_len",
                          "max_input_length",
                          "meta",
                          "model_file_base_name",
                          "model_name_or_path",
                          "model_seqlen",
                          "module_name_preceding_first_block",
                          "modules_in_block_to_quantize",
                          "modules_to_fuse",
                          "modules_to_not_convert",
                          "mse",
                          "pad_token_id",
                          "quantizer",
                          "static_groups",
                          "tokenizer",
                          "true_sequential",
                          "use_cuda_fp16",
                          "use_exllama"})
    fields.has(key);
}

int64_t integer_of(JsonFields& fields, const char* key, const char* other, int64_t fallback) {
  const bool first = has_value(fields, key);
  return first || fields.has(other) ? fields.integer(first ? key : other, fallback) : fallback;
}

GptqLayout layout_of(JsonFields& fields, bool is_awq, const std::string& where) {
  const char* const key = is_awq ? "version" : "checkpoint_format";
  std::string format = is_awq ? "gemm" : kGptqMethod;
  for (const char* name : {"format", key}) {
    if (has_value(fields, name)) format = fields.string(name, "");
  }
  for (char& c : format) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (is_awq && format == "gemm") return GptqLayout::kAwq;
  if (!is_awq && format == kGptqMethod) return GptqLayout::kGptqV1;
  if (!is_awq && format == "gptq_v2") return GptqLayout::kGptqV2;
  throw Error(where + "." + key, "\"" + format + "\" is not read", is_awq ? "gemm" : "gptq or gptq_v2");
}

}  // namespace

GptqConfig read_gptq_config(const Json& quantization_config, const std::string& where) {
  JsonFields fields(quantization_config, where);
  const std::string method = fields.string("quant_method", "");
  const bool is_awq = method == kAwqMethod;
  if (!is_awq && method != kGptqMethod) throw Error(where + ".quant_method", "is \"" + method + "\"");
  if (has_value(fields, "method") && fields.at("method") != method)
    throw Error(where + ".method",
                "is " + fields.at("method").dump() + ", and quant_method \"" + method + "\"");
  GptqConfig config;
  config.layout = layout_of(fields, is_awq, where);
  const int64_t bits = integer_of(fields, "bits", "w_bit", 4);
  if (is_awq ? bits != 4 : bits != 2 && bits != 3 && bits != 4 && bits != 8) {
    throw Error(where + ".bits",
                std::to_string(bits) + (is_awq ? " bits; 4 are read" : " bits; 2, 3, 4 and 8 are read"));
  }
  config.scheme.bits = static_cast<int>(bits);
  const int64_t group = integer_of(fields, "group_size", "q_group_size", 128);
  if (group != -1 && (group < 1 || group > kLargestGroup))
    throw Error(where + ".group_size", "is " + std::to_string(group));
  config.scheme.granularity = group == -1 ? Granularity::kChannel : Granularity::kGroup;
  config.scheme.group = group == -1 ? 0 : group;
  const bool sym = fields.boolean("sym", true);
  config.scheme.symmetric = is_awq ? !fields.boolean("zero_point", true) : sym;
  if (has_value(fields, "pack_dtype") && fields.at("pack_dtype") != "int32")
    throw Error(where + ".pack_dtype", fields.at("pack_dtype").dump() + " is not read", "int32");
  for (const char* key : {"dynamic", "activation", "adapter", "lm_head", "rotation", "is_marlin_format"})
    expect_nothing(fields, key);
  pass_over(fields);
  fields.finish(ExitCode::kFailed);
  return config;
}

Json gptq_config_json(const GptqConfig& config) {
  const WeightScheme& scheme = config.scheme;
  const int64_t group = scheme.granularity == Granularity::kGroup ? scheme.group : -1;
  if (config.layout == GptqLayout::kAwq) {
    return {{"quant_method", kAwqMethod},
            {"bits", scheme.bits},
            {"group_size", group},
            {"zero_point", !scheme.symmetric},
            {"version", "gemm"}};
  }
  return {{"quant_method", kGptqMethod},
          {"bits", scheme.bits},
          {"group_size", group},
          {"sym", scheme.symmetric},
          {"desc_act", false},
          {"checkpoint_format", config.layout == GptqLayout::kGptqV1 ? kGptqMethod : "gptq_v2"}};
}

}  // namespace ptq
