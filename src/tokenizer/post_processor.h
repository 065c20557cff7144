// Post-processors of tokenizer.json: the special tokens around a text.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "ptq/base/json.h"

namespace ptq {

class PostProcessor {
 public:
  // `json` may be null. `is_known` tells whether an id is a token. Throws Error for an unknown type, and for
  // a template that has no place for the text or more than one.
  PostProcessor(const Json& json, const std::string& where, const std::function<bool(int64_t)>& is_known);

  // Ids that go before and after those of the text.
  const std::vector<int64_t>& before() const { return before_; }
  const std::vector<int64_t>& after() const { return after_; }

 private:
  std::vector<int64_t> before_;
  std::vector<int64_t> after_;
};

}  // namespace ptq
