// The options of commands that look ahead to an output, or back at one.
#include <CLI/CLI.hpp>

#include "declare.h"
#include "ptq/export/formats.h"

namespace ptq {
namespace {

// What `text` says of each format that is exported: "peft: a LoRA adapter".
template <typename Text>
std::string of_each_format(const Text& text) {
  std::string all;
  for (const FormatEntry& format : formats()) {
    if (format.write == nullptr) continue;
    const std::string said = text(format);
    if (!said.empty()) all += (all.empty() ? "" : "; ") + std::string(format.name) + ": " + said;
  }
  return all;
}

// What formats that have the option say of it.
std::string description_of(const std::string& name) {
  return of_each_format([&](const FormatEntry& format) {
    for (const FormatOption& option : format.options) {
      if (option.name == name) return std::string(option.description);
    }
    return std::string();
  });
}

// An option that several formats have is one of the command.
void add_format_options(CLI::App& app, const std::shared_ptr<ExportOptions>& options) {
  for (const FormatEntry& format : formats()) {
    for (const FormatOption& option : format.options) {
      const std::string name = option.name;
      if (app.get_option_no_throw("--" + name) != nullptr) continue;
      app.add_option_function<std::string>(
             "--" + name, [options, name](const std::string& value) { options->given[name] = value; },
             description_of(name))
          ->type_name(option.type);
    }
  }
}

}  // namespace

std::function<void()> declare_plan(CLI::App& app, CommonOptions& common) {
  auto options = std::make_shared<QuantizeOptions>();
  add_run_options(app, *options, common);
  app.add_option("--distributed", options->processes,
                 "what each of so many processes needs that share the run")
      ->check(CLI::Range(1, 4096))
      ->type_name("N");
  return [options, &common] { plan_command(*options, common); };
}

std::function<void()> declare_export(CLI::App& app, CommonOptions& common) {
  auto options = std::make_shared<ExportOptions>();
  app.add_option("DIR", options->model, "what a run of this program wrote, or another program quantized")
      ->required();
  app.add_option("--format", options->format,
                 of_each_format([](const FormatEntry& format) { return std::string(format.description); }))
      ->required()
      ->type_name("EXPORT");
  app.add_option("-o,--output", options->output, of_each_format([](const FormatEntry& format) {
                   return std::string(format.output) + " (default: <model>" + format.suffix + " here)";
                 }))
      ->type_name("DIR");
  add_format_options(app, options);
  return [options, &common] { export_command(*options, common); };
}

std::function<void()> declare_verify(CLI::App& app, CommonOptions& common) {
  auto options = std::make_shared<VerifyOptions>();
  app.add_option("DIR", options->directory, "an output of a run, or what another program quantized")
      ->required();
  app.add_option("--source", options->source, "the float checkpoint it was made from: weights are compared")
      ->type_name("PATH");
  app.add_option("--config", common.checkpoint.config_path, "config.json to use instead of the source's")
      ->type_name("FILE");
  app.add_option("--state-key", common.checkpoint.state_key,
                 "where the source's weights are in a nested .pt, e.g. model.state_dict")
      ->type_name("KEY");
  add_ignore_option(app, common);
  app.add_option("--threads", common.threads, "CPU threads (default: all cores)")
      ->check(CLI::Range(0, 1024))
      ->type_name("N");
  return [options, &common] { verify_command(*options, common); };
}

}  // namespace ptq
