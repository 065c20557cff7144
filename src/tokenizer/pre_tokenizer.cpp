#include "tokenizer/pre_tokenizer.h"

#include <utility>

#include "ptq/base/error.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/component.h"
#include "tokenizer/pattern.h"
#include "tokenizer/split.h"
#include "tokenizer/splitters.h"
#include "tokenizer/unicode.h"

namespace ptq {
namespace {

// Cuts every piece where `find` finds something. `find(text)` returns matches from left to right.
template <typename Find>
void split_pieces(std::vector<Piece>& pieces, const Find& find, SplitBehavior behavior, bool invert) {
  std::vector<Piece> cut;
  cut.reserve(pieces.size());
  for (const Piece& piece : pieces) {
    for (const Span& part : split_at(piece.text.size(), find(piece.text), behavior, invert)) {
      if (part.begin == part.end) continue;
      cut.push_back(
          {piece.text.substr(part.begin, part.end - part.begin), piece.at_start && part.begin == 0});
    }
  }
  pieces = std::move(cut);
}

class Split : public PreTokenizer {
 public:
  Split(Pattern pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  void apply(std::vector<Piece>& pieces, PieceStore&) const override {
    split_pieces(pieces, [&](std::string_view text) { return pattern_.find_all(text); }, behavior_, invert_);
  }

  // The matches of a splitter cover the text, and none of them goes on past a letter into a space, or past a
  // line feed into a letter.
  AtCut at_cut(CutPlace cut, std::string& space) const override {
    const bool keeps_matches =
        invert_ ? behavior_ == SplitBehavior::kRemoved : behavior_ == SplitBehavior::kIsolated;
    if (pattern_.has_splitter()) return keeps_matches ? AtCut::kSplits : AtCut::kUnknown;
    if (pattern_.literal_text() != space || space.empty() || invert_) return AtCut::kUnknown;
    if (behavior_ == SplitBehavior::kMergedWithPrevious) return AtCut::kUnknown;
    return cut == CutPlace::kSpace ? AtCut::kSplits : AtCut::kLeaves;
  }

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

class Digits : public PreTokenizer {
 public:
  explicit Digits(bool individual) : individual_(individual) {}

  void apply(std::vector<Piece>& pieces, PieceStore&) const override {
    const auto find = [](std::string_view text) {
      std::vector<Span> digits;
      for (size_t at = 0; at < text.size(); at += utf8_length(text[at])) {
        if (is_numeric(utf8_at(text, at))) digits.push_back({at, at + utf8_length(text[at])});
      }
      return digits;
    };
    split_pieces(pieces, find, individual_ ? SplitBehavior::kIsolated : SplitBehavior::kContiguous, false);
  }

  AtCut at_cut(CutPlace, std::string&) const override { return AtCut::kLeaves; }

 private:
  bool individual_;
};

// Cuts at every character of punctuation, one by one.
class Punctuation : public PreTokenizer {
 public:
  explicit Punctuation(SplitBehavior behavior) : behavior_(behavior) {}

  void apply(std::vector<Piece>& pieces, PieceStore&) const override {
    const auto find = [](std::string_view text) {
      std::vector<Span> marks;
      for (size_t at = 0; at < text.size(); at += utf8_length(text[at])) {
        if (is_punctuation(utf8_at(text, at))) marks.push_back({at, at + utf8_length(text[at])});
      }
      return marks;
    };
    split_pieces(pieces, find, behavior_, false);
  }

  // It neither cuts between letters and white space nor looks past them.
  AtCut at_cut(CutPlace, std::string&) const override { return AtCut::kLeaves; }

 private:
  SplitBehavior behavior_;
};

// The space that ByteLevel puts in front of text that has none.
class PrefixSpace : public PreTokenizer {
 public:
  void apply(std::vector<Piece>& pieces, PieceStore& store) const override {
    for (Piece& piece : pieces) {
      if (!piece.text.starts_with(' ')) piece.text = store.keep(' ' + std::string(piece.text));
    }
  }

  AtCut at_cut(CutPlace cut, std::string& space) const override {
    return cut == CutPlace::kSpace && space == " " ? AtCut::kLeaves : AtCut::kUnknown;
  }
};

class ToByteCharacters : public PreTokenizer {
 public:
  bool maps_bytes() const override { return true; }
  void apply(std::vector<Piece>& pieces, PieceStore& store) const override {
    for (Piece& piece : pieces) piece.text = store.keep(to_byte_characters(piece.text));
  }

  // What follows it sees letters where there were none.
  AtCut at_cut(CutPlace, std::string&) const override { return AtCut::kUnknown; }
};

class Metaspace : public PreTokenizer {
 public:
  Metaspace(std::string mark, PrependScheme scheme, bool split)
      : mark_(std::move(mark)), scheme_(scheme), split_(split) {}

  void apply(std::vector<Piece>& pieces, PieceStore& store) const override {
    for (Piece& piece : pieces) piece.text = store.keep(marked(piece));
    if (!split_) return;
    const auto find = [&](std::string_view text) { return find_marks(text); };
    split_pieces(pieces, find, SplitBehavior::kMergedWithNext, false);
  }

  // No mark is put before a part that begins with one, or in the middle of a text.
  AtCut at_cut(CutPlace cut, std::string& space) const override {
    if (cut == CutPlace::kNewline)
      return scheme_ == PrependScheme::kAlways ? AtCut::kUnknown : AtCut::kLeaves;
    if (space != " " && space != mark_) return AtCut::kUnknown;
    space = mark_;
    return split_ ? AtCut::kSplits : AtCut::kLeaves;
  }

 private:
  std::string marked(const Piece& piece) const {
    std::string text;
    text.reserve(piece.text.size() * 2);
    for (const char byte : piece.text) {
      if (byte == ' ') {
        text += mark_;
      } else {
        text.push_back(byte);
      }
    }
    const bool wanted =
        scheme_ == PrependScheme::kAlways || (scheme_ == PrependScheme::kFirst && piece.at_start);
    if (wanted && !text.starts_with(mark_)) text.insert(0, mark_);
    return text;
  }

  std::vector<Span> find_marks(std::string_view text) const {
    std::vector<Span> marks;
    for (size_t at = text.find(mark_); at != std::string_view::npos;
         at = text.find(mark_, at + mark_.size())) {
      marks.push_back({at, at + mark_.size()});
    }
    return marks;
  }

  std::string mark_;
  PrependScheme scheme_;
  bool split_;
};

// A component is one step or several.
using Steps = std::vector<std::unique_ptr<PreTokenizer>>;

SplitBehavior behavior_from(Component& json, const std::string& fallback) {
  const std::string name = json.string("behavior", fallback);
  for (const auto& [known, behavior] : kSplitBehaviors) {
    if (name == known) return behavior;
  }
  throw Error(json.path() + ".behavior", "unknown behavior \"" + name + "\"",
              "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

SplitBehavior behavior_from(Component& json) {
  json.at("behavior");
  return behavior_from(json, "");
}

Steps make_split(Component& json) {
  Steps steps;
  Pattern pattern = Pattern::from_json(json.at("pattern"), json.path() + ".pattern");
  const SplitBehavior behavior = behavior_from(json);
  steps.push_back(std::make_unique<Split>(std::move(pattern), behavior, json.boolean("invert", false)));
  return steps;
}

Steps make_digits(Component& json) {
  Steps steps;
  steps.push_back(std::make_unique<Digits>(json.boolean("individual_digits", false)));
  return steps;
}

Steps make_punctuation(Component& json) {
  Steps steps;
  steps.push_back(std::make_unique<Punctuation>(behavior_from(json, "Isolated")));
  return steps;
}

Steps make_byte_level(Component& json) {
  Steps steps;
  if (json.required_boolean("add_prefix_space")) steps.push_back(std::make_unique<PrefixSpace>());
  if (json.boolean("use_regex", true)) {
    Pattern pattern = Pattern::regex(std::string(kGpt2Expression), json.path());
    steps.push_back(std::make_unique<Split>(std::move(pattern), SplitBehavior::kIsolated, false));
  }
  json.boolean("trim_offsets", true);  // changes offsets, which are not kept
  steps.push_back(std::make_unique<ToByteCharacters>());
  return steps;
}

Steps make_metaspace(Component& json) {
  const PrependScheme scheme = read_prepend_scheme(json);
  json.string("str_rep", "");  // a copy of `replacement`
  std::string mark;
  append_utf8(mark, json.character("replacement"));
  Steps steps;
  steps.push_back(std::make_unique<Metaspace>(std::move(mark), scheme, json.boolean("split", true)));
  return steps;
}

Steps make_steps(const Json& json, const std::string& where);

Steps make_sequence(Component& json) {
  Steps steps;
  json.for_each_in("pretokenizers", [&](const Json& element, const std::string& path) {
    for (auto& step : make_steps(element, path)) steps.push_back(std::move(step));
  });
  return steps;
}

constexpr ComponentKind<Steps> kPreTokenizers[] = {
    {"Split", make_split},          {"Digits", make_digits},       {"Punctuation", make_punctuation},
    {"ByteLevel", make_byte_level}, {"Metaspace", make_metaspace}, {"Sequence", make_sequence},
};

Steps make_steps(const Json& json, const std::string& where) {
  return make_component<Steps>(json, where, "pre-tokenizer", kPreTokenizers);
}

}  // namespace

PreTokenizerChain make_pre_tokenizers(const Json& json, const std::string& where) {
  PreTokenizerChain chain{make_steps(json, where), false};
  if (!chain.steps.empty() && chain.steps.back()->maps_bytes()) {
    chain.steps.pop_back();
    chain.yields_bytes = true;
  }
  return chain;
}

}  // namespace ptq
