// The table of commands as data: what completion and the man page are made from.
#pragma once

#include <string>
#include <vector>

namespace ptq {

struct OptionText {
  // What may stand where its value stands.
  enum class Value { kNone, kAny, kWords, kFile, kDirectory };

  std::string long_name;   // "output"; empty for an argument without a name
  std::string short_name;  // "o", or empty
  std::string value_name;  // "DIR"; an argument's own name; empty for a flag
  std::string description;
  Value value = Value::kNone;
  std::vector<std::string> words;  // for kWords
  bool required = false;
  bool repeatable = false;

  bool positional() const { return long_name.empty(); }
};

struct CommandText {
  std::string name;  // empty: the default verb
  std::string description;
  std::vector<OptionText> options;  // in the order of the help
};

// Every command, its options as its declare function declares them.
std::vector<CommandText> command_texts();

}  // namespace ptq
