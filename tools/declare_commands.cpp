// The options of the commands that read a model, a text or nothing.
#include <CLI/CLI.hpp>

#include "declare.h"

namespace ptq {

std::function<void()> declare_list(CLI::App& app, CommonOptions& common) {
  auto options = std::make_shared<ListOptions>();
  auto* const method =
      app.add_option("METHOD", options->method,
                     "the method whose options to explain (default: an overview of all there is)");
  app.add_flag("--runtimes", options->runtimes,
               "the programs that load exports instead: formats, architectures, schemes and shapes")
      ->excludes(method);
  return [options, &common] { list_command(*options, common); };
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
  add_text_options(app, common);
  return [options, &common] { tokenize_command(*options, common); };
}

std::function<void()> declare_eval(CLI::App& app, CommonOptions& common) {
  auto options = std::make_shared<EvalOptions>();
  app.add_option("PATH", options->model, "a checkpoint, float or quantized by this program")->required();
  app.add_option("--text", options->text, "text, .jsonl or token ids to predict")->type_name("FILE");
  app.add_option(
         "--task", options->tasks,
         "JSON lines of questions: HellaSwag, PIQA, ARC, WinoGrande, BoolQ, OpenBookQA, MMLU, LAMBADA, "
         "or {\"context\", \"choices\", \"answer\"}, told by their fields; several with commas")
      ->delimiter(',')
      ->type_name("FILE")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--against", options->against,
                 "another model: also KL divergence and agreement with it, or which answers changed")
      ->type_name("PATH");
  app.add_option("--shots", options->shots,
                 "examples before each question of --task, with their answers (default 0)")
      ->check(CLI::Range(0, 1000))
      ->type_name("N");
  app.add_option(
         "--shots-from", options->shots_from,
         "what the examples are drawn from, as a data set's train or dev rows (default: the same file, "
         "without the question asked)")
      ->type_name("FILE");
  app.add_option("--seed", options->seed, "seed of the draws (default 1234)")
      ->check(seed_range)
      ->type_name("N");
  app.add_option("--limit", options->limit, "ask the first N questions of each file (default: all)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40))
      ->type_name("N");
  app.add_option("--seq-len", options->seq_len,
                 "tokens a window (default 2048); with --task: tokens that a longer text is cut to, from its "
                 "beginning (default: what the model can see, 2048 if it has no limit)")
      ->check(CLI::Range(2, 1 << 20))
      ->type_name("N");
  app.add_option("--max-tokens", options->max_tokens, "use the first N tokens of the text")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
      ->type_name("N");
  add_compute_option(app, options->compute);
  app.add_flag("--decode", options->decode,
               "feed the text token by token, as generate does: slow, and counts what a state costs that is "
               "rounded between tokens");
  app.add_flag("--simulate", options->simulate,
               "make integer products of float32 ones: slower, and the same results to the last bit");
  add_text_options(app, common);
  add_model_options(app, common);
  return [options, &common] { eval_command(*options, common); };
}

std::function<void()> declare_completion(CLI::App& app, CommonOptions&) {
  auto options = std::make_shared<CompletionOptions>();
  app.add_option("SHELL", options->shell, "bash, zsh or fish")->required();
  return [options] { completion_command(*options); };
}

std::function<void()> declare_man(CLI::App&, CommonOptions&) {
  return [] { man_command(); };
}

}  // namespace ptq
