#include "tokenizer/vocabulary.h"

#include "ptq/base/error.h"

namespace ptq {

void Vocabulary::add(std::string token, int64_t id, const std::string& where) {
  if (id < 0 || id > kMaxTokenId) {
    throw Error(where, "token \"" + token + "\" has the id " + std::to_string(id) + "; ids go from 0 to " +
                           std::to_string(kMaxTokenId));
  }
  if (const std::string* other = this->token(id)) {
    throw Error(where,
                "tokens \"" + *other + "\" and \"" + token + "\" have the same id " + std::to_string(id));
  }
  const std::string& kept = tokens_.emplace_back(std::move(token));
  if (!id_of_.emplace(kept, id).second) throw Error(where, "the token \"" + kept + "\" occurs twice");
  if (id > max_id()) position_of_.resize(static_cast<size_t>(id) + 1, -1);
  position_of_[static_cast<size_t>(id)] = static_cast<int32_t>(tokens_.size() - 1);
}

const std::string* Vocabulary::token(int64_t id) const {
  if (id < 0 || id > max_id()) return nullptr;
  const int32_t position = position_of_[static_cast<size_t>(id)];
  return position < 0 ? nullptr : &tokens_[static_cast<size_t>(position)];
}

}  // namespace ptq
