// Reading the "model" object of tokenizer.json. Every id and part is checked here, so that encoding need not.
#include <bit>
#include <utility>

#include "ptq/base/error.h"
#include "tokenizer/bpe.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/unicode.h"

namespace ptq {

std::string byte_fallback_name(unsigned char byte) {
  constexpr char kHex[] = "0123456789ABCDEF";
  return {'<', '0', 'x', kHex[byte >> 4], kHex[byte & 15], '>'};
}

namespace {

std::string element_path(const std::string& list, size_t index) {
  return list + "[" + std::to_string(index) + "]";
}

// The two parts of a merge: ["a", "b"] or "a b".
std::pair<std::string, std::string> parts_of(const Json& merges, size_t index, const std::string& where) {
  const Json& merge = merges[index];
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  }
  if (merge.is_string()) {
    const auto& text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  }
  throw Error(element_path(where, index), "expected \"left right\" or [\"left\", \"right\"]");
}

bool is_fallback(const std::string& token) {
  return token.size() == 6 && token.starts_with("<0x") && token.ends_with('>');
}

// A field that must be null or empty: no known model of ours sets it.
void refuse_affix(Component& model, const std::string& key) {
  if (!model.string(key, "").empty()) {
    throw Error(model.path() + "." + key, "\"" + model.string(key, "") + "\" is not supported");
  }
}

}  // namespace

void MergeTable::reserve(size_t count) {
  slots_.assign(std::bit_ceil(2 * count + 2), Slot{});
  mask_ = slots_.size() - 1;
}

void MergeTable::set(uint32_t left, uint32_t right, Merge merge) {
  const uint64_t pair = pair_of(left, right);
  size_t i = start(pair);
  while (slots_[i].merge != kNoMerge && slots_[i].pair != pair) i = (i + 1) & mask_;
  slots_[i] = {pair, merge};
}

Bpe::Bpe(Component& model, bool takes_bytes) : takes_bytes_(takes_bytes) {
  // Files of the first years do not name the type.
  if (const std::string type = model.string("type", "BPE"); type != "BPE") {
    throw Error(model.path(), "unknown model \"" + type + "\"",
                "BPE or Unigram; " + std::string(kIdsNeedNoTokenizer));
  }
  if (model.number("dropout", 0) != 0) {
    throw Error(model.path() + ".dropout", "merges are dropped at random: the ids would not be reproducible");
  }
  refuse_affix(model, "continuing_subword_prefix");
  refuse_affix(model, "end_of_word_suffix");
  ignore_merges_ = model.boolean("ignore_merges", false);
  fuse_unk_ = model.boolean("fuse_unk", false);
  byte_fallback_ = model.boolean("byte_fallback", false);
  read_vocabulary(model.at("vocab"), model.path() + ".vocab");
  index_characters();
  read_merges(model.at("merges"), model.path() + ".merges");
  if (model.has("unk_token")) {
    unk_id_ = find(model.required_string("unk_token"));
    if (unk_id_ == kNoId) {
      throw Error(model.path() + ".unk_token",
                  "\"" + model.string("unk_token", "") + "\" is not in the vocabulary");
    }
  }
  model.refuse_others();
}

void Bpe::read_vocabulary(const Json& vocab, const std::string& where) {
  if (!vocab.is_object()) throw Error(where, std::string("expected an object, found ") + vocab.type_name());
  vocabulary_.reserve(vocab.size());
  for (const auto& [token, id] : vocab.items()) {
    // A number above INT64_MAX would turn negative, which add() refuses as well.
    if (!id.is_number_integer()) {
      throw Error(where,
                  "the id of \"" + token + "\" is " + std::string(id.type_name()) + ", not an integer");
    }
    vocabulary_.add(token, id.get<int64_t>(), where);
  }
}

void Bpe::read_merges(const Json& merges, const std::string& where) {
  if (!merges.is_array()) throw Error(where, std::string("expected an array, found ") + merges.type_name());
  merges_.reserve(merges.size());
  uint32_t rank = 0;
  for (size_t i = 0; i < merges.size(); ++i) {
    // The first line of a merges.txt, which old converters took over.
    if (merges[i].is_string() && merges[i].get_ref<const std::string&>().starts_with("#version")) continue;
    const auto [left, right] = parts_of(merges, i, where);
    const auto id_of = [&](const std::string& token) {
      const uint32_t id = find(token);
      if (id == kNoId) throw Error(element_path(where, i), "\"" + token + "\" is not in the vocabulary");
      return id;
    };
    const uint32_t left_id = id_of(left);
    const uint32_t right_id = id_of(right);
    merges_fallback_ = merges_fallback_ || is_fallback(left) || is_fallback(right);
    merges_.set(left_id, right_id, make_merge(rank++, id_of(left + right)));
  }
}

void Bpe::index_characters() {
  for (int byte = 0; byte < 256; ++byte) {
    const auto at = static_cast<size_t>(byte);
    fallback_ids_[at] = find(byte_fallback_name(static_cast<unsigned char>(byte)));
    if (takes_bytes_) {
      single_ids_[at] = find(byte_character(static_cast<unsigned char>(byte)));
    } else {
      single_ids_[at] = byte < 0x80 ? find(std::string(1, static_cast<char>(byte))) : kNoId;
    }
  }
}

}  // namespace ptq
