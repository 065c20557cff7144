#include "prompts.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "ptq/base/error.h"
#include "ptq/base/stream_input.h"
#include "ptq/tokenizer/text_file.h"

namespace ptq {
namespace {

std::vector<std::string> filled_lines(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") != std::string_view::npos) lines.emplace_back(line);
  }
  return lines;
}

}  // namespace

std::vector<std::string> read_prompts(const std::string& path, std::vector<std::string>& remarks) {
  TextFile file({path, "prompt", text_of_stream(path)});
  std::vector<std::string> prompts;
  while (std::optional<std::string> document = file.next_document()) prompts.push_back(std::move(*document));
  if (!file.is_json() && !prompts.empty()) prompts = filled_lines(prompts.front());
  for (std::string& remark : file.remarks()) remarks.push_back(std::move(remark));
  if (prompts.empty())
    throw Error(path, "has no prompt", "one a line, or JSON lines with a field \"prompt\"");
  return prompts;
}

}  // namespace ptq
