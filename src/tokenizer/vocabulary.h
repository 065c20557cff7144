// Tokens and their ids, both ways.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace ptq {

// Ids are indices into the rows of an embedding: the largest known vocabularies have 260,000.
constexpr int64_t kMaxTokenId = 9'999'999;

class Vocabulary {
 public:
  // Throws Error, naming `where`, if the token or the id is there already or the id is out of range.
  void add(std::string token, int64_t id, const std::string& where);
  void reserve(size_t count) { id_of_.reserve(count); }

  // -1 if there is no such token.
  int64_t find(std::string_view token) const {
    const auto found = id_of_.find(token);
    return found == id_of_.end() ? -1 : found->second;
  }
  // Null if there is no such id.
  const std::string* token(int64_t id) const;
  template <typename Visit>
  void for_each(const Visit& visit) const {
    for (const std::string& token : tokens_) visit(std::string_view(token));
  }
  int64_t count() const { return static_cast<int64_t>(tokens_.size()); }
  int64_t max_id() const { return static_cast<int64_t>(position_of_.size()) - 1; }

 private:
  std::deque<std::string> tokens_;  // never moved: id_of_ points into them
  std::unordered_map<std::string_view, int64_t> id_of_;
  std::vector<int32_t> position_of_;  // by id, in tokens_; -1 for a hole
};

}  // namespace ptq
