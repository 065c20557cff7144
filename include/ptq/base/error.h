// The one exception of the program, and the exit codes that `main` turns it into.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace ptq {

// Documented in `quantize --help`; scripts depend on the numbers.
enum class ExitCode : int {
  kDone = 0,
  kFailed = 1,           // the run failed and the user can mend it
  kUsage = 2,            // wrong options
  kThresholdMissed = 3,  // `check`
  kDiffers = 4,          // `verify`
  kInterrupted = 5,
  kBug = 70,
};

// Thrown when the program cannot give what was asked. Caught once, in `main`.
//   where  what the message is about: a file, a tensor, a layer, an option
//   what   what is wrong, with both numbers where there are two
//   hint   what to try; may be empty
// what() is "where: what" and, if there is a hint, a second line "  try: hint".
class Error : public std::runtime_error {
 public:
  Error(const std::string& where, const std::string& what, const std::string& hint = "",
        ExitCode code = ExitCode::kFailed)
      : std::runtime_error((where.empty() ? "" : where + ": ") + what +
                           (hint.empty() ? "" : "\n  try: " + hint)),
        code_(code) {}

  ExitCode exit_code() const { return code_; }
  // Whether the same run may get past it another time: what stopped it is the machine, a signal or an option,
  // not the numbers. What a run keeps for --resume stays after such an error only.
  bool may_pass() const { return may_pass_ || code_ == ExitCode::kInterrupted; }

 private:
  friend Error passing_error(const std::string& where, const std::string& what, const std::string& hint);

  ExitCode code_;
  bool may_pass_ = false;
};

// An Error that may_pass(): a full disk, a file that vanished, --strict.
inline Error passing_error(const std::string& where, const std::string& what, const std::string& hint = "") {
  Error error(where, what, hint);
  error.may_pass_ = true;
  return error;
}

// An Error with exit code 2, for options, recipe fields and names that the user typed.
inline Error usage_error(const std::string& where, const std::string& what, const std::string& hint = "") {
  return Error(where, what, hint, ExitCode::kUsage);
}

}  // namespace ptq
