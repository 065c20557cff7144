#include "ptq/tokenizer/tokenizer.h"

#include <algorithm>
#include <functional>
#include <mutex>
#include <utility>

#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/interrupt.h"
#include "ptq/base/json.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/component.h"
#include "tokenizer/decoder.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/post_processor.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/unicode.h"

namespace ptq {
namespace {

// Hands out working memory, so that calls from several threads share neither locks nor caches while they
// work, and later calls find the words of earlier ones.
class ScratchPool {
 public:
  class Lease {
   public:
    explicit Lease(ScratchPool& pool) : pool_(pool), scratch_(pool.take()) {}
    ~Lease() { pool_.give_back(std::move(scratch_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    BpeScratch& operator*() { return *scratch_; }

   private:
    ScratchPool& pool_;
    std::unique_ptr<BpeScratch> scratch_;
  };

 private:
  std::unique_ptr<BpeScratch> take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<BpeScratch>();
    auto scratch = std::move(free_.back());
    free_.pop_back();
    return scratch;
  }

  void give_back(std::unique_ptr<BpeScratch> scratch) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(scratch));
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<BpeScratch>> free_;
};

// The object at `key` of the file, or null.
const Json& part(JsonFields& file, const std::string& key) {
  static const Json kNull;
  return file.has(key) ? file.at(key) : kNull;
}

class BpeTokenizer : public Tokenizer {
 public:
  BpeTokenizer(JsonFields& file, const std::string& where)
      : normalizer_(make_normalizer(part(file, "normalizer"), where + ": normalizer")),
        pre_tokenizers_(make_pre_tokenizers(part(file, "pre_tokenizer"), where + ": pre_tokenizer")),
        bpe_(make_bpe(file.at("model"), where + ": model", pre_tokenizers_.yields_bytes)),
        added_(part(file, "added_tokens"), bpe_.vocabulary(), normalizer_.get(), where + ": added_tokens"),
        post_processor_(part(file, "post_processor"), where + ": post_processor",
                        [this](int64_t id) { return token(id) != nullptr; }),
        decoder_(make_decoder(part(file, "decoder"), where + ": decoder")) {}

  std::vector<int64_t> encode(std::string_view text, bool add_special) const override {
    std::string replaced;
    if (valid_utf8_prefix(text) != text.size()) {
      replaced = replace_invalid_utf8(text);
      text = replaced;
    }
    ScratchPool::Lease scratch(pool_);
    std::vector<int64_t> ids;
    ids.reserve(text.size() / 3 + 16);
    if (add_special) ids = post_processor_.before();
    for (const Segment& segment : added_.in_raw_text().split(text)) {
      if (segment.id >= 0) {
        ids.push_back(segment.id);
      } else {
        encode_between(segment, *scratch, ids);
      }
    }
    if (add_special) ids.insert(ids.end(), post_processor_.after().begin(), post_processor_.after().end());
    return ids;
  }

  std::string decode(const std::vector<int64_t>& ids, bool skip_special) const override {
    std::vector<std::string> tokens;
    tokens.reserve(ids.size());
    size_t total_bytes = 0;
    for (const int64_t id : ids) {
      const std::string* found = token(id);
      if (found == nullptr || (skip_special && added_.is_special(id))) continue;
      tokens.push_back(*found);
      total_bytes += found->size();
    }
    if (decoder_ != nullptr) decoder_->apply(tokens, growth_limit(total_bytes));
    std::string text;
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0 && decoder_ == nullptr) text.push_back(' ');
      text += tokens[i];
    }
    return text;
  }

  int64_t vocab_size() const override { return std::max(bpe_.vocabulary().max_id(), added_.max_id()) + 1; }

 private:
  static Bpe make_bpe(const Json& json, const std::string& where, bool takes_bytes) {
    Component model(json, where);
    return Bpe(model, takes_bytes);
  }

  const std::string* token(int64_t id) const {
    const std::string* added = added_.token(id);
    return added != nullptr ? added : bpe_.vocabulary().token(id);
  }

  // Ids of raw text between two added tokens.
  void encode_between(const Segment& raw, BpeScratch& scratch, std::vector<int64_t>& ids) const {
    NormalizedText normalized{{}, raw.begin == 0, growth_limit(raw.text.size())};
    std::string_view text = raw.text;
    if (normalizer_ != nullptr) {
      normalized.text = raw.text;
      normalizer_->apply(normalized);
      text = normalized.text;
    }
    PieceStore store;
    for (const Segment& segment : added_.in_normalized_text().split(text)) {
      throw_if_interrupted();
      if (segment.id >= 0) {
        ids.push_back(segment.id);
        continue;
      }
      std::vector<Piece> pieces{{segment.text, normalized.at_start && segment.begin == 0}};
      for (const auto& step : pre_tokenizers_.steps) step->apply(pieces, store);
      for (const Piece& piece : pieces) {
        throw_if_interrupted();
        bpe_.encode(piece.text, scratch, ids);
      }
      store.clear();
    }
  }

  std::unique_ptr<Normalizer> normalizer_;
  PreTokenizerChain pre_tokenizers_;
  Bpe bpe_;
  AddedTokens added_;
  PostProcessor post_processor_;
  std::unique_ptr<TokenDecoder> decoder_;
  mutable ScratchPool pool_;
};

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::from_file(const std::string& path) {
  return from_json(read_file(path, JsonLimits().max_bytes), path);
}

std::unique_ptr<Tokenizer> Tokenizer::from_json(std::string_view json, const std::string& where) {
  const Json document = parse_json(json, where);
  Component file(document, where);
  if (const std::string version = file.string("version", "1.0"); version != "1.0") {
    throw Error(where, "version \"" + version + "\" of tokenizer.json; only 1.0 is known");
  }
  // They shape batches for other programs; text is encoded whole here.
  file.has("truncation");
  file.has("padding");
  auto tokenizer = std::make_unique<BpeTokenizer>(file, where);
  file.refuse_others();
  return tokenizer;
}

}  // namespace ptq
