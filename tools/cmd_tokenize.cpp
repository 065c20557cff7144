// quantize tokenize: text to ids, and back.
#include <spdlog/spdlog.h>

#include <filesystem>

#include "commands.h"
#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/interrupt.h"
#include "ptq/base/stream_input.h"
#include "ptq/tokenizer/text_file.h"
#include "ptq/tokenizer/tokenizer.h"

namespace ptq {
namespace {

std::unique_ptr<Tokenizer> open_tokenizer(const TokenizeOptions& options, const CommonOptions& common) {
  if (!common.tokenizer.empty()) return Tokenizer::from_file(common.tokenizer);
  if (options.model.empty())
    throw usage_error("tokenize", "which tokenizer?", "a model's directory, or --tokenizer FILE");
  const std::filesystem::path path = options.model;
  const std::filesystem::path directory = std::filesystem::is_directory(path) ? path : path.parent_path();
  return Tokenizer::from_file((directory / "tokenizer.json").string());
}

// One JSON array of ids a line -> one text a line, as a JSON string if asked for.
std::string decode_lines(const Tokenizer& tokenizer, const std::string& path, bool json) {
  const std::shared_ptr<const std::string> piped = text_of_stream(path);
  const std::string content = piped != nullptr ? *piped : read_file(path);
  std::string out;
  for (size_t begin = 0; begin < content.size();) {
    const size_t end = std::min(content.find('\n', begin), content.size());
    const std::string line = content.substr(begin, end - begin);
    begin = end + 1;
    if (line.empty()) continue;
    const Json ids = parse_json(line, path);
    const bool valid = ids.is_array() && std::all_of(ids.begin(), ids.end(),
                                                     [](const Json& id) { return id.is_number_integer(); });
    if (!valid) throw Error(path, "expected one JSON array of ids a line");
    const std::string text = tokenizer.decode(ids.get<std::vector<int64_t>>());
    out += json ? Json(text).dump(-1, ' ', false, Json::error_handler_t::replace) : text;
    out += "\n";
  }
  return out;
}

}  // namespace

void tokenize_command(const TokenizeOptions& options, const CommonOptions& common) {
  const std::unique_ptr<Tokenizer> tokenizer = open_tokenizer(options, common);
  if (options.text.empty() == options.decode.empty())
    throw usage_error("tokenize", "give one of --text FILE and --decode FILE");
  if (!options.decode.empty()) {
    print(decode_lines(*tokenizer, options.decode, common.json));
    return;
  }
  TextFile file({options.text, common.text_field, text_of_stream(options.text)});
  while (const std::optional<std::string> document = file.next_document()) {
    throw_if_interrupted();
    print(Json(tokenizer->encode(*document, options.add_special)).dump() + "\n");
  }
  for (const std::string& remark : file.remarks()) spdlog::warn("{}", remark);
}

}  // namespace ptq
