// To add a command: declare it in declare.h, add its row.
#include "command_table.h"

#include "declare.h"
#include "report_commands.h"

namespace ptq {
namespace {

const Command kCommands[] = {
    {"", "quantize a model (the default verb)", declare_quantize},
    {"plan", "what a run would do and cost, from headers alone", declare_plan},
    {"verify", "read an output again, and compare it with its source", declare_verify},
    {"list", "methods, steps, architectures and formats", declare_list},
    {"inspect", "what is in a checkpoint: tensors, bits, ties, NaN", declare_inspect},
    {"tokenize", "text to token ids, and back", declare_tokenize},
    {"eval", "perplexity on a text, or answers to tasks, alone or against another model", declare_eval},
    {"generate", "continue a prompt, or many", declare_generate},
    {"bench", "prefill and decoding speed and memory of models, side by side", declare_bench},
    {"export", "an output in the form that another program loads", declare_export},
    {"diff", "two checkpoints or two reports, tensor by tensor or layer by layer", declare_diff},
    {"check", "whether a report meets thresholds, alone or against a baseline", declare_check},
    {"report", "a report for people, as text or as an HTML page", declare_report},
    {"completion", "a script that completes the command line in bash, zsh or fish", declare_completion},
    {"man", "the manual page, for man -l", declare_man},
};

const ExitCodeText kExitCodes[] = {
    {ExitCode::kDone, "done"},
    {ExitCode::kFailed, "the run failed and you can mend it"},
    {ExitCode::kUsage, "wrong usage"},
    {ExitCode::kThresholdMissed, "`check` found a threshold missed"},
    {ExitCode::kDiffers, "`verify` found a difference"},
    {ExitCode::kInterrupted, "interrupted; --resume goes on where a run had come to"},
    {ExitCode::kBug, "a bug of this program"},
};

}  // namespace

std::span<const Command> commands() {
  return kCommands;
}

std::span<const ExitCodeText> exit_codes() {
  return kExitCodes;
}

std::vector<std::string> command_names() {
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    if (*command.name != '\0') names.emplace_back(command.name);
  }
  return names;
}

}  // namespace ptq
