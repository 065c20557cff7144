#include "ptq/tokenizer/name_expression.h"

#include "tokenizer/pattern.h"

namespace ptq {

NameExpression::NameExpression(const std::string& expression, const std::string& where)
    : pattern_(std::make_unique<Pattern>(Pattern::regex(expression, where, /*use_splitter=*/false))) {}

NameExpression::~NameExpression() = default;
NameExpression::NameExpression(NameExpression&&) noexcept = default;
NameExpression& NameExpression::operator=(NameExpression&&) noexcept = default;

// Matches are found from left to right, so one that begins at the first character comes first.
bool NameExpression::matches_start_of(const std::string& name) const {
  const std::vector<Span> found = pattern_->find_all(name);
  return !found.empty() && found.front().begin == 0;
}

}  // namespace ptq
