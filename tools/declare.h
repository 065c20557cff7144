// The options of each command. A declare function adds its command's options to `app`, which outlives the
// returned action, and returns what runs the command once they are parsed.
#pragma once

#include <functional>
#include <string>

#include "commands.h"

namespace CLI {
class App;
}

namespace ptq {

struct Command;

// Everything a run has: model, recipe, calibration, output.
void add_run_options(CLI::App& app, QuantizeOptions& options, CommonOptions& common);

// How a checkpoint is read.
void add_checkpoint_options(CLI::App& app, CommonOptions& common);

// Where a model computes.
void add_device_options(CLI::App& app, CommonOptions& common);

// --compute, into `compute`.
void add_compute_option(CLI::App& app, std::string& compute);

// Both, and how the tokenizer is read.
void add_model_options(CLI::App& app, CommonOptions& common);

// --ignore-tensors, which the options above have too.
void add_ignore_option(CLI::App& app, CommonOptions& common);

// How texts are read.
void add_text_options(CLI::App& app, CommonOptions& common);

// --json, --quiet, --verbose, --log-file.
void add_output_options(CLI::App& app, CommonOptions& common);

// Everything that a command has: its own options, those above, --help.
std::function<void()> declare_command(const Command& command, CLI::App& app, CommonOptions& common);

// A check for seeds: returns an error message, or "" if `text` is a number from 0 to 2^64 - 1.
std::string seed_range(const std::string& text);

std::function<void()> declare_quantize(CLI::App& app, CommonOptions& common);
std::function<void()> declare_export(CLI::App& app, CommonOptions& common);
std::function<void()> declare_plan(CLI::App& app, CommonOptions& common);
std::function<void()> declare_verify(CLI::App& app, CommonOptions& common);
std::function<void()> declare_list(CLI::App& app, CommonOptions& common);
std::function<void()> declare_inspect(CLI::App& app, CommonOptions& common);
std::function<void()> declare_tokenize(CLI::App& app, CommonOptions& common);
std::function<void()> declare_eval(CLI::App& app, CommonOptions& common);
std::function<void()> declare_generate(CLI::App& app, CommonOptions& common);
std::function<void()> declare_bench(CLI::App& app, CommonOptions& common);
std::function<void()> declare_completion(CLI::App& app, CommonOptions& common);
std::function<void()> declare_man(CLI::App& app, CommonOptions& common);

}  // namespace ptq
