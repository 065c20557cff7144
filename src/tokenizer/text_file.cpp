#include "ptq/tokenizer/text_file.h"

#include <string_view>
#include <utility>

#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/json.h"

namespace ptq {
namespace {

std::string document_of_line(std::string_view line, const std::string& where) {
  JsonLimits limits;
  limits.max_values = 1'000'000;
  const Json object = parse_json(line, where, limits);
  JsonFields fields(object, where);
  fields.at("text");
  return fields.string("text", "");
}

}  // namespace

std::vector<std::string> read_documents(const std::string& path) {
  std::string content = read_file(path);
  if (!path.ends_with(".jsonl")) return {std::move(content)};
  std::vector<std::string> documents;
  std::string_view rest = content;
  for (size_t number = 1; !rest.empty(); ++number) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(line.size() < rest.size() ? line.size() + 1 : line.size());
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    documents.push_back(document_of_line(line, path + ": line " + std::to_string(number)));
  }
  return documents;
}

}  // namespace ptq
