// The options of a run.
#include <CLI/CLI.hpp>

#include "declare.h"

namespace ptq {

void add_run_options(CLI::App& app, QuantizeOptions& options, CommonOptions& common) {
  app.add_option("MODEL", options.model,
                 "a Hugging Face or state-spaces directory, or a .pt, .bin, .safetensors or .gguf file");
  app.add_option("--method", options.recipe.method, "how to quantize: see `quantize list`")
      ->type_name("METHOD");
  app.add_option("--bits", options.recipe.bits, "weights and activations, e.g. w8a8 (default: the method's)")
      ->type_name("WxAy");
  app.add_option("--base", options.recipe.base,
                 "qera: the weight format, e.g. mxint4, int4-g128, nf4, gptq:int3-g64 (default mxint4)")
      ->type_name("BASE");
  app.add_option("--rank", options.recipe.rank, "qera: rank of the corrections (default: by the base's bits)")
      ->check(CLI::Range(1, 8192))
      ->type_name("N");
  app.add_option("--target-bpw", options.recipe.target_bpw,
                 "qera: bits a weight of base and corrections, ranks shared out by what they bring")
      ->check(CLI::Range(1.0, 32.0))
      ->type_name("BITS");
  app.add_option("--recipe", options.recipe.file, "a recipe file, the long form of --method")
      ->type_name("FILE");
  app.add_option("--set", options.recipe.sets,
                 "change one field of the recipe, e.g. quamba.percentile=0.9999")
      ->type_name("PATH=VALUE")
      ->take_all()
      ->allow_extra_args(false);
  app.add_flag("--print-recipe", options.print_recipe, "print the recipe as JSON and stop");
  app.add_option("--skip", options.recipe.skip, "leave layers in float: a name or shell pattern; repeatable")
      ->type_name("PATTERN")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--embedding", options.recipe.embedding, "float (default) or int8, one scale a row")
      ->type_name("FORM");
  app.add_option("-o,--output", options.output, "directory to write (default: <model>-<method>-<bits> here)")
      ->type_name("DIR");
  app.add_option("--format", options.formats,
                 "write the output in this format too, beside it, as `quantize export` does; repeatable")
      ->type_name("EXPORT")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--for", options.runtimes,
                 "a program that is to load the output in one of its formats, e.g. vllm: if it would not, "
                 "nothing is done; see `quantize list --runtimes`; repeatable")
      ->type_name("RUNTIME")
      ->take_all()
      ->allow_extra_args(false);
  app.add_flag("--force", options.force, "replace an output of this program that exists");
  app.add_option(
         "--calib", options.calibration,
         "calibration text, .jsonl, or token ids (.npy, .safetensors, .bin); repeatable, samples are split "
         "equally (default: the model writes its own, if the recipe needs one)")
      ->type_name("FILE")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--samples", options.samples, "calibration windows (default: the recipe's)")
      ->check(CLI::Range(1, 1'000'000))
      ->type_name("N");
  app.add_option("--seq-len", options.seq_len, "tokens a calibration window (default: the recipe's)")
      ->check(CLI::Range(1, 1'000'000))
      ->type_name("N");
  app.add_option("--seed", options.seed, "seed of everything random (default 0)")
      ->check(seed_range)
      ->type_name("N");
  app.add_option("--eval-text", options.eval_text,
                 "text to measure perplexity on (default: held-out calibration windows, if there are any)")
      ->type_name("FILE");
  app.add_option("--max-shard-size", options.max_shard_size, "largest weight file (default 5GB)")
      ->type_name("SIZE");
  app.add_flag("--resume", options.resume,
               "go on after the last finished block of a run that was stopped; without one, start");
  app.add_option(
         "--save-every", options.save_every,
         "time of work after which --resume finds something to go on from (default 10s; 0: after every "
         "block)")
      ->type_name("DURATION");
  app.add_option(
         "--hidden-states", options.hidden_states,
         "where those of the calibration text lie: in memory, or in a file beside the output (slower, "
         "and memory does not grow with the text; default memory)")
      ->check(CLI::IsMember({"memory", "file"}))
      ->type_name("PLACE");
  app.add_option(
         "--max-memory", options.max_memory,
         "keep the estimate of `plan` below this: the run moves its hidden states to a file if it must, "
         "and is refused if that is not enough (default: PTQ_MAX_MEMORY, or no bound)")
      ->type_name("SIZE");
  app.add_flag("--strict", options.strict, "whatever was not done as asked is an error");
  add_text_options(app, common);
  add_model_options(app, common);
}

std::function<void()> declare_quantize(CLI::App& app, CommonOptions& common) {
  auto options = std::make_shared<QuantizeOptions>();
  add_run_options(app, *options, common);
  app.add_flag(
      "--distributed", options->distributed,
      "this is one of several processes that share the run: started by torchrun or srun, or with RANK, "
      "WORLD_SIZE, MASTER_ADDR and MASTER_PORT set; the output is the same for any number");
  app.add_option(
         "--distributed-timeout", options->patience,
         "how long processes wait for one another to start, and for a sign of life from each (default "
         "30s)")
      ->type_name("DURATION");
  return [options, &common] { quantize_command(*options, common); };
}

}  // namespace ptq
