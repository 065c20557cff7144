// Options that several commands have, declared once.
#include <CLI/CLI.hpp>
#include <charconv>

#include "command_table.h"
#include "declare.h"

namespace ptq {

// CLI11 lets -1 wrap around in an unsigned option, and takes 2^64 for 2^64 - 1.
std::string seed_range(const std::string& text) {
  uint64_t seed = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), seed);
  const bool valid = failed == std::errc() && end == text.data() + text.size();
  return valid ? "" : "\"" + text + "\" is not a number from 0 to 2^64 - 1";
}

void add_ignore_option(CLI::App& app, CommonOptions& common) {
  app.add_option("--ignore-tensors", common.checkpoint.ignore,
                 "leave out stored tensors that the model does not use: a name or shell pattern; repeatable")
      ->type_name("PATTERN")
      ->take_all()
      ->allow_extra_args(false);
}

void add_checkpoint_options(CLI::App& app, CommonOptions& common) {
  app.add_option("--config", common.checkpoint.config_path, "config.json to use instead of the model's")
      ->type_name("FILE");
  app.add_option("--state-key", common.checkpoint.state_key,
                 "where the weights are in a nested .pt, e.g. model.state_dict")
      ->type_name("KEY");
  add_ignore_option(app, common);
  app.add_flag_callback(
      "--no-mmap", [&common] { common.checkpoint.use_mmap = false; }, "read files instead of mapping them");
}

void add_device_options(CLI::App& app, CommonOptions& common) {
  app.add_option("--device", common.device, "cpu, cuda or cuda:N (default cpu)")->type_name("DEVICE");
  app.add_option("--threads", common.threads, "CPU threads (default: all cores)")
      ->check(CLI::Range(0, 1024))
      ->type_name("N");
}

void add_compute_option(CLI::App& app, std::string& compute) {
  app.add_option(
         "--compute", compute,
         "int8: products of weights in codes with float inputs round those to 8 bits a token first, and "
         "are of integers (default float)")
      ->check(CLI::IsMember({kComputeInFloat, kComputeInInt8}))
      ->type_name("float|int8");
}

void add_model_options(CLI::App& app, CommonOptions& common) {
  add_checkpoint_options(app, common);
  app.add_option("--tokenizer", common.tokenizer, "tokenizer.json (default: the one beside the model)")
      ->type_name("FILE");
  app.add_option("--token-dtype", common.token_dtype, "integer type of .bin token files: u16, u32, i32, i64")
      ->type_name("TYPE");
  add_device_options(app, common);
}

void add_text_options(CLI::App& app, CommonOptions& common) {
  app.add_option("--text-field", common.text_field,
                 "field of JSON texts that holds the text, or chat messages (default text)")
      ->type_name("NAME");
}

void add_output_options(CLI::App& app, CommonOptions& common) {
  app.add_flag("--json", common.json, "results as one JSON document on stdout");
  app.add_flag("--quiet", common.quiet, "warnings and errors only on stderr");
  app.add_flag("-v,--verbose", common.verbose, "more on stderr; twice for still more");
  app.add_option("--log-file", common.log_file, "also write the log here, with times")->type_name("FILE");
}

std::function<void()> declare_command(const Command& command, CLI::App& app, CommonOptions& common) {
  app.description(command.description);
  app.name(*command.name == '\0' ? "quantize" : "quantize " + std::string(command.name));
  app.allow_extras();
  app.set_help_flag("-h,--help", "print this and stop");
  std::function<void()> action = command.declare(app, common);
  add_output_options(app, common);
  return action;
}

}  // namespace ptq
