// The command line: which command a line means, and what an error turns into.
//
// A first argument that is not a command is a model: quantizing is the default verb.
#include <ATen/Parallel.h>
#include <malloc.h>
#include <spdlog/spdlog.h>
#include <torch/headeronly/version.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <utility>

#include "command_table.h"
#include "declare.h"
#include "failure.h"
#include "file_roles.h"
#include "ptq/base/error.h"
#include "ptq/base/interrupt.h"
#include "ptq/base/log.h"
#include "ptq/base/suggest.h"
#include "ptq/comm/processes.h"
#include "ptq/ops/ops.h"
#include "version.h"

static_assert(TORCH_VERSION_MAJOR * 100 + TORCH_VERSION_MINOR >= 213, "libtorch 2.13 or newer is needed");

namespace ptq {
namespace {

// The command's own words in front of CLI11's list of options.
std::string help(const Command& command, const CLI::App& app) {
  std::string text = app.help();
  if (*command.name == '\0') {
    text += "\nCommands (quantize COMMAND --help):\n";
    for (const Command& other : commands()) {
      if (*other.name == '\0') continue;
      text += std::string("  ") + other.name + std::string(12 - std::string(other.name).size(), ' ') +
              other.description + "\n";
    }
  }
  text += "\nExit codes:";
  for (const ExitCodeText& code : exit_codes()) {
    text +=
        (text.ends_with(':') ? " " : ", ") + std::to_string(static_cast<int>(code.code)) + " " + code.meaning;
  }
  return text + ".\n";
}

// A first word that is no command is a model. One that is neither, and looks like a word, is a typing error.
void refuse_misspelled_command(const std::string& word) {
  const bool path_like = word.starts_with("-") || word.find_first_of("./") != std::string::npos;
  std::error_code ignored;
  if (path_like || word.empty() || std::filesystem::exists(word, ignored)) return;
  if (word == "quantize") {
    throw usage_error(word, "quantizing is what the program does without a command",
                      "quantize --method quamba model.pt");
  }
  const std::string hint = suggest(word, command_names());
  if (hint.starts_with("did you mean")) throw usage_error(word, "neither a command nor a checkpoint", hint);
}

// "output" of "--output", "-output=x", and of either with a long dash, as texts have them; else empty.
std::string name_of_option(const std::string& word) {
  std::string_view rest = word;
  for (bool found = true; found;) {
    found = false;
    for (const std::string_view dash : {"-", "\u2013", "\u2014", "\u2212"}) {
      if (!rest.starts_with(dash)) continue;
      rest.remove_prefix(dash.size());
      found = true;
    }
  }
  return rest.size() == word.size() ? "" : std::string(rest.substr(0, rest.find('=')));
}

// CLI11 would take "-output" for "-o utput", and a long dash for the beginning of a file's name.
void refuse_wrong_dashes(const CLI::App& app, int argc, char** argv) {
  bool is_value = false;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--") return;
    if (std::exchange(is_value, false)) continue;
    const CLI::Option* const option = word.starts_with("-") ? app.get_option_no_throw(word) : nullptr;
    if (option != nullptr) {
      is_value = option->get_items_expected_max() > 0;
    } else if (const std::string name = name_of_option(word); name.size() > 1 && !word.starts_with("--")) {
      if (app.get_option_no_throw("--" + name) != nullptr)
        throw usage_error(word, "unknown option", "did you mean \"--" + name + "\"?");
    }
  }
}

std::string help_of(const CLI::App& app) {
  return app.get_name() + " --help";
}

[[noreturn]] void refuse_extras(const CLI::App& app, const std::vector<std::string>& extras) {
  std::vector<std::string> known;
  std::string arguments;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
    for (const std::string& name : option->get_snames()) known.push_back("-" + name);
    if (option->get_lnames().empty() && option->get_snames().empty()) arguments += " " + option->get_name();
  }
  const std::string& typed = extras.front();
  if (!typed.starts_with("-") || typed == "--")
    throw usage_error(typed == "--" ? extras[1] : typed, "one argument too many", help_of(app));
  const std::string name = typed.substr(0, typed.find('='));
  if ((name == "--model" || name == "--input") && !arguments.empty())
    throw usage_error(name, "unknown option", "the model without an option: " + app.get_name() + arguments);
  const std::string hint = suggest(name, known);
  throw usage_error(name, "unknown option", hint.starts_with("did you mean") ? hint : help_of(app));
}

// "--samples N: calibration windows".
std::string described(const CLI::Option& option) {
  const std::string type_name = option.get_type_name();  // "N:INT in [1 - 1000000]"
  const bool positional = option.get_lnames().empty();
  return option.get_name() + (positional ? "" : " " + type_name.substr(0, type_name.find(':'))) + ": " +
         option.get_description();
}

