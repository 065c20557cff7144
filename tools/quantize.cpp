// The command line: which commands there are, their options, and what an error turns into.
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
#include <new>

#include "commands.h"
#include "ptq/base/error.h"
#include "ptq/base/interrupt.h"
#include "ptq/base/log.h"
#include "ptq/base/suggest.h"
#include "ptq/ops/ops.h"
#include "version.h"

static_assert(TORCH_VERSION_MAJOR * 100 + TORCH_VERSION_MINOR >= 213, "libtorch 2.13 or newer is needed");

namespace ptq {
namespace {

constexpr const char* kExitCodes =
    "Exit codes: 0 done, 1 the run failed and you can mend it, 2 wrong usage, 5 interrupted, 70 a bug of "
    "this program.";

struct Command {
  const char* name;  // "" is the default verb
  const char* description;
  // Declares the options on `app`, which outlives the returned action.
  std::function<void()> (*declare)(CLI::App& app, CommonOptions& common);
};

// CLI11 lets -1 wrap around in an unsigned option.
std::string seed_range(const std::string& text) {
  const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  return digits ? "" : "\"" + text + "\" is not a number from 0 to 2^64 - 1";
}

void add_model_options(CLI::App& app, CommonOptions& common) {
  app.add_option("--config", common.checkpoint.config_path, "config.json to use instead of the model's")
      ->type_name("FILE");
  app.add_option("--state-key", common.checkpoint.state_key,
                 "where the weights are in a nested .pt, e.g. model.state_dict")
      ->type_name("KEY");
  app.add_flag_callback(
      "--no-mmap", [&common] { common.checkpoint.use_mmap = false; }, "read files instead of mapping them");
  app.add_option("--tokenizer", common.tokenizer, "tokenizer.json (default: the one beside the model)")
      ->type_name("FILE");
  app.add_option("--token-dtype", common.token_dtype, "integer type of .bin token files: u16, u32, i32, i64")
      ->type_name("TYPE");
  app.add_option("--device", common.device, "cpu, cuda or cuda:N (default cpu)")->type_name("DEVICE");
  app.add_option("--threads", common.threads, "CPU threads (default: all cores)")
      ->check(CLI::Range(0, 1024))
      ->type_name("N");
}

void add_output_options(CLI::App& app, CommonOptions& common) {
  app.add_flag("--json", common.json, "results as one JSON document on stdout");
  app.add_flag("--quiet", common.quiet, "warnings and errors only on stderr");
  app.add_flag("-v,--verbose", common.verbose, "more on stderr; twice for still more");
  app.add_option("--log-file", common.log_file, "also write the log here, with times")->type_name("FILE");
}

std::function<void()> declare_quantize(CLI::App& app, CommonOptions& common) {
  auto options = std::make_shared<QuantizeOptions>();
  app.add_option("MODEL", options->model,
                 "a Hugging Face or state-spaces directory, or a .pt, .bin or .safetensors file");
  app.add_option("--method", options->recipe.method, "how to quantize: see `quantize list`")
      ->type_name("NAME");
  app.add_option("--bits", options->recipe.bits, "weights and activations, e.g. w8a8 (default: the method's)")
      ->type_name("WxAy");
  app.add_option("--recipe", options->recipe.file, "a recipe file, the long form of --method")
      ->type_name("FILE");
  app.add_option("--set", options->recipe.sets,
                 "change one field of the recipe, e.g. quamba.percentile=0.9999")
      ->type_name("PATH=VALUE")
      ->take_all()
      ->allow_extra_args(false);
  app.add_flag("--print-recipe", options->print_recipe, "print the recipe as JSON and stop");
  app.add_option("--skip", options->recipe.skip, "leave layers in float: a name or shell pattern; repeatable")
      ->type_name("PATTERN")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--embedding", options->recipe.embedding, "float (default) or int8, one scale a row")
      ->type_name("FORM");
  app.add_option("-o,--output", options->output, "directory to write (default: <model>-<method>-<bits> here)")
      ->type_name("DIR");
  app.add_flag("--force", options->force, "replace an output of this program that exists");
  app.add_option(
         "--calib", options->calibration,
         "calibration text, .jsonl, or token ids (.npy, .safetensors, .bin); repeatable, samples are split "
         "equally (default: the model writes its own)")
      ->type_name("FILE")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--samples", options->samples, "calibration rows (default: the recipe's)")
      ->check(CLI::Range(1, 1'000'000))
      ->type_name("N");
  app.add_option("--seq-len", options->seq_len, "tokens a calibration row (default: the recipe's)")
      ->check(CLI::Range(1, 1'000'000))
      ->type_name("N");
  app.add_option("--seed", options->seed, "seed of everything random (default 0)")
      ->check(seed_range)
      ->type_name("N");
  app.add_option("--eval-text", options->eval_text,
                 "text to measure perplexity on (default: calibration rows kept aside)")
      ->type_name("FILE");
  app.add_option("--max-shard-size", options->max_shard_size, "largest weight file (default 5GB)")
      ->type_name("SIZE");
  app.add_flag("--strict", options->strict, "whatever was not done as asked is an error");
  add_model_options(app, common);
  return [options, &common] { quantize_command(*options, common); };
}

std::function<void()> declare_list(CLI::App&, CommonOptions& common) {
  return [&common] { list_command(common); };
}

std::function<void()> declare_inspect(CLI::App& app, CommonOptions& common) {
  auto options = std::make_shared<InspectOptions>();
  app.add_option("PATH", options->model, "any checkpoint, float or quantized by this program")->required();
  app.add_flag_callback(
      "--no-scan", [options] { options->scan = false; }, "do not read the values to look for NaN");
  add_model_options(app, common);
  return [options, &common] { inspect_command(*options, common); };
}

std::function<void()> declare_tokenize(CLI::App& app, CommonOptions& common) {
  auto options = std::make_shared<TokenizeOptions>();
  app.add_option("PATH", options->model, "a model's directory; or give --tokenizer");
  app.add_option("--tokenizer", common.tokenizer, "tokenizer.json")->type_name("FILE");
  app.add_option("--text", options->text, "text to encode: one JSON array of ids a document")
      ->type_name("FILE");
  app.add_option("--decode", options->decode, "ids to decode: one JSON array a line")->type_name("FILE");
  app.add_flag_callback(
      "--no-special", [options] { options->add_special = false; }, "do not add the template's BOS and EOS");
  return [options, &common] { tokenize_command(*options, common); };
}

std::function<void()> declare_eval(CLI::App& app, CommonOptions& common) {
  auto options = std::make_shared<EvalOptions>();
  app.add_option("PATH", options->model, "a checkpoint, float or quantized by this program")->required();
  app.add_option("--text", options->text, "text, .jsonl or token ids to predict")
      ->required()
      ->type_name("FILE");
  app.add_option("--against", options->against, "another model: also KL divergence and agreement with it")
      ->type_name("PATH");
  app.add_option("--seq-len", options->seq_len, "tokens a window (default 2048)")
      ->check(CLI::Range(2, 1 << 20))
      ->type_name("N");
  app.add_option("--max-tokens", options->max_tokens, "use the first N tokens of the text")
      ->check(CLI::NonNegativeNumber)
      ->type_name("N");
  add_model_options(app, common);
  return [options, &common] { eval_command(*options, common); };
}

std::function<void()> declare_generate(CLI::App& app, CommonOptions& common) {
  auto options = std::make_shared<GenerateOptions>();
  app.add_option("PATH", options->model, "a checkpoint, float or quantized by this program")->required();
  app.add_option("--prompt", options->prompt, "the text to continue")->required()->type_name("TEXT");
  app.add_option("--max-tokens", options->max_tokens, "tokens to write (default 64)")
      ->check(CLI::Range(0, 1 << 20))
      ->type_name("N");
  app.add_option("--temperature", options->temperature, "0 takes the likeliest token (default)")
      ->check([](const std::string& text) {
        const double value = std::strtod(text.c_str(), nullptr);
        return value >= 0 && value <= 100 ? std::string() : "Value " + text + " not in range 0 to 100";
      })
      ->type_name("T");
  app.add_option("--seed", options->seed, "seed of the draws (default 0)")->check(seed_range)->type_name("N");
  add_model_options(app, common);
  return [options, &common] { generate_command(*options, common); };
}

const Command kCommands[] = {
    {"", "quantize a model (the default verb)", declare_quantize},
    {"list", "methods, steps, architectures and formats", declare_list},
    {"inspect", "what is in a checkpoint: tensors, bits, ties, NaN", declare_inspect},
    {"tokenize", "text to token ids, and back", declare_tokenize},
    {"eval", "perplexity on a text, alone or against another model", declare_eval},
    {"generate", "continue a prompt", declare_generate},
};

// The command's own words in front of CLI11's list of options.
std::string help(const Command& command, const CLI::App& app) {
  std::string text = app.help();
  if (*command.name == '\0') {
    text += "\nCommands (quantize COMMAND --help):\n";
    for (const Command& other : kCommands) {
      if (*other.name == '\0') continue;
      text += std::string("  ") + other.name + std::string(12 - std::string(other.name).size(), ' ') +
              other.description + "\n";
    }
  }
  return text + "\n" + kExitCodes + "\n";
}

std::vector<std::string> command_names() {
  std::vector<std::string> names;
  for (const Command& command : kCommands) {
    if (*command.name != '\0') names.emplace_back(command.name);
  }
  return names;
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

[[noreturn]] void refuse_extras(const CLI::App& app) {
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  }
  const std::string typed = app.remaining().front();
  const std::string name = typed.substr(0, typed.find('='));
  if (name.starts_with("-")) throw usage_error(name, "unknown option", suggest(name, known));
  throw usage_error(typed, "one argument too many", app.get_name() + " --help; one model a run");
}

void run_command(const Command& command, int argc, char** argv) {
  CLI::App app(command.description,
               *command.name == '\0' ? "quantize" : "quantize " + std::string(command.name));
  CommonOptions common;
  app.allow_extras();
  app.set_help_flag("-h,--help", "print this and stop");
  const std::function<void()> action = command.declare(app, common);
  add_output_options(app, common);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    print(help(command, app));
    return;
  } catch (const CLI::ConversionError& error) {
    const std::string text = error.what();  // "Could not convert: --samples = x"
    const size_t option = std::min(text.find("--"), text.size());
    const size_t equals = text.find(" = ", option);
    if (equals == std::string::npos) throw usage_error("", text, app.get_name() + " --help");
    throw usage_error(text.substr(option, equals - option),
                      "\"" + text.substr(equals + 3) + "\" is not a value of this option",
                      app.get_name() + " --help");
  } catch (const CLI::ParseError& error) {
    throw usage_error("", error.what(), app.get_name() + " --help");
  }
  if (!app.remaining().empty()) refuse_extras(app);
  LogOptions log;
  log.quiet = common.quiet;
  log.verbose = common.verbose;
  log.file = common.log_file;
  common.status_line = setup_logging(log);
  if (common.threads > 0) at::set_num_threads(common.threads);
  const at::InferenceMode inference;
  action();
}

std::string version_text() {
  const Json program = program_json();
  return "quantize " + program["version"].get<std::string>() + " (commit " +
         program["git"].get<std::string>() + ", libtorch " + program["torch"].get<std::string>() + ", " +
         program["isa"].get<std::string>() + ")\n";
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
  for (const Command& command : kCommands) {
    if (first == command.name) {
      argv[1] = argv[0];
      run_command(command, argc - 1, argv + 1);
      return;
    }
  }
  refuse_misspelled_command(first);
  run_command(kCommands[0], argc, argv);
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
  } catch (const Error& error) {
    return fail(error.what(), error.exit_code());
  } catch (const std::bad_alloc&) {
    return fail("out of memory\n  try: fewer --samples, a smaller --seq-len, or a machine with more memory",
                ExitCode::kFailed);
  } catch (const c10::OutOfMemoryError& error) {
    return fail(std::string("out of memory: ") + error.what_without_backtrace(), ExitCode::kFailed);
  } catch (const c10::Error& error) {
    return fail(std::string("a bug of this program, please report it: ") + error.what_without_backtrace(),
                ExitCode::kBug);
  } catch (const std::exception& error) {
    return fail(std::string("a bug of this program, please report it: ") + error.what(), ExitCode::kBug);
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

void print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    throw Error("stdout", "cannot write the result");
  }
}

}  // namespace ptq

int main(int argc, char** argv) {
  return ptq::guarded_main(argc, argv);
}
