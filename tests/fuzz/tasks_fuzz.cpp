// Arbitrary bytes as the rows of a task: an Error, or questions whose parts fit together.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "ptq/base/error.h"
#include "ptq/engine/tasks.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ptq::TaskForm* form = nullptr;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    while (!text.empty()) {
      const size_t end = text.find('\n');
      const ptq::Json row = ptq::parse_json(text.substr(0, end), "input", {.max_bytes = 1 << 20});
      const ptq::TaskQuestion question = ptq::read_task_row(row, "input", form);
      const size_t choices = question.continuations.size();
      if (choices == 0 || question.contexts.size() != choices || question.lengths.size() != choices)
        std::abort();
      if (question.answer < 0 || static_cast<size_t>(question.answer) >= choices) std::abort();
      if (question.example.empty() || form == nullptr) std::abort();
      text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    }
  } catch (const ptq::Error&) {
  }
  return 0;
}
