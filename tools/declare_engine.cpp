// The options of the commands that run a model token by token.
#include <CLI/CLI.hpp>
#include <charconv>

#include "declare.h"

namespace ptq {
namespace {

enum class From { kZero, kAboveZero };

// A check for numbers up to `last`. CLI11's own takes NaN for one in range.
auto number_up_to(double last, From from) {
  return [last, from](const std::string& text) {
    double value = 0;
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool is_number = failed == std::errc() && end == text.data() + text.size();
    if (is_number && (value > 0 || (value == 0 && from == From::kZero)) && value <= last)
      return std::string();
    const std::string first = from == From::kZero ? "0 to " : "above 0 to ";
    return "Value " + text + " not in range " + first + std::to_string(static_cast<int>(last));
  };
}

}  // namespace

std::function<void()> declare_generate(CLI::App& app, CommonOptions& common) {
  auto options = std::make_shared<GenerateOptions>();
  SamplingOptions& sampling = options->sampling;
  app.add_option("PATH", options->model, "a checkpoint, float or quantized by this program")->required();
  app.add_option("--prompt", options->prompt, "the text to continue")->type_name("TEXT");
  app.add_option(
         "--prompts", options->prompts,
         "texts to continue, one a line, or JSON lines with a field \"prompt\" (.jsonl): one JSON object "
         "a prompt on stdout, in order")
      ->type_name("FILE");
  app.add_option("--max-tokens", options->max_tokens, "tokens to write (default 64)")
      ->check(CLI::Range(0, 1 << 20))
      ->type_name("N");
  app.add_option("--temperature", sampling.temperature, "0 takes the likeliest token (default)")
      ->check(number_up_to(100, From::kZero))
      ->type_name("T");
  app.add_option("--top-k", sampling.top_k, "draw among the K likeliest tokens (default 0: all)")
      ->check(CLI::Range(0, 1 << 30))
      ->type_name("K");
  app.add_option("--top-p", sampling.top_p,
                 "draw among the likeliest tokens whose probabilities sum to P (default 1)")
      ->check(number_up_to(1, From::kAboveZero))
      ->type_name("P");
  app.add_option("--min-p", sampling.min_p,
                 "draw among tokens at least P times as likely as the likeliest (default 0)")
      ->check(number_up_to(1, From::kZero))
      ->type_name("P");
  app.add_option("--repetition-penalty", sampling.repetition_penalty,
                 "divide the logits of tokens that the text has, multiply negative ones (default 1)")
      ->check(number_up_to(100, From::kAboveZero))
      ->type_name("F");
  app.add_option("--stop", options->stop, "end before this text, which is not printed; repeatable")
      ->type_name("STRING")
      ->take_all()
      ->allow_extra_args(false);
  app.add_flag("--ignore-eos", options->ignore_eos, "write on after the model's end-of-text token");
  app.add_option("--seed", sampling.seed, "seed of the draws (default 0)")->check(seed_range)->type_name("N");
  add_compute_option(app, options->compute);
  add_model_options(app, common);
  return [options, &common] { generate_command(*options, common); };
}

std::function<void()> declare_bench(CLI::App& app, CommonOptions& common) {
  auto options = std::make_shared<BenchOptions>();
  const auto add_count = [&app](const char* name, int64_t& value, int64_t last, const char* description) {
    app.add_option(name, value, description)->check(CLI::Range(int64_t{1}, last))->type_name("N");
  };
  app.add_option("MODEL", options->models,
                 "checkpoints, float or quantized: the others are compared with the first, which the options "
                 "of a checkpoint are for")
      ->required();
  add_count("--prompt", options->prompt, 1 << 20, "tokens of each prompt, which are random (default 512)");
  add_count("--generate", options->generate, 1 << 20, "tokens to write after the first (default 128)");
  add_count("--batch", options->batch, 4096, "texts at a time (default 1)");
  add_count("--repeat", options->repeat, 10000,
            "repeats, in each of which every model has its turn (default 5)");
  app.add_option("--seed", options->seed, "seed of the prompts (default 0)")
      ->check(seed_range)
      ->type_name("N");
  add_compute_option(app, options->compute);
  add_checkpoint_options(app, common);
  add_device_options(app, common);
  return [options, &common] { bench_command(*options, common); };
}

}  // namespace ptq
