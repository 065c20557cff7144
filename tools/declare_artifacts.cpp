// The options of commands that look ahead to an output, or back at one.
#include <CLI/CLI.hpp>

#include "declare.h"

namespace ptq {

std::function<void()> declare_plan(CLI::App& app, CommonOptions& common) {
  auto options = std::make_shared<QuantizeOptions>();
  add_run_options(app, *options, common);
  return [options, &common] { plan_command(*options, common); };
}

std::function<void()> declare_export(CLI::App& app, CommonOptions& common) {
  auto options = std::make_shared<ExportOptions>();
  app.add_option("DIR", options->model, "what a run of this program wrote")->required();
  app.add_option("--format", options->format,
                 "peft: a LoRA adapter, and the rounded weights as its float base")
      ->required()
      ->type_name("EXPORT");
  app.add_option(
         "-o,--output", options->output,
         "directory of the adapter; the base goes beside it, as DIR-base (default: <model>-peft here)")
      ->type_name("DIR");
  app.add_option("--dtype", options->dtype, "of the base: f32 (default, exact), f16, bf16")
      ->type_name("DTYPE");
  return [options, &common] { export_command(*options, common); };
}

std::function<void()> declare_verify(CLI::App& app, CommonOptions& common) {
  auto options = std::make_shared<VerifyOptions>();
  app.add_option("DIR", options->directory, "an output of this program")->required();
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
