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
#include "tokenizer/text_cuts.h"
#include "tokenizer/unicode.h"
#include "tokenizer/unigram.h"

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
    WordScratch& operator*() { return *scratch_; }

   private:
    ScratchPool& pool_;
    std::unique_ptr<WordScratch> scratch_;
  };

 private:
  std::unique_ptr<WordScratch> take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<WordScratch>();
    auto scratch = std::move(free_.back());
    free_.pop_back();
    return scratch;
  }

  void give_back(std::unique_ptr<WordScratch> scratch) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(scratch));
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<WordScratch>> free_;
};

// Text that is turned into tokens at a time.
constexpr size_t kPartBytes = size_t{1} << 16;
// A text in which no place to cut is found is gathered in memory. Words and lines are shorter.
constexpr size_t kMaxUncutBytes = size_t{64} << 20;

// The object at `key` of the file, or null.
const Json& part(JsonFields& file, const std::string& key) {
  static const Json kNull;
  return file.has(key) ? file.at(key) : kNull;
}

class FileTokenizer : public Tokenizer {
 public:
  FileTokenizer(JsonFields& file, const std::string& where)
      : normalizer_(make_normalizer(part(file, "normalizer"), where + ": normalizer")),
        pre_tokenizers_(make_pre_tokenizers(part(file, "pre_tokenizer"), where + ": pre_tokenizer")),
        model_(make_model(file.at("model"), where + ": model", pre_tokenizers_.yields_bytes)),
        added_(part(file, "added_tokens"), model_->vocabulary(), normalizer_.get(), where + ": added_tokens"),
        post_processor_(part(file, "post_processor"), where + ": post_processor",
                        [this](int64_t id) { return token(id) != nullptr; }),
        decoder_(make_decoder(part(file, "decoder"), where + ": decoder")),
        cuts_(added_, normalizer_.get(), pre_tokenizers_, *model_) {}

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
    encode_part(text, {}, *scratch, ids);
    if (add_special) ids.insert(ids.end(), post_processor_.after().begin(), post_processor_.after().end());
    return ids;
  }

  std::vector<int64_t> encode_first(const std::function<bool(std::string&)>& read, size_t count,
                                    bool add_special) const override {
    ScratchPool::Lease scratch(pool_);
    std::vector<int64_t> ids;
    if (add_special) ids = post_processor_.before();
    std::string text;
    Part part{.is_last = false};
    while (!part.is_last && ids.size() < count) {
      throw_if_interrupted();
      const size_t cut = read_to_cut(read, text, part);
      part.after_token = encode_part(std::string_view(text).substr(0, cut), part, *scratch, ids);
      part.is_first = false;
      text.erase(0, cut);
    }
    if (part.is_last && add_special)
      ids.insert(ids.end(), post_processor_.after().begin(), post_processor_.after().end());
    ids.resize(std::min(ids.size(), count));
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

  bool is_byte(int64_t id) const override {
    const std::string* found = token(id);
    return found != nullptr && fallback_byte(*found).has_value();
  }

  int64_t own_vocab_size() const override { return model_->vocabulary().max_id() + 1; }
  int64_t vocab_size() const override { return std::max(model_->vocabulary().max_id(), added_.max_id()) + 1; }

 private:
  static std::unique_ptr<WordModel> make_model(const Json& json, const std::string& where, bool takes_bytes) {
    Component model(json, where);
    if (model.string("type", "BPE") == "Unigram") return std::make_unique<Unigram>(model, takes_bytes);
    return std::make_unique<Bpe>(model, takes_bytes);
  }

  const std::string* token(int64_t id) const {
    const std::string* added = added_.token(id);
    return added != nullptr ? added : model_->vocabulary().token(id);
  }

  // Where a part of a text stands in it.
  struct Part {
    bool is_first = true;
    bool is_last = true;
    bool after_token = false;  // the part before ends in an added token
  };

  // Reads on until `text` has enough to be worth it and a place to be cut at, which is returned: the whole of
  // it at the text's end.
  size_t read_to_cut(const std::function<bool(std::string&)>& read, std::string& text, Part& part) const {
    size_t wanted = kPartBytes;
    while (true) {
      while (text.size() < wanted) {
        if (read(text)) continue;
        part.is_last = true;
        return text.size();
      }
      if (const size_t cut = cuts_.last(text); cut > 0) return cut;
      if (cuts_.possible() && text.size() > kMaxUncutBytes) {
        throw Error("tokenizer",
                    std::to_string(text.size()) +
                        " bytes of text without a space or a line that begins with a letter",
                    "a text of words or lines");
      }
      wanted = 2 * text.size();
    }
  }

  // Appends the ids of a part without special tokens around it. Whether it ends in an added token.
  bool encode_part(std::string_view text, const Part& part, WordScratch& scratch,
                   std::vector<int64_t>& ids) const {
    bool in_token = false;
    for (const Segment& segment : added_.in_raw_text().split(text)) {
      in_token = segment.id >= 0;
      if (in_token) {
        ids.push_back(segment.id);
        continue;
      }
      const bool at_front = segment.begin == 0, at_back = segment.begin + segment.text.size() == text.size();
      const bool begins = !at_front || part.is_first || part.after_token;
      NormalizedText normalized{
          {}, at_front && part.is_first, growth_limit(segment.text.size()), begins, !at_back || part.is_last};
      encode_between(segment, normalized, scratch, ids);
    }
    return in_token;
  }

  // Ids of raw text between two added tokens.
  void encode_between(const Segment& raw, NormalizedText& normalized, WordScratch& scratch,
                      std::vector<int64_t>& ids) const {
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
        model_->encode(piece.text, scratch, ids);
      }
      store.clear();
    }
  }

  std::unique_ptr<Normalizer> normalizer_;
  PreTokenizerChain pre_tokenizers_;
  std::unique_ptr<WordModel> model_;
  AddedTokens added_;
  PostProcessor post_processor_;
  std::unique_ptr<TokenDecoder> decoder_;
  TextCuts cuts_;
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
  auto tokenizer = std::make_unique<FileTokenizer>(file, where);
  file.refuse_others();
  return tokenizer;
}

}  // namespace ptq
