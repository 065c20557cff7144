// Regular expressions that choose names, as configurations of other programs have them.
#pragma once

#include <memory>
#include <string>

namespace ptq {

class Pattern;

class NameExpression {
 public:
  // In the syntax that Ruby and Python share. Throws Error, naming `where`, if it does not compile.
  NameExpression(const std::string& expression, const std::string& where);
  ~NameExpression();
  NameExpression(NameExpression&&) noexcept;
  NameExpression& operator=(NameExpression&&) noexcept;

  // Whether it matches from the first character on; the match may end before the name does, as Python's
  // re.match. Throws Error if the search backtracks beyond all reason. REQUIRES: valid UTF-8.
  bool matches_start_of(const std::string& name) const;

 private:
  std::unique_ptr<Pattern> pattern_;
};

}  // namespace ptq
