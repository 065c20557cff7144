#include "ptq/tokenizer/text_file.h"

#include <filesystem>
#include <string_view>
#include <utility>

#include "ptq/base/error.h"
#include "ptq/base/json.h"
#include "tokenizer/byte_reader.h"
#include "tokenizer/text_reader.h"

namespace ptq {
namespace {

constexpr size_t kMostFieldsNamed = 12;
constexpr size_t kLongestPeek = size_t{1} << 20;
constexpr const char* kReadAsLines = "was read as JSON lines, one document a line";
constexpr std::string_view kBlank = " \t\r\n";

std::string lower_case(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(kBlank) == std::string_view::npos;
}

JsonLimits document_limits() {
  JsonLimits limits;
  limits.max_values = 1'000'000;
  return limits;
}

// "the fields "content", "id"".
std::string fields_of(const Json& object) {
  std::string names;
  size_t count = 0;
  for (const auto& [name, value] : object.items()) {
    if (++count > kMostFieldsNamed) return names + ", ...";
    names += (count > 1 ? ", " : "") + Json(name).dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  return names.empty() ? "no fields" : (count == 1 ? "the field " : "the fields ") + names;
}

// The first field that may be meant, for a hint.
std::string likely_field(const Json& object) {
  for (const bool strings : {true, false}) {
    for (const auto& [name, value] : object.items()) {
      const bool messages = value.is_array() && !value.empty() && value[0].is_object();
      if (strings ? value.is_string() : messages) return "--text-field " + name;
    }
  }
  return "--text-field NAME";
}

// The contents of chat messages.
std::string join_messages(const Json& messages, const std::string& where) {
  std::string text;
  for (size_t i = 0; i < messages.size(); ++i) {
    const Json& message = messages[i];
    const bool plain = message.is_object() && message.contains("content") && message["content"].is_string();
    if (!plain) {
      throw Error(
          where + "[" + std::to_string(i) + "]",
          "is no text and no chat message with a string \"content\": " + std::string(message.type_name()) +
              (message.is_object() ? " with " + fields_of(message) : ""),
          "another --text-field");
    }
    text += (i == 0 ? "" : "\n") + message["content"].get<std::string>();
  }
  return text;
}

// The text of one object.
std::string text_of(const Json& object, const std::string& field, const std::string& where) {
  if (!object.is_object()) {
    throw Error(where, "expected an object with the field \"" + field + "\", found " + object.type_name());
  }
  const auto found = object.find(field);
  if (found == object.end()) {
    throw Error(where, "has no field \"" + field + "\"; it has " + fields_of(object), likely_field(object));
  }
  if (found->is_string()) return found->get<std::string>();
  if (found->is_array()) return join_messages(*found, where + ": " + field);
  throw Error(where, "the field \"" + field + "\" is " + found->type_name() + ", not a string",
              "another --text-field; it has " + fields_of(object));
}

enum class Form { kText, kLines, kJson };

Form form_of(const std::string& name) {
  if (has_suffix(name, ".jsonl") || has_suffix(name, ".ndjson")) return Form::kLines;
  return has_suffix(name, ".json") ? Form::kJson : Form::kText;
}

}  // namespace

struct TextFile::Source {
  explicit Source(const TextInput& text_input)
      : input(text_input),
        field(input.field.empty() ? "text" : input.field),
        reader(input.path, open_bytes(input.path, input.content)) {
    std::string name = input.path;
    if (!reader.conversions().empty() && has_suffix(name, ".gz")) name.resize(name.size() - 3);
    form = form_of(name);
    const bool has_extension = std::filesystem::path(name).has_extension();
    if (!has_extension && !reader.packed_name().empty()) form = form_of(reader.packed_name());
    if (form == Form::kLines && !name.ends_with(".jsonl")) remarks.emplace_back(kReadAsLines);
    if (form == Form::kText) look_for_json_lines();
  }

  // A pipe has no name that could say so; a file has, and is taken at its word.
  void look_for_json_lines() {
    while (buffer.find('\n') == std::string::npos && buffer.size() < kLongestPeek && reader.read(buffer))
      continue;
    const std::string_view line = std::string_view(buffer).substr(0, buffer.find('\n'));
    if (line.empty() || line.front() != '{') return;
    const Json object = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!object.is_object() || !object.contains(field) || !object[field].is_string()) return;
    if (input.content == nullptr) {
      remarks.push_back("was read as plain text, but begins with a JSON object that has a \"" + field +
                        "\": with a name that ends in .jsonl, the texts alone are read");
    } else {
      form = Form::kLines;
      remarks.emplace_back(kReadAsLines);
    }
  }

  // The next line without its end; false at the end of the text.
  bool read_line(std::string& line) {
    size_t searched = 0;
    while (true) {
      const size_t end = buffer.find('\n', begin + searched);
      if (end != std::string::npos) {
        line.assign(buffer, begin, end - begin);
        begin = end + 1;
        ++line_number;
        return true;
      }
      buffer.erase(0, begin);
      begin = 0;
      searched = buffer.size();
      if (buffer.size() > document_limits().max_bytes) {
        throw Error(line_name(line_number + 1),
                    "is longer than " + std::to_string(document_limits().max_bytes) + " bytes");
      }
      if (reader.read(buffer)) continue;
      if (buffer.empty()) return false;
      line = std::exchange(buffer, {});
      ++line_number;
      return true;
    }
  }

