// Pre-tokenizers of tokenizer.json: how normalized text is cut into the words that BPE sees.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ptq/base/json.h"
#include "tokenizer/cut_place.h"

namespace ptq {

struct Piece {
  std::string_view text;
  bool at_start = false;  // see NormalizedText
};

// Keeps the strings that pieces point into. Addresses are stable.
class PieceStore {
 public:
  std::string_view keep(std::string text) { return strings_.emplace_back(std::move(text)); }
  void clear() { strings_.clear(); }

 private:
  std::deque<std::string> strings_;
};

enum class AtCut {
  kSplits,   // pieces end there, whatever lies on the other side
  kLeaves,   // they do not, and on each side they end where they would without the other
  kUnknown,  // none of both for sure
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  // Cuts every piece into smaller ones, in order. Rewritten text is put into `store`; empty pieces are
  // dropped.
  virtual void apply(std::vector<Piece>& pieces, PieceStore& store) const = 0;
  // Whether the step writes every byte as its character and does nothing else.
  virtual bool maps_bytes() const { return false; }
  // What the step does to a piece that has a place of that kind in it. `space` is what a space is before and
  // after it.
  virtual AtCut at_cut(CutPlace cut, std::string& space) const = 0;
};

struct PreTokenizerChain {
  std::vector<std::unique_ptr<PreTokenizer>> steps;
  // The pieces are raw bytes, each of which stands for its character of the byte alphabet: the last step was
  // ByteLevel and BPE takes over its mapping, which saves writing every text twice.
  bool yields_bytes = false;
};

// No steps for a JSON null. `where` names the component in errors. Throws Error for an unknown type or field.
PreTokenizerChain make_pre_tokenizers(const Json& json, const std::string& where);

}  // namespace ptq