// What CLI11 says of an option and its value, in our words. It names the option first, or after "convert: ".
[[noreturn]] void refuse(const CLI::ParseError& error, const CLI::App& app) {
  const std::string kind = error.get_name(), text = error.what();
  const size_t begin = kind == "ConversionError" ? std::min(text.find("--"), text.size()) : 0;
  const std::string name = text.substr(begin, text.find_first_of(": ", begin) - begin);
  const CLI::Option* const option = name.empty() ? nullptr : app.get_option_no_throw(name);
  if (option == nullptr) throw usage_error("", text, help_of(app));
  const auto refused = [&](const std::string& what) { return usage_error(name, what, described(*option)); };
  if (kind == "RequiredError") throw refused("is missing");
  if (kind == "ArgumentMismatch")
    throw refused(option->count() > 1 ? "is given more than once" : "its value is missing");
  const std::string_view value_before = " not in range ";
  if (const size_t range = text.find(value_before); kind == "ValidationError" && range != std::string::npos) {
    const size_t value = text.find("Value ") + 6;
    const bool whole = option->get_type_name().find(":INT") != std::string::npos;
    std::string limits = text.substr(range + value_before.size());
    const std::string_view zeros = ".000000";  // of a range of floats
    for (size_t at = limits.find(zeros); at != std::string::npos; at = limits.find(zeros))
      limits.erase(at, zeros.size());
    throw refused("\"" + text.substr(value, range - value) + "\" is not a " + (whole ? "whole " : "") +
                  "number from " + limits);
  }
  if (kind == "ConversionError" && text.find(" = ", begin) != std::string::npos)
    throw refused("\"" + text.substr(text.find(" = ", begin) + 3) + "\" is not a value of this option");
  throw usage_error("", text, described(*option));
}

void run_command(const Command& command, int argc, char** argv) {
  CLI::App app;
  CommonOptions common;
  common.words.assign(argv, argv + argc);
  const std::function<void()> action = declare_command(command, app, common);
  refuse_wrong_dashes(app, argc, argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    print(help(command, app));
    return;
  } catch (const CLI::ParseError& error) {
    refuse(error, app);
  }
  const std::vector<std::string> extras = app.remaining();
  // CLI11 counts the `--` before arguments that begin with a dash among what it could not use.
  if (!extras.empty() && extras != std::vector<std::string>{"--"}) refuse_extras(app, extras);
  check_file_roles(app);
  LogOptions log;
  log.quiet = common.quiet;
  log.verbose = common.verbose;
  log.file = common.log_file;
  common.status_line = setup_logging(log);
  if (common.threads > 0) at::set_num_threads(common.threads);
  const at::InferenceMode inference;
  action();
}

// What the libtorch that was found has for GPUs: a CPU build has nothing.
std::string cuda_text() {
  if (!at::globalContext().hasCUDART()) return "no CUDA";
  const size_t devices = at::getNumGPUs();
  return "CUDA with " + std::to_string(devices) + (devices == 1 ? " device" : " devices");
}

std::string version_text() {
  const Json program = program_json();
  return "quantize " + program["version"].get<std::string>() + " (commit " +
         program["git"].get<std::string>() + ", libtorch " + program["torch"].get<std::string>() + ", " +
         program["isa"].get<std::string>() + ", " + cuda_text() + ")\n";
}

void dispatch(int argc, char** argv) {
  const std::string first = argc > 1 ? argv[1] : "";
  if (argc == 1) {
    throw usage_error("", "which model?",
                      "quantize --method quamba model.pt; `quantize --help` shows every option and command");
  }
  if (first == "--version") {
    print(version_text());
    return;
  }
  for (const Command& command : commands()) {
    if (first == command.name) {
      argv[1] = argv[0];
      run_command(command, argc - 1, argv + 1);
      return;
    }
  }
  refuse_misspelled_command(first);
  run_command(commands().front(), argc, argv);
}

int fail(const std::string& message, ExitCode code) {
  std::fprintf(stderr, "error: %s\n", message.c_str());
  return static_cast<int>(code);
}

int guarded_main(int argc, char** argv) {
  try {
    // A forward makes and frees the same few activations over and over. By default glibc maps those over 128
    // kB afresh each time, and a tenth of the run goes into page faults.
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
    install_interrupt_handlers();
    dispatch(argc, argv);
    return static_cast<int>(ExitCode::kDone);
  } catch (...) {
    const Error error = failure_of_exception();
    return fail(error.what(), error.exit_code());
  }
}

}  // namespace

at::Device CommonOptions::torch_device() const {
  try {
    const at::Device parsed(device);
    if (parsed.is_cpu() || (parsed.is_cuda() && at::hasCUDA())) return parsed;
    throw usage_error("--device", "\"" + device + "\" is not available with this libtorch", "--device cpu");
  } catch (const c10::Error&) {
    throw usage_error("--device", "\"" + device + "\" is not a device", "cpu, cuda, cuda:1");
  }
}

Json program_json() {
  const std::string torch = std::to_string(TORCH_VERSION_MAJOR) + "." + std::to_string(TORCH_VERSION_MINOR) +
                            "." + std::to_string(TORCH_VERSION_PATCH);
  return {{"name", "quantize"}, {"version", PTQ_VERSION}, {"git", PTQ_GIT_VERSION},
          {"torch", torch},     {"isa", ops::isa_name()}, {"threads", at::get_num_threads()}};
}

void log_warnings(const OpenModel& open) {
  if (std::string(ops::isa_name()) == "plain") {
    spdlog::warn("kernels are plain loops, {}: several times slower than with AVX2",
                 std::getenv("PTQ_ISA") == nullptr ? "as this processor has no AVX2" : "as PTQ_ISA asks");
  }
  for (const std::string& note : open.checkpoint->notes()) spdlog::info("{}", note);
  if (open.quantized) return;
  for (const std::string& warning : open.model->warnings()) spdlog::warn("{}", warning);
}

void print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    throw Error("stdout", "cannot write the result");
  }
}

}  // namespace ptq

int main(int argc, char** argv) {
  const int code = ptq::guarded_main(argc, argv);
  if (ptq::exchange_was_abandoned()) {
    std::fflush(nullptr);
    std::_Exit(code);
  }
  return code;
}