  bool read_filled_line(std::string& line) {
    while (read_line(line)) {
      if (!is_blank(line)) return true;
    }
    return false;
  }

  std::optional<std::string> document_of_next_line() {
    std::string line;
    if (!read_filled_line(line)) return {};
    return document_of_line(line);
  }

  std::string document_of_line(const std::string& line) const {
    const std::string where = line_name(line_number);
    return text_of(parse_json(line, where, document_limits()), field, where);
  }

  std::string line_name(size_t number) const { return input.path + ": line " + std::to_string(number); }

  // Files named .json are as often lines of objects.
  void open_json() {
    std::string first, second;
    if (!read_filled_line(first)) throw Error(input.path, "holds no JSON");
    const size_t first_number = line_number;
    const bool one_object =
        first[first.find_first_not_of(kBlank)] == '{' && first[first.find_last_not_of(kBlank)] == '}';
    if (one_object && read_filled_line(second)) {
      form = Form::kLines;
      remarks.emplace_back(kReadAsLines);
      const size_t second_number = std::exchange(line_number, first_number);
      documents.push_back(document_of_line(first));
      line_number = second_number;
      documents.push_back(document_of_line(second));
      return;
    }
    const JsonLimits limits;
    std::string whole = first + "\n" + second + "\n" + buffer.substr(begin);
    while (whole.size() <= limits.max_bytes && reader.read(whole)) continue;
    if (whole.size() > limits.max_bytes) {
      throw Error(input.path,
                  "is a JSON document of more than " + std::to_string(limits.max_bytes) + " bytes",
                  "the same texts as .jsonl, one object a line");
    }
    buffer.clear();
    begin = 0;
    read_whole(parse_json(whole, input.path, limits));
    remarks.emplace_back("was read as a JSON document of " + std::to_string(documents.size()) +
                         (documents.size() == 1 ? " text" : " texts"));
  }

  void read_whole(const Json& json) {
    if (json.is_object()) {
      const auto list = json.find(field);
      const bool column = list != json.end() && list->is_array() && !list->empty() && (*list)[0].is_string();
      if (column) return read_whole(*list);
      documents.push_back(text_of(json, field, input.path));
      return;
    }
    if (!json.is_array()) {
      throw Error(input.path, std::string("expected an array of texts, found ") + json.type_name());
    }
    for (size_t i = 0; i < json.size(); ++i) {
      const std::string where = input.path + "[" + std::to_string(i) + "]";
      documents.push_back(json[i].is_string() ? json[i].get<std::string>() : text_of(json[i], field, where));
    }
  }

  std::optional<std::string> next_document() {
    if (form == Form::kJson && !opened) open_json();
    const bool first = !std::exchange(opened, true);
    if (next < documents.size()) return std::move(documents[next++]);
    if (form == Form::kLines) return document_of_next_line();
    if (form == Form::kJson || !first) return {};
    std::string text = std::exchange(buffer, {});
    while (reader.read(text)) continue;
    return text;
  }

  TextInput input;
  std::string field;
  TextReader reader;
  Form form = Form::kText;
  std::vector<std::string> remarks;
  bool opened = false;
  std::vector<std::string> documents;  // that were read ahead
  size_t next = 0;                     // of documents
  std::string buffer;                  // read and not yet given out
  size_t begin = 0;                    // in buffer, of the next line
  size_t line_number = 0;
};

TextFile::TextFile(const TextInput& input) : source_(std::make_unique<Source>(input)) {}
TextFile::~TextFile() = default;
TextFile::TextFile(TextFile&&) noexcept = default;

std::optional<std::string> TextFile::next_document() {
  return source_->next_document();
}

std::optional<std::string> TextFile::next_line() {
  std::string line;
  if (!source_->read_filled_line(line)) return {};
  return line;
}

std::string TextFile::line_name() const {
  return source_->line_name(source_->line_number);
}

int64_t TextFile::line_number() const {
  return static_cast<int64_t>(source_->line_number);
}

bool TextFile::is_json() const {
  return source_->form != Form::kText;
}

bool TextFile::read(std::string& text) {
  if (source_->form == Form::kText) {
    if (source_->buffer.empty()) return source_->reader.read(text);
    text += std::exchange(source_->buffer, {});
    return true;
  }
  const std::optional<std::string> document = source_->next_document();
  if (!document) return false;
  if (wrote_text_) text += '\n';
  text += *document;
  wrote_text_ = wrote_text_ || !document->empty();
  return true;
}

void TextFile::check_rest() {
  source_->reader.check_rest();
}

std::vector<std::string> TextFile::remarks() const {
  std::vector<std::string> lines = source_->reader.conversions();
  lines.insert(lines.end(), source_->remarks.begin(), source_->remarks.end());
  for (std::string& line : lines) line = source_->input.path + ": " + line;
  return lines;
}

std::vector<std::string> read_documents(const TextInput& input) {
  TextFile file(input);
  std::vector<std::string> documents;
  while (std::optional<std::string> document = file.next_document())
    documents.push_back(std::move(*document));
  return documents;
}

bool has_suffix(const std::string& path, const std::string& suffix) {
  return path.size() >= suffix.size() && lower_case(path.substr(path.size() - suffix.size())) == suffix;
}

}  // namespace ptq
