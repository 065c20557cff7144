#include "export/gguf/pre_tokenizers.h"

#include <vector>

#include "ptq/base/error.h"

namespace ptq {
namespace {

constexpr char kAdvice[] = "--tokenizer none: llama.cpp then takes token ids only";

// The words of src/llama-vocab.cpp, with the splits of tokenizer.json that give the same pieces.
constexpr char kGpt2[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr char kLlama3[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kQwen2[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Json byte_level(bool use_regex) {
  return {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

Json split(const char* pattern) {
  return {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
}

Json digits() {
  return {{"type", "Digits"}, {"individual_digits", true}};
}

struct Row {
  const char* pre;
  std::vector<Json> steps;
  bool ignore_merges = false;
};

// The first row of a name is the one that is read back.
const std::vector<Row>& rows() {
  static const std::vector<Row> all = {{"gpt-2", {byte_level(true)}},
                                       {"gpt-2", {split(kGpt2), byte_level(false)}},
                                       {"smollm", {digits(), byte_level(true)}},
                                       {"llama-bpe", {split(kLlama3), byte_level(false)}, true},
                                       {"qwen2", {split(kQwen2), byte_level(false)}}};
  return all;
}

// What changes ids: byte-level offsets do not.
Json essence(Json step) {
  step.erase("trim_offsets");
  if (step.value("type", "") == "ByteLevel" && !step.contains("use_regex")) step["use_regex"] = true;
  return step;
}

bool same_steps(const Json& steps, const std::vector<Json>& expected) {
  if (steps.size() != expected.size()) return false;
  for (size_t i = 0; i < expected.size(); ++i) {
    // Unordered comparison: a file may list keys in another order.
    const nlohmann::json a = nlohmann::json::parse(essence(steps[i]).dump());
    const nlohmann::json b = nlohmann::json::parse(essence(expected[i]).dump());
    if (a != b) return false;
  }
  return true;
}

Json steps_of(const Json& pre_tokenizer) {
  if (pre_tokenizer.is_null()) return Json::array();
  if (pre_tokenizer.value("type", "") == "Sequence") return pre_tokenizer.at("pretokenizers");
  return Json::array({pre_tokenizer});
}

const Json& space_normalizer() {
  static const Json all = {{"type", "Sequence"},
                           {"normalizers",
                            {{{"type", "Prepend"}, {"prepend", "▁"}},
                             {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}}}}};
  return all;
}

// Llama 2's words: a "▁" before the text and for each space, by the normalizer or by Metaspace.
bool is_space_kind(const Json& normalizer, const Json& pre_tokenizer) {
  if (pre_tokenizer.is_null()) return normalizer == space_normalizer();
  if (!normalizer.is_null() || pre_tokenizer.value("type", "") != "Metaspace") return false;
  const bool split = pre_tokenizer.value("split", true);
  const std::string scheme = pre_tokenizer.value("prepend_scheme", std::string("always"));
  return pre_tokenizer.value("replacement", "") == "▁" && (scheme == "always" || scheme == "first") && !split;
}

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw Error(where, what, kAdvice);
}

GgufKind byte_level_kind(const Json& tokenizer, const Json& normalizer, const Json& pre,
                         const std::string& where) {
  const bool nfc = normalizer.is_object() && normalizer.value("type", "") == "NFC";
  if (!normalizer.is_null() && !nfc)
    refuse(where, "the normalizer " + normalizer.dump() + " is not llama.cpp's");
  const Json steps = steps_of(pre);
  const bool ignores = tokenizer.at("model").value("ignore_merges", false);
  for (const Row& row : rows()) {
    if (same_steps(steps, row.steps) && ignores == row.ignore_merges) return {"gpt2", row.pre, nfc};
  }
  refuse(where, "llama.cpp's name for the pre-tokenizer " + pre.dump() +
                    (ignores ? " with ignore_merges" : "") + " is not known");
}

}  // namespace

GgufKind gguf_kind(const Json& tokenizer, const std::string& where) {
  const Json& model = tokenizer.at("model");
  if (model.value("type", "BPE") != "BPE")
    refuse(where, "a tokenizer of the type " + model.at("type").dump() + " is not written into a GGUF");
  const Json normalizer = tokenizer.value("normalizer", Json()),
             pre = tokenizer.value("pre_tokenizer", Json());
  if (!model.value("byte_fallback", false)) return byte_level_kind(tokenizer, normalizer, pre, where);
  if (is_space_kind(normalizer, pre)) return {"llama", "default"};
  refuse(where, "a tokenizer with bytes as fallback whose words are not Llama 2's");
}

Json tokenizer_of_kind(const std::string& model, const std::string& pre, const std::string& where) {
  if (model == "llama") {
    const Json decoders = {{{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}},
                           {{"type", "ByteFallback"}},
                           {{"type", "Fuse"}},
                           {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}};
    return {{"version", "1.0"},
            {"normalizer", space_normalizer()},
            {"pre_tokenizer", nullptr},
            {"decoder", {{"type", "Sequence"}, {"decoders", decoders}}},
            {"model", {{"type", "BPE"}, {"byte_fallback", true}, {"fuse_unk", true}}}};
  }
  for (const Row& row : rows()) {
    if (model != "gpt2" || pre != row.pre) continue;
    const Json steps = {{"type", "Sequence"}, {"pretokenizers", row.steps}};
    return {{"version", "1.0"},
            {"normalizer", nullptr},
            {"pre_tokenizer", row.steps.size() == 1 ? row.steps.front() : steps},
            {"decoder", byte_level(true)},
            {"model", {{"type", "BPE"}, {"ignore_merges", row.ignore_merges}}}};
  }
  throw Error(where, "the tokenizer " + model + " with the words of " + pre + " is not read",
              "--tokenizer FILE");
}

}  // namespace ptq
