// quantize man: the manual page, from the same texts as --help.
#include "command_table.h"
#include "command_text.h"
#include "commands.h"

namespace ptq {
namespace {

// A text as troff prints it: no request, no hyphen that breaks what is copied from the page.
std::string plain(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '\\') {
      result += "\\e";
    } else if (c == '-') {
      result += "\\-";
    } else {
      if (result.empty() && (c == '.' || c == '\'')) result += "\\&";
      result += c;
    }
  }
  return result;
}

std::string bold(const std::string& text) {
  return "\\fB" + plain(text) + "\\fR";
}
std::string italic(const std::string& text) {
  return "\\fI" + plain(text) + "\\fR";
}

std::string synopsis(const CommandText& command) {
  std::string line = bold("quantize");
  if (!command.name.empty()) line += " " + bold(command.name);
  line += " [" + italic("OPTIONS") + "]";
  for (const OptionText& option : command.options) {
    if (!option.positional()) continue;
    const std::string name = italic(option.value_name);
    line += option.required ? " " + name : " [" + name + "]";
  }
  return line + "\n";
}

std::string option_entry(const OptionText& option) {
  std::string head;
  if (option.positional()) {
    head = italic(option.value_name);
  } else {
    if (!option.short_name.empty()) head = bold("-" + option.short_name) + ", ";
    head += bold("--" + option.long_name);
    if (!option.value_name.empty()) head += " " + italic(option.value_name);
  }
  return ".TP\n" + head + "\n" + plain(option.description) + (option.required ? " (required)" : "") + "\n";
}

std::string command_section(const CommandText& command) {
  std::string text =
      ".SS " + std::string(command.name.empty() ? "quantize" : "quantize " + command.name) + "\n";
  text += plain(command.description) + "\n.PP\n" + synopsis(command);
  for (const OptionText& option : command.options) text += option_entry(option);
  return text;
}

std::string man_page(const std::vector<CommandText>& commands, const std::string& version) {
  std::string page = ".TH QUANTIZE 1 \"\" \"quantize " + plain(version) + "\" \"User Commands\"\n.SH NAME\n" +
                     "quantize \\- post\\-training quantization of language models\n.SH SYNOPSIS\n";
  for (size_t i = 0; i < commands.size(); ++i) page += (i == 0 ? "" : ".br\n") + synopsis(commands[i]);
  page +=
      ".SH DESCRIPTION\n"
      "Turns a float checkpoint of a language model into an INT8 or INT4 checkpoint, and says in a JSON "
      "report\n"
      "what that cost. A first argument that is not a command is a model: quantizing is the default verb.\n"
      ".PP\n"
      "Results go to standard output, as a table or with \\fB\\-\\-json\\fR as one JSON document; progress "
      "and\n"
      "logs go to standard error. An output appears whole or not at all. A run that is interrupted finishes "
      "the\n"
      "block it is at, keeps it in \\fI.NAME.partial\\fR beside the output, and goes on from there with\n"
      "\\fB\\-\\-resume\\fR.\n.SH COMMANDS\n";
  for (const CommandText& command : commands) page += command_section(command);
  page += ".SH EXIT STATUS\n";
  for (const ExitCodeText& code : exit_codes()) {
    page += ".TP\n" + bold(std::to_string(static_cast<int>(code.code))) + "\n" + plain(code.meaning) + "\n";
  }
  return page;
}

}  // namespace

void man_command() {
  print(man_page(command_texts(), program_json()["version"].get<std::string>()));
}

}  // namespace ptq
